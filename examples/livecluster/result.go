package main

import (
	"fmt"
	"sort"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// result is what a run comes to.
type result struct {
	Nodes       int           `json:"nodes"`
	Handshakes  int           `json:"handshakes"` // exchanges that were good
	Failed      int           `json:"failed"`
	Interrupted int           `json:"interrupted"`
	Pairs       int           `json:"pairs"` // judged at the end
	Refused     int           `json:"refused_pairs"`
	From        root          `json:"from"`
	To          root          `json:"to"`
	Took        time.Duration `json:"nanoseconds"`
	Downs       []downSpan    `json:"down,omitempty"`
	Reasons     []string      `json:"reasons,omitempty"` // of failures, the most frequent first
	Excess      string        `json:"unexplained,omitempty"`
}

type root struct {
	Generation int             `json:"generation"`
	Key        fingerprint.Key `json:"key"`
}

func (r root) String() string { return fmt.Sprintf("g%d %s", r.Generation, r.Key.Short()) }

// downSpan is when a node was down, since the beginning of the run.
type downSpan struct {
	Node string        `json:"node"`
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

const maxReasons = 5

// fail counts failures and keeps the most frequent reasons.
func (r *result) fail(failed []failure) {
	r.Failed += len(failed)
	count := make(map[string]int)
	for _, f := range failed {
		count[f.Reason]++
	}
	reasons := make([]string, 0, len(count))
	for reason := range count {
		reasons = append(reasons, reason)
	}
	sort.Slice(reasons, func(i, j int) bool {
		a, b := reasons[i], reasons[j]
		return count[a] > count[b] || count[a] == count[b] && a < b
	})
	for _, reason := range reasons[:min(len(reasons), maxReasons)] {
		r.Reasons = append(r.Reasons, fmt.Sprintf("%d × %s", count[reason], reason))
	}
}

// line is the last line of a run.
func (r result) line() string {
	return fmt.Sprintf("%d nodes, %d handshakes, %d failed, root %s → %s, %.0f s", r.Nodes, r.Handshakes, r.Failed, r.From, r.To, r.Took.Seconds())
}

// interruption explains the exchanges whose other process was down.
func (r result) interruption() string {
	if r.Interrupted == 0 {
		return ""
	}
	s := fmt.Sprintf("%d interrupted: their other process was down", r.Interrupted)
	for _, d := range r.Downs {
		s += fmt.Sprintf(" (node %.8s, killed at %.1f s, back at %.1f s)", d.Node, d.From.Seconds(), d.To.Seconds())
	}
	return s
}
