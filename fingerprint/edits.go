package fingerprint

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Edits are pure: each returns a new registry of the next version and leaves the old one as it was. A member is added by
// Add, promoted and demoted by SetPrivileged, removed by Revoke; its key is replaced by ListNext and Promote. On a large
// registry an edit copies all of it: make many as one by Put.

var (
	// ErrLockout is wrapped when an edit would leave no control member that is not revoked, or none whose certificates
	// it does not narrow; and when it would leave nobody privileged where somebody was.
	ErrLockout = errors.New("would lock everybody out")
	// ErrNotListed is wrapped when an edit names a member that has no entry, or would change a tombstone.
	ErrNotListed = errors.New("no such member in the registry")
	// ErrKeyOrder is wrapped when a next key is listed before the last one was promoted, or promoted without one.
	ErrKeyOrder = errors.New("next key out of order")
	// ErrTakenBack is wrapped when a cut-off would move back, or a tombstone end earlier than was said.
	ErrTakenBack = errors.New("takes back what was refused")
	// ErrNotYet is wrapped when a cut-off lies ahead: it would refuse certificates that are not issued yet.
	ErrNotYet = errors.New("a cut-off in the future")
)

// Add lists a new member. The error wraps ErrDuplicate when it, or one of its keys, is listed already, as a tombstone
// too, and is NewRegistry's otherwise.
func (r *Registry) Add(e Entry) (*Registry, error) {
	if _, ok := r.Member(e.Member); ok {
		return nil, fmt.Errorf("fingerprint: member %q: %w", e.Member, ErrDuplicate)
	}
	return r.Put(e)
}

// Revoke turns a member's entry into a tombstone, which keeps both keys; revoking again changes the version alone. The
// error wraps ErrNotListed, or ErrLockout for the last control member.
func (r *Registry) Revoke(id Identity) (*Registry, error) {
	if e, ok := r.Member(id); ok && e.Revoked {
		return r.Put(e)
	}
	return r.edit(id, func(e *Entry) error {
		e.Revoked, e.Privileged = true, false
		return nil
	})
}

// ListNext lists a second key, which the member is going to serve. The error wraps ErrNotListed; ErrKeyOrder when
// another one is under way, or next is nobody's; ErrDuplicate when it is in use already.
func (r *Registry) ListNext(id Identity, next Key) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		if next.IsZero() {
			return fmt.Errorf("an empty key cannot be listed: %w", ErrKeyOrder)
		}
		e.Next = next
		return nil
	})
}

// Promote makes the next key the current one; the old one is no longer listed. The error wraps ErrNotListed, or
// ErrKeyOrder when there is no next key.
func (r *Registry) Promote(id Identity) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		if e.Next.IsZero() {
			return fmt.Errorf("no next key to promote, list one first: %w", ErrKeyOrder)
		}
		e.Current, e.Next = e.Next, Key{}
		return nil
	})
}

// SetPrivileged promotes a member to a privileged one, or demotes it; its certificate and keys stay as they are. The error
// wraps ErrNotListed, or ErrLockout for the last one that is privileged.
func (r *Registry) SetPrivileged(id Identity, privileged bool) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		e.Privileged = privileged
		return nil
	})
}

// SetPins narrows a member to one certificate, or to two while one follows the other; two zero ones widen it again. The
// error wraps ErrNotListed, or ErrLockout when no control member is left that is not narrowed at the same time.
func (r *Registry) SetPins(id Identity, pin, next Certificate) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		e.Pin, e.NextPin = pin, next
		return nil
	})
}

// VoidBefore refuses the member's certificates that begin before t, rounded up to a second. Certificates begin a little
// before they are issued: one that was issued just after t may be void too, and is issued again. The error wraps
// ErrNotListed; ErrNotYet when t is after now; ErrTakenBack when it is before the last cut-off; ErrLockout when no control
// member is left that is not narrowed at the same time: wait until one has a new certificate.
func (r *Registry) VoidBefore(id Identity, t, now time.Time) (*Registry, error) {
	t, err := wholeSecond(t, now)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %q: %w", id, err)
	}
	return r.edit(id, func(e *Entry) error {
		e.VoidBefore = t
		return nil
	})
}

// VoidRole is VoidBefore for all members of a role, listed or not. That of control members is refused with ErrLockout
// where one is listed: it would be for all at the same time.
func (r *Registry) VoidRole(c Cutoff, now time.Time) (*Registry, error) {
	if r == nil {
		r = &Registry{}
	}
	var err error
	if c.Before, err = wholeSecond(c.Before, now); err != nil {
		return nil, fmt.Errorf("fingerprint: role %q: %w", c.Role, err)
	}
	switch last := r.cutoff(c.Role); {
	case before(c.Before, last):
		return nil, fmt.Errorf("fingerprint: role %q was cut off at %s: %w", c.Role, time.Unix(last, 0).UTC().Format(timeForm), ErrTakenBack)
	case c.Role == Control && last != c.Before.Unix() && r.has(r.isSteering):
		return nil, fmt.Errorf("fingerprint: no control member could act, cut them off one by one: %w", ErrLockout)
	}
	b := builder{packed: packed{cutoffs: r.cutoffs}}
	if n := slices.Index(roles[:], c.Role); n >= 0 {
		b.cutoffs[n] = 0
	}
	if err := b.cut(c); err != nil {
		return nil, err
	}
	return r.mergeCut(r.version.Next(), nil, b.cutoffs)
}

// wholeSecond rounds a cut-off up, since X.509 has nothing finer.
func wholeSecond(t, now time.Time) (time.Time, error) {
	if t.After(now) {
		return t, fmt.Errorf("%s is after %s: %w", t.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), ErrNotYet)
	}
	return utc(t.Add(time.Second - 1)), nil
}

// utc is a time as it is read from a registry: whole seconds, without a zone or a clock reading.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(t.Unix(), 0).UTC()
}

// Forget drops the tombstones whose ForgetAfter has passed, so that the list does not only grow.
func (r *Registry) Forget(now time.Time) (*Registry, error) {
	if r == nil {
		return r.Put()
	}
	var gone []place
	for at, rec := range r.all() {
		if end := rec.seconds(hasForget); end != 0 && now.Unix() > end {
			_, to := r.read(at)
			gone = append(gone, place{from: at, to: to})
		}
	}
	return r.merge(r.version.Next(), gone)
}

func (r *Registry) edit(id Identity, change func(*Entry) error) (*Registry, error) {
	e, ok := r.Member(id)
	switch {
	case !ok:
		return nil, fmt.Errorf("fingerprint: %q: %w", id, ErrNotListed)
	case e.Revoked:
		return nil, fmt.Errorf("fingerprint: %q: it is revoked: %w", id, ErrNotListed)
	}
	if err := change(&e); err != nil {
		return nil, fmt.Errorf("fingerprint: %q: %w", id, err)
	}
	return r.Put(e)
}

// Put makes many edits as one, in the time of one: each entry is a new member's, or takes the place of that member's,
// which it must be able to follow as after an edit of its own. The error is that of the first edit that is refused, or
// wraps ErrDuplicate for a member that is given twice; nothing is changed then.
func (r *Registry) Put(entries ...Entry) (*Registry, error) {
	if r == nil {
		r = &Registry{}
	}
	places := make([]place, len(entries))
	narrowed := make(map[Identity]bool)
	for i, e := range entries {
		if err := e.validate(); err != nil {
			return nil, err
		}
		e.VoidBefore, e.ForgetAfter = utc(e.VoidBefore), utc(e.ForgetAfter)
		if old, ok := r.Member(e.Member); ok {
			if err := mayFollow(&old, &e); err != nil {
				return nil, fmt.Errorf("fingerprint: %q: %w", e.Member, err)
			}
			narrowed[e.Member] = narrows(&old, &e)
		}
		places[i] = r.place(e.Member, &e)
	}
	slices.SortFunc(places, func(a, b place) int { return a.member.Compare(b.member) })
	for i := 1; i < len(places); i++ {
		if e := places[i].member; e == places[i-1].member {
			return nil, fmt.Errorf("fingerprint: member %q: %w", e, ErrDuplicate)
		}
	}
	next, err := r.merge(r.version.Next(), places)
	if err != nil {
		return nil, err
	}
	if err := r.keeps(next, narrowed); err != nil {
		return nil, fmt.Errorf("fingerprint: %w: %w", err, ErrLockout)
	}
	return next, nil
}

// mayFollow says why an entry may not take the place of the one before. Tombstones are left alone: they forget no key
// and grow no new one, so that what was refused stays refused.
func mayFollow(old, e *Entry) error {
	switch {
	case old.Revoked:
		return outlives(old, e)
	case e.VoidBefore.Before(old.VoidBefore):
		return fmt.Errorf("it was cut off at %s: %w", old.VoidBefore.Format(timeForm), ErrTakenBack)
	case old.Current == e.Current && old.Next == e.Next:
		return nil
	case e.Revoked:
		return fmt.Errorf("a tombstone keeps the keys: %w", ErrKeyOrder)
	case !old.Next.IsZero() && e.Current == old.Next && e.Next.IsZero():
		return nil // promoted
	case !old.Next.IsZero():
		return fmt.Errorf("key %s is under way, promote it first: %w", old.Next.Short(), ErrKeyOrder)
	case e.Current != old.Current:
		return fmt.Errorf("key %s was not listed as the next one: %w", e.Current.Short(), ErrKeyOrder)
	}
	return nil
}

// outlives lets a tombstone stand longer, and nothing else.
func outlives(old, e *Entry) error {
	if sooner := !e.ForgetAfter.IsZero() && (old.ForgetAfter.IsZero() || e.ForgetAfter.Before(old.ForgetAfter)); sooner {
		return fmt.Errorf("its tombstone would end earlier: %w", ErrTakenBack)
	}
	same := *e
	if same.ForgetAfter = old.ForgetAfter; same != *old {
		return fmt.Errorf("it is revoked: %w", ErrNotListed)
	}
	return nil
}

// narrows reports whether certificates that were good may be refused from now on.
func narrows(old, e *Entry) bool {
	loses := func(pin Certificate) bool { return pin != e.Pin && pin != e.NextPin }
	return old.VoidBefore.Before(e.VoidBefore) ||
		!e.Pin.IsZero() && (old.Pin.IsZero() || loses(old.Pin) || !old.NextPin.IsZero() && loses(old.NextPin))
}

// keeps refuses a next registry in which nobody could do what somebody can in this one.
func (r *Registry) keeps(next *Registry, narrowed map[Identity]bool) error {
	untouched := func(rec record) bool { return next.isSteering(rec) && !narrowed[next.identity(rec)] }
	switch {
	case r.has(isLivePrivileged) && !next.has(isLivePrivileged):
		return errors.New("nobody would be privileged any more, promote another member first")
	case !r.has(r.isSteering):
		return nil
	case !next.has(next.isSteering):
		return errors.New("the last control member would be revoked, add another one first")
	case !next.has(untouched):
		return errors.New("certificates of every control member would be refused, narrow them one by one")
	}
	return nil
}

func (p *packed) has(what func(record) bool) bool {
	for _, rec := range p.all() {
		if what(rec) {
			return true
		}
	}
	return false
}

// isSteering reports whether the member can run the CA.
func (p *packed) isSteering(r record) bool {
	return r.flags&isRevoked == 0 && p.kinds[r.kind].role == Control
}

func isLivePrivileged(r record) bool { return r.flags&(isRevoked|isPrivileged) == isPrivileged }
