package member

import (
	"testing"
	"time"
)

// B44: a timer stops while the machine sleeps, and knows nothing of a clock that is set. So no wait is longer than the
// look at the wall clock, however far the renewal seems to be, and a moment that passed meanwhile is acted on at once.
func TestWallClockIsLookedAt(t *testing.T) {
	now := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	for _, test := range []struct{ until, want time.Duration }{
		{-30 * 24 * time.Hour, time.Millisecond}, // slept past it
		{-1, time.Millisecond},
		{0, time.Millisecond},
		{time.Second, time.Second},
		{clockPoll, clockPoll},
		{12 * time.Hour, clockPoll},
		{30 * 24 * time.Hour, clockPoll}, // the clock was set back
	} {
		if got := nextLook(clockPoll, now, now.Add(test.until)); got != test.want {
			t.Errorf("renewal in %s: looks again after %s, want %s", test.until, got, test.want)
		}
	}
}
