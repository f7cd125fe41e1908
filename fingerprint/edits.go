package fingerprint

import (
	"errors"
	"fmt"
	"slices"
)

// Edits are pure: each returns a new registry of the next version and leaves the old one as it was.

var (
	// ErrLockout is wrapped when an edit would leave no control member that is not revoked.
	ErrLockout = errors.New("would lock everybody out")
	// ErrNotListed is wrapped when an edit names a member that has no entry, or would change a tombstone.
	ErrNotListed = errors.New("no such member in the registry")
	// ErrKeyOrder is wrapped when a next key is listed before the last one was promoted, or promoted without one.
	ErrKeyOrder = errors.New("next key out of order")
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

// SetPrivileged marks a member as privileged, or takes the mark away; its certificate and keys stay as they are. The
// error wraps ErrNotListed.
func (r *Registry) SetPrivileged(id Identity, privileged bool) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		e.Privileged = privileged
		return nil
	})
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
	for i := range entries {
		e := &entries[i]
		if err := e.validate(); err != nil {
			return nil, err
		}
		old, ok := r.Member(e.Member)
		if ok {
			if err := mayFollow(&old, e); err != nil {
				return nil, fmt.Errorf("fingerprint: %q: %w", e.Member, err)
			}
		}
		places[i] = r.place(e.Member, e)
	}
	slices.SortFunc(places, func(a, b place) int { return a.member.Compare(b.member) })
	for i := 1; i < len(places); i++ {
		if e := places[i].member; e == places[i-1].member {
			return nil, fmt.Errorf("fingerprint: member %q: %w", e, ErrDuplicate)
		}
	}
	next, err := r.merge(r.Version().Next(), places)
	if err != nil {
		return nil, err
	}
	if err := r.keeps(next); err != nil {
		return nil, err
	}
	return next, nil
}

// mayFollow says why an entry may not take the place of the one before. Tombstones are left alone: they forget no key
// and grow no new one, so that what was refused stays refused.
func mayFollow(old, e *Entry) error {
	same := old.Current == e.Current && old.Next == e.Next
	switch {
	case *old == *e:
		return nil
	case old.Revoked:
		return fmt.Errorf("it is revoked: %w", ErrNotListed)
	case same:
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

// keeps refuses a next registry in which nobody could run the CA any more.
func (r *Registry) keeps(next *Registry) error {
	if r.steered() && !next.steered() {
		return fmt.Errorf("fingerprint: the last control member would be revoked, add another one first: %w", ErrLockout)
	}
	return nil
}

// steered reports whether a control member is listed that is not revoked: one that can still run the CA.
func (p *packed) steered() bool {
	for _, rec := range p.all() {
		if rec.flags&isRevoked == 0 && p.kinds[rec.kind].role == Control {
			return true
		}
	}
	return false
}
