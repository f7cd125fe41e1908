package rotation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// Status is the cluster as its CA knew it at one moment.
type Status struct {
	State    *verify.Bundle
	Digest   verify.Digest
	Members  []Member
	Blockers []Blocker // who keeps the rollover from its next step, and why; none when nothing waits
	Paused   *Pause    // nil: rollovers go on
}

// Status reads the trust state and every member's record, and says who blocks.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	v, _, err := c.view(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("rotation: status: %w", err)
	}
	paused, _, err := c.paused(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("rotation: status: %w", err)
	}
	return Status{State: v.State, Digest: v.Digest, Members: v.Members, Blockers: Next(v, time.Now()).Blockers, Paused: paused}, nil
}

// Duty is what a trusted root is there for.
type Duty string

// The duties. A key that was retired is no root any more: it stands in verify.Bundle.Retired.
const (
	Coming   Duty = "coming"   // trusted, and to sign when everybody has confirmed it
	Signing  Duty = "signing"  // every new leaf is of this root
	Retiring Duty = "retiring" // signs no more; trusted until nobody serves a leaf of it
)

// RootStatus is one trusted root.
type RootStatus struct {
	Generation          int
	Key                 fingerprint.Key
	Duty                Duty
	NotBefore, NotAfter time.Time
	Leaves              int // members that were issued their present leaf by it, and were not removed
}

// Roots lists the trusted roots in the order of their generations.
func (s Status) Roots() ([]RootStatus, error) {
	var list []RootStatus
	for _, r := range s.State.Roots {
		certificate, err := s.State.RootCertificate(r.Generation)
		if err != nil {
			return nil, fmt.Errorf("rotation: root g%d: %w", r.Generation, err)
		}
		root := RootStatus{r.Generation, r.Key, Retiring, certificate.NotBefore, certificate.NotAfter, 0}
		switch r.Generation {
		case s.State.Signer:
			root.Duty = Signing
		case s.State.To:
			root.Duty = Coming
		}
		for _, m := range s.Members {
			if m.Revoked == nil && m.Issuer == r.Key {
				root.Leaves++
			}
		}
		list = append(list, root)
	}
	slices.SortFunc(list, func(a, b RootStatus) int { return a.Generation - b.Generation })
	return list, nil
}

// Plan is what a rollover would do, before it is asked for.
type Plan struct {
	From, To  int // generations
	Algorithm keystore.Algorithm
	Leaves    int       // leaves that will be replaced
	Blockers  []Blocker // who would keep it waiting as things stand
}

// Plan says what Cluster.Rollover would do at the given time; nothing is changed. What Rollover refuses is refused here,
// with the same errors.
func (s Status) Plan(a keystore.Algorithm, now time.Time) (Plan, error) {
	next, err := planned(s.State, a, now)
	if err != nil {
		return Plan{}, fmt.Errorf("rotation: plan: %w", err)
	}
	p := Plan{From: s.State.Signer, To: next.Generations, Algorithm: a}
	if s.State.Phase != verify.Settled {
		p.From = s.State.To // it begins when the one that runs has settled
	}
	for _, m := range s.Members {
		if m.Revoked == nil && !m.Leaf.IsZero() {
			p.Leaves++
		}
	}
	v := View{State: s.State, Digest: s.Digest, Members: s.Members}
	p.Blockers, _ = guard(v, now)
	p.Blockers = append(p.Blockers, lacking(v, a)...)
	return p, nil
}

// planned is the state with a rollover asked for.
func planned(s *verify.Bundle, a keystore.Algorithm, now time.Time) (*verify.Bundle, error) {
	if err := forecast(s, now); err != nil {
		return nil, err
	}
	return requested(s, a)
}
