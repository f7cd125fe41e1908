package live

import (
	"errors"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// Refusals returns whom the daemon refused since the present trust state went live, once for each leaf and reason, the
// last 64: for the report. A peer that could not be named is not in it.
func (l *Live) Refusals() []verify.Refused {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.refusals)
}

// OnRefusal sets what hears of every refusal, with its reason: the peer sees one alert whatever the reason. It is
// called during handshakes and must not block. Nil: nobody.
func (l *Live) OnRefusal(hear func(*verify.Refusal)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onRefuse = hear
}

// noteRefusal keeps the newest: anybody can be refused under any name, as often as he likes, while two members that
// really differ refuse each other again and again.
func (l *Live) noteRefusal(err error, leaf fingerprint.Certificate) {
	var refusal *verify.Refusal
	if !errors.As(err, &refusal) {
		return
	}
	l.mu.Lock()
	hear := l.onRefuse
	peer, err := fingerprint.ParseIdentity(refusal.Peer)
	noted := verify.Refused{Peer: peer, Leaf: leaf, Reason: refusal.Reason}
	if err == nil && !slices.Contains(l.refusals, noted) {
		l.refusals = append(l.refusals[max(0, len(l.refusals)+1-maxRefusals):], noted)
	}
	l.mu.Unlock()
	if hear != nil {
		hear(refusal)
	}
}
