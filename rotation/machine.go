package rotation

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// View is what the machine looks at: the trust state in force, its digest, and every member's record, all read after
// the state was.
type View struct {
	State   *verify.Bundle
	Digest  verify.Digest
	Members []Member
}

// Decision is what the machine says. At most one of Commit and Make is set; Blockers only when neither is.
type Decision struct {
	Commit   *verify.Bundle // the state that may follow, not yet stamped
	Make     *verify.Intent // make this root, then commit what prepared says
	Blockers []Blocker      // who keeps the next step waiting
}

// Why a change of the rollover is refused.
var (
	ErrPending = errors.New("a further rollover is pending already")
	ErrIdle    = errors.New("no rollover is running")
	ErrDropped = errors.New("the old root was dropped: there is no way back, only a new rollover")
	ErrTurned  = errors.New("the rollover goes in that direction already")
)

// rootLabel is the label of a root's key in the CA's keystore.
func rootLabel(generation int) string { return rootLabelPrefix + strconv.Itoa(generation) }

// Next says what may be done from v: it is pure, and now only ends waivers. No step is by time.
func Next(v View, now time.Time) Decision {
	s := v.State
	switch s.Phase {
	case verify.Settled:
		return idle(v)
	case verify.Trust:
		return step(v, now, switched)
	case verify.Switch:
		return step(v, now, dropped)
	case verify.Drop:
		return step(v, now, settled)
	}
	return Decision{}
}

// idle begins a rollover that was asked for, once every counted member knows the algorithm.
func idle(v View) Decision {
	if cleared := clearDebts(v, v.State.Clone()); len(cleared.Debts) < len(v.State.Debts) {
		return Decision{Commit: cleared}
	}
	if v.State.Pending == nil {
		return Decision{}
	}
	if blockers := lacking(v, v.State.Pending.Algorithm); len(blockers) > 0 {
		return Decision{Blockers: blockers}
	}
	return Decision{Make: v.State.Pending}
}

// step commits what change makes of the state, if nobody blocks. A waiver that was needed becomes a debt; a debt that
// was settled goes.
func step(v View, now time.Time, change func(*verify.Bundle)) Decision {
	blockers, passed := guard(v, now)
	if len(blockers) > 0 {
		return Decision{Blockers: blockers}
	}
	next := clearDebts(v, v.State.Clone())
	for _, id := range passed {
		if !slices.Contains(next.Debts, id) {
			next.Debts = append(next.Debts, id)
		}
	}
	change(next)
	return Decision{Commit: next}
}

func switched(s *verify.Bundle) { s.Phase, s.Signer = verify.Switch, s.To }

// dropped ends the trust in the old root: its key is retired, whatever certificate may carry it.
func dropped(s *verify.Bundle) {
	keep := slices.IndexFunc(s.Roots, func(r verify.Root) bool { return r.Generation == s.To })
	for i, r := range s.Roots {
		if i != keep {
			s.Retired = append(s.Retired, r.Key)
		}
	}
	for i := range s.Control {
		s.Control[i].Documents = s.Control[i].Documents[keep : keep+1]
	}
	s.Roots = s.Roots[keep : keep+1]
	s.Phase = verify.Drop
}

func settled(s *verify.Bundle) {
	s.Phase, s.From, s.To, s.Waivers = verify.Settled, 0, 0, nil
}

// requested asks for a rollover. The intent comes first: the state names the label, then the key is made, so that a
// crash in between finds the key again. One request may wait behind a rollover that runs; another is ErrPending.
func requested(s *verify.Bundle, a keystore.Algorithm) (*verify.Bundle, error) {
	if _, err := keystore.ParseAlgorithm(string(a)); err != nil {
		return nil, err
	}
	if s.Pending != nil {
		return nil, fmt.Errorf("g%d (%s): %w", s.Pending.Generation, s.Pending.Algorithm, ErrPending)
	}
	next := s.Clone()
	next.Generations++
	next.Pending = &verify.Intent{Generation: next.Generations, Algorithm: a, Label: rootLabel(next.Generations)}
	return next, nil
}

// prepared begins the rollover with the root that was made for the pending intent: it is trusted from now on, and the
// old one still signs. control are the control members with their document certificates of both roots.
func prepared(s *verify.Bundle, root verify.Root, control []verify.Controller) (*verify.Bundle, error) {
	if s.Phase != verify.Settled || s.Pending == nil || s.Pending.Generation != root.Generation {
		return nil, fmt.Errorf("rotation: root g%d is not what state %v waits for", root.Generation, s.Version)
	}
	next := s.Clone()
	next.Phase = verify.Trust
	next.From, next.To = s.Signer, root.Generation
	next.Roots = append(next.Roots, root)
	next.Control = control
	next.Pending = nil
	return next, nil
}

// rolledBack turns the rollover around: the old root signs again, and the new one leaves by the ordinary steps, which
// count who still has a leaf of it. ErrDropped after the drop, ErrIdle when settled, ErrTurned when it was rolled back
// already.
func rolledBack(s *verify.Bundle) (*verify.Bundle, error) {
	if err := mayTurn(s, true); err != nil {
		return nil, err
	}
	next := s.Clone()
	next.From, next.To = s.To, s.From
	next.Signer, next.Phase = next.To, verify.Switch
	return next, nil
}

// forwarded takes a rollback back. It begins at trust again, whatever phase the rollover had reached before: the
// rollback may have begun before everybody trusted the new root. The errors are those of rolledBack.
func forwarded(s *verify.Bundle) (*verify.Bundle, error) {
	if err := mayTurn(s, false); err != nil {
		return nil, err
	}
	next := s.Clone()
	next.From, next.To = s.To, s.From
	next.Signer, next.Phase = next.From, verify.Trust
	return next, nil
}

// mayTurn says whether a rollover can change its direction: back, from the older root's successor to it, or forward.
func mayTurn(s *verify.Bundle, back bool) error {
	switch {
	case s.Phase == verify.Settled:
		return ErrIdle
	case s.Phase == verify.Drop:
		return ErrDropped
	case back != (s.From < s.To):
		return ErrTurned
	}
	return nil
}

// withWaiver lets the guards pass a member until the waiver's end; what any member trusts does not change. It takes the
// place of an earlier waiver of the member. ErrIdle when settled: no guard asks anybody then, and a waiver is never
// given in advance.
func withWaiver(s *verify.Bundle, w verify.Waiver, now time.Time) (*verify.Bundle, error) {
	switch {
	case s.Phase == verify.Settled:
		return nil, ErrIdle
	case w.Operator == "" || w.Reason == "" || len(w.Operator)+len(w.Reason) > maxReason:
		return nil, fmt.Errorf("waiver of %q: say who gives it and why, in at most %d bytes", w.Member, maxReason)
	case !now.Before(w.Until):
		return nil, fmt.Errorf("waiver of %q: it ends at %s, which is past", w.Member, w.Until.UTC().Format(time.RFC3339))
	}
	next := s.Clone()
	next.Waivers = append(exceptFor(next.Waivers, w.Member), w)
	return next, nil
}

// withoutWaiver takes a waiver back: the member blocks again. A step that it let pass stays taken, and the debt stays.
// The error wraps fs.ErrNotExist when the member has none.
func withoutWaiver(s *verify.Bundle, member fingerprint.Identity) (*verify.Bundle, error) {
	next := s.Clone()
	if next.Waivers = exceptFor(next.Waivers, member); len(next.Waivers) == len(s.Waivers) {
		return nil, fmt.Errorf("waiver of %q: %w", member, fs.ErrNotExist)
	}
	return next, nil
}

func exceptFor(waivers []verify.Waiver, member fingerprint.Identity) []verify.Waiver {
	return slices.DeleteFunc(waivers, func(w verify.Waiver) bool { return w.Member == member })
}

// clearDebts removes the debts that were settled: confirmed, with a leaf of the signer. Contact alone is not enough.
func clearDebts(v View, next *verify.Bundle) *verify.Bundle {
	next.Debts = slices.DeleteFunc(next.Debts, func(id fingerprint.Identity) bool {
		i := slices.IndexFunc(v.Members, func(m Member) bool { return m.Identity == id })
		if i < 0 || v.Members[i].Revoked != nil {
			return true
		}
		m := v.Members[i]
		return confirmed(v, m) && m.Report.Issuer == v.State.SignerKey()
	})
	if len(next.Debts) == 0 {
		next.Debts = nil
	}
	return next
}

// stamp makes next the successor of held: all commits pass through here. The number grows by one, the predecessor is
// named by its digest. A nil held makes the first state.
func stamp(next, held *verify.Bundle, now time.Time) *verify.Bundle {
	s := next.Clone()
	s.Issued = now.UTC().Truncate(time.Second)
	if held == nil {
		s.Version, s.Previous = fingerprint.Version{Term: 1, Number: 1}, verify.Digest{}
	} else {
		s.Version, s.Previous = held.Version.Next(), held.Digest()
		if s.Issued.Before(held.Issued) {
			s.Issued = held.Issued // a clock that was set back does not take time back
		}
	}
	s.FreshUntil = s.Issued.Add(stateFresh)
	return s
}
