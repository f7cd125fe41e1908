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
	return NewRegistry(r.Version().Next(), append(slices.Collect(r.Entries()), e))
}

// Revoke turns a member's entry into a tombstone, which keeps both keys; revoking again changes the version alone. The
// error wraps ErrNotListed, or ErrLockout for the last control member.
func (r *Registry) Revoke(id Identity) (*Registry, error) {
	return r.replace(id, func(e *Entry) error {
		e.Revoked, e.Privileged = true, false
		return nil
	})
}

// ListNext lists a second key, which the member is going to serve. The error wraps ErrNotListed; ErrKeyOrder when
// another one is under way, or next is nobody's; ErrDuplicate when it is in use already.
func (r *Registry) ListNext(id Identity, next Key) (*Registry, error) {
	return r.edit(id, func(e *Entry) error {
		switch {
		case next.IsZero():
			return fmt.Errorf("an empty key cannot be listed: %w", ErrKeyOrder)
		case !e.Next.IsZero() && e.Next != next:
			return fmt.Errorf("key %s is under way, promote it first: %w", e.Next.Short(), ErrKeyOrder)
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

// edit leaves tombstones alone: they forget no key and grow no new one, so that what was refused stays refused.
func (r *Registry) edit(id Identity, change func(*Entry) error) (*Registry, error) {
	return r.replace(id, func(e *Entry) error {
		if e.Revoked {
			return fmt.Errorf("it is revoked: %w", ErrNotListed)
		}
		return change(e)
	})
}

func (r *Registry) replace(id Identity, change func(*Entry) error) (*Registry, error) {
	entries := slices.Collect(r.Entries())
	n := slices.IndexFunc(entries, func(e Entry) bool { return e.Member == id })
	if n < 0 {
		return nil, fmt.Errorf("fingerprint: %q: %w", id, ErrNotListed)
	}
	had := slices.ContainsFunc(entries, steers)
	if err := change(&entries[n]); err != nil {
		return nil, fmt.Errorf("fingerprint: %q: %w", id, err)
	}
	if had && !slices.ContainsFunc(entries, steers) {
		return nil, fmt.Errorf("fingerprint: revoking %q, the last control member (add another one first): %w", id, ErrLockout)
	}
	return NewRegistry(r.Version().Next(), entries)
}

// steers reports whether e's member can still run the CA.
func steers(e Entry) bool { return e.Member.Role == Control && !e.Revoked }
