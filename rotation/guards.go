package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// Code says in a stable word why a member blocks.
type Code string

// The codes.
const (
	Behind    Code = "behind"    // it has not confirmed the state in force
	Unproven  Code = "unproven"  // its verifier has not accepted the new root's canary
	OldLeaf   Code = "old-leaf"  // it serves a leaf of another root than the one that stays
	Algorithm Code = "algorithm" // it does not know the new root's algorithm
	Refusing  Code = "refusing"  // it refused a member that counts
	Unlisted  Code = "unlisted"  // it has not confirmed a registry that names the key
)

// Blocker is a member that keeps the next step waiting.
type Blocker struct {
	Member fingerprint.Identity `json:"member"`
	Code   Code                 `json:"code"`
	Reason string               `json:"reason"` // one sentence that names the member
	Remedy string               `json:"remedy"`
}

// counted says whether a member's agreement is needed: it has a record, was not removed, has no debt, and serves.
// Whether it can be reached makes no difference: its credentials come back with it.
func counted(v View, m Member) bool {
	return m.Revoked == nil && m.Report != nil && m.Report.Serving && !indebted(v.State, m.Identity)
}

func indebted(s *verify.Bundle, id fingerprint.Identity) bool { return slices.Contains(s.Debts, id) }

// confirmed says whether the member's newest report names exactly the state in force. "At least" would not do: after a
// restore two states have one number.
func confirmed(v View, m Member) bool {
	r := m.Report
	return r != nil && r.Serving && r.State == v.State.Version && r.Digest == v.Digest
}

// waived says whether a waiver lets the guards pass the member now.
func waived(s *verify.Bundle, id fingerprint.Identity, now time.Time) bool {
	return slices.ContainsFunc(s.Waivers, func(w verify.Waiver) bool { return w.Member == id && now.Before(w.Until) })
}

// guard says who blocks the step from the present phase, and whom a waiver lets it pass.
func guard(v View, now time.Time) (blockers []Blocker, passed []fingerprint.Identity) {
	judge := func(b Blocker, concerned ...fingerprint.Identity) {
		i := slices.IndexFunc(concerned, func(id fingerprint.Identity) bool { return waived(v.State, id, now) })
		if i < 0 {
			blockers = append(blockers, b)
			return
		}
		passed = append(passed, concerned[i])
	}
	for _, m := range v.Members {
		if blocker, blocks := objection(v, m); blocks {
			judge(blocker, m.Identity)
		}
		// A waiver of either side passes a refusal: a debt is not counted any more, and so the refusal is none
		// between members that count. Without that a single report could hold a rollover up for ever.
		for _, r := range refusals(v, m) {
			judge(refusing(v, m, r), m.Identity, r.Peer)
		}
	}
	return blockers, passed
}

// objection says why the step cannot be taken past m.
func objection(v View, m Member) (Blocker, bool) {
	if m.Revoked != nil || !counted(v, m) && !indebted(v.State, m.Identity) {
		return Blocker{}, false
	}
	s := v.State
	name := m.Identity.ID
	to, _ := s.Root(s.To)
	switch r := m.Report; {
	case !confirmed(v, m):
		return Blocker{m.Identity, Behind,
			fmt.Sprintf("%s has not confirmed state %v (%s): %s", name, s.Version, s.Phase, lastHeard(v, r)),
			"see that it runs and reaches a CA daemon, or remove it"}, true
	case s.Phase == verify.Trust && !slices.Contains(r.Proven, to.Key):
		return Blocker{m.Identity, Unproven,
			fmt.Sprintf("%s trusts root g%d but its verifier does not accept a leaf of it", name, s.To),
			"upgrade it to a version that verifies the new root's algorithm, or roll back"}, true
	case s.Phase == verify.Switch && r.Issuer != to.Key:
		return Blocker{m.Identity, OldLeaf,
			fmt.Sprintf("%s still serves a leaf of %s, not of root g%d", name, rootName(s, r.Issuer), s.To),
			"it renews by itself: see its log for why it does not"}, true
	}
	return Blocker{}, false
}

// lastHeard says what is known instead of the confirmation that is missing.
func lastHeard(v View, r *verify.Report) string {
	if r == nil {
		return "it was never heard of"
	}
	what := fmt.Sprintf("it reported state %v", r.State)
	switch {
	case r.State.IsZero():
		what = "it reported out of turn, as from an old disk image, and has to confirm again"
	case !r.Serving:
		what = "it is booting"
	case r.State == v.State.Version && r.Digest != v.Digest:
		what = "it reported another state of that number: the store, or it, was restored"
	}
	if r.Clock.IsZero() {
		return what
	}
	return what + ", last heard at " + r.Clock.UTC().Format(time.RFC3339)
}

func rootName(s *verify.Bundle, key fingerprint.Key) string {
	for _, r := range s.Roots {
		if r.Key == key {
			return fmt.Sprintf("root g%d", r.Generation)
		}
	}
	return "a root that is not trusted"
}

// refusals are those between m and another member that counts, since the state in force went live: trust differs
// somewhere, whatever was confirmed. Only the leaf that the other serves counts: a stranger can present a leaf with any
// name in it, and on a resumed session an old one is presented.
func refusals(v View, m Member) (between []verify.Refused) {
	if !counted(v, m) || !confirmed(v, m) {
		return nil
	}
	for _, r := range m.Report.Refusals {
		i := slices.IndexFunc(v.Members, func(x Member) bool { return x.Identity == r.Peer })
		if r.Reason.Trust() && i >= 0 && counted(v, v.Members[i]) && r.Leaf == v.Members[i].Report.Leaf {
			between = append(between, r)
		}
	}
	return between
}

func refusing(v View, m Member, r verify.Refused) Blocker {
	return Blocker{m.Identity, Refusing,
		fmt.Sprintf("%s refused %s, or was refused, since state %v: %s", m.Identity.ID, r.Peer.ID, v.State.Version, r.Reason),
		"compare the two members' trust states; roll back if it cannot be explained"}
}

// lacking finds the members whose last report does not know an algorithm.
func lacking(v View, a keystore.Algorithm) []Blocker {
	var blockers []Blocker
	for _, m := range v.Members {
		if counted(v, m) && !slices.Contains(m.Report.Algorithms, a) {
			blockers = append(blockers, Blocker{m.Identity, Algorithm,
				fmt.Sprintf("%s does not know algorithm %s", m.Identity.ID, a), "upgrade it, or remove it if it is gone"})
		}
	}
	return blockers
}

// serveNext says who must still learn of a member's newer key before the member may serve it. For a role that is open
// nobody needs to; for a listed one, every counted member has reported a registry that names it, and for a control
// member a trust state that does. A later one names it too.
func serveNext(v View, m Member) []Blocker {
	rule := v.State.RuleFor(m.Identity.Role)
	if rule == fingerprint.Open {
		return nil
	}
	var blockers []Blocker
	for _, x := range v.Members {
		if x.Identity == m.Identity || !counted(v, x) {
			continue
		}
		reported := x.Report.Registry
		if m.Identity.Role == fingerprint.Control {
			reported = x.Report.State
		}
		if m.Listed.IsZero() || reported.Less(m.Listed) {
			blockers = append(blockers, Blocker{x.Identity, Unlisted,
				fmt.Sprintf("%s does not know the newer key of %s yet", x.Identity.ID, m.Identity.ID),
				"see that it runs and reaches a CA daemon"})
		}
	}
	return blockers
}
