package main

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"
)

// ledger counts every exchange once. What a client saw fail and what its server saw fail are one exchange when they have
// the client's address in common; the server's reason is kept, since it is the one that looked.
type ledger struct {
	mu       sync.Mutex // guards what follows
	good     int
	failures []failure
	downs    []down
	dialers  int // goroutines that dial one node
}

// down is a time in which this program had a process down: from the kill until it served again.
type down struct {
	node     string
	from, to time.Time // to is zero while it is down
}

// same is how close in time two halves of one exchange are: a port may be used again later.
const same = exchangeTimeout + time.Second

func (l *ledger) hear(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good += e.Good
	if e.Failure != nil {
		l.failures = append(l.failures, *e.Failure)
	}
}

func (l *ledger) wentDown(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.downs = append(l.downs, down{node: node, from: time.Now()})
}

func (l *ledger) cameBack(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.downs {
		if l.downs[i].node == node && l.downs[i].to.IsZero() {
			l.downs[i].to = time.Now()
		}
	}
}

// counts is what a run comes to.
type counts struct {
	good        int
	failed      []failure
	interrupted []failure
	excess      string // why the kills do not explain the number of interrupted exchanges; "" when they do
}

// close counts: it is called when everybody has stopped.
func (l *ledger) close() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := counts{good: l.good}
	for _, f := range merge(l.failures) {
		if l.explained(f) {
			c.interrupted = append(c.interrupted, f)
		} else {
			c.failed = append(c.failed, f)
		}
	}
	c.excess = l.excess(len(c.interrupted))
	return c
}

// merge makes one failure of the two halves of an exchange.
func merge(all []failure) []failure {
	sort.SliceStable(all, func(i, j int) bool { return all[i].Start.Before(all[j].Start) })
	var merged []failure
	servers := make(map[string][]failure)
	for _, f := range all {
		if f.Side == "server" {
			servers[f.Client] = append(servers[f.Client], f)
		}
	}
	for _, f := range all {
		if f.Side != "client" {
			continue
		}
		if i := slices.IndexFunc(servers[f.Client], func(s failure) bool {
			return s.By == f.Peer && s.Start.Sub(f.Start).Abs() < same
		}); i >= 0 {
			half := servers[f.Client][i]
			servers[f.Client] = slices.Delete(servers[f.Client], i, i+1)
			f.Reason = fmt.Sprintf("%s (the server saw: %s)", f.Reason, half.Reason)
			if half.Start.Before(f.Start) {
				f.Start = half.Start
			}
			if half.End.After(f.End) {
				f.End = half.End
			}
		}
		merged = append(merged, f)
	}
	for _, left := range servers {
		merged = append(merged, left...)
	}
	return merged
}

// explained says whether one of the two processes was down during any part of the exchange. A server that lost its
// client before the handshake does not know who that was.
func (l *ledger) explained(f failure) bool {
	return slices.ContainsFunc(l.downs, func(d down) bool {
		involved := d.node == f.By || d.node == f.Peer || f.Peer == ""
		return involved && !f.End.Before(d.from) && (d.to.IsZero() || !f.Start.After(d.to))
	})
}

// excess holds the number of interrupted exchanges against what the kills can have caused: each dialer of the dead node
// tries again after a pause, and each exchange under way at the kill is lost, on both sides.
func (l *ledger) excess(interrupted int) string {
	most := 0
	for _, d := range l.downs {
		to := d.to
		if to.IsZero() {
			to = time.Now()
		}
		tries := int(to.Sub(d.from)/afterFailure) + 2
		most += l.dialers*tries + 2*l.dialers
	}
	if interrupted > most {
		return fmt.Sprintf("%d exchanges were interrupted, the kills of this program explain at most %d", interrupted, most)
	}
	return ""
}
