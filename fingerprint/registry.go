package fingerprint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Rule says what a role needs besides a good chain.
type Rule string

// The rules. Control members are always listed.
const (
	Open   Rule = "open"   // not revoked is enough
	Listed Rule = "listed" // the key must stand in the registry for that very member
)

// Entry is one member's line in the registry: pins are of keys, never of certificates, so that a renewal waits for
// nobody. A revoked entry is a tombstone: the member, and its keys in anybody's hands, stay refused.
type Entry struct {
	Member     Identity `json:"member"`
	Current    Key      `json:"current"`
	Next       Key      `json:"next,omitzero"` // zero when no re-key is under way
	Privileged bool     `json:"privileged,omitzero"`
	Revoked    bool     `json:"revoked,omitzero"`
}

// Registry says which keys belong to which member, now and next, who is privileged, and who was revoked. It is
// immutable and safe for concurrent use; a nil Registry is empty.
type Registry struct {
	version  Version
	digest   [sha256.Size]byte
	entries  []Entry // sorted as their lines are
	byMember map[Identity]int32
	byKey    map[Key]int32
}

// ErrDuplicate is wrapped when a member, or one key of two members, would stand in a registry twice.
var ErrDuplicate = errors.New("listed twice")

// NewRegistry makes a registry of entries, in any order; the slice stays the caller's. The error wraps ErrDuplicate or
// ErrIdentity; refused without a sentinel are an entry without a current key, and more than two million entries.
func NewRegistry(v Version, entries []Entry) (*Registry, error) {
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("fingerprint: registry of %d entries, at most %d", len(entries), maxEntries)
	}
	r := &Registry{
		version:  v,
		entries:  slices.Clone(entries),
		byMember: make(map[Identity]int32, len(entries)),
		byKey:    make(map[Key]int32, len(entries)),
	}
	slices.SortFunc(r.entries, func(a, b Entry) int { return a.Member.Compare(b.Member) })
	for n := range r.entries {
		if err := r.index(int32(n)); err != nil {
			return nil, err
		}
	}
	text, err := r.AppendText(nil)
	if err != nil {
		return nil, err
	}
	r.digest = sha256.Sum256(text)
	return r, nil
}

func (r *Registry) index(n int32) error {
	e := &r.entries[n]
	if err := e.Member.Validate(); err != nil {
		return err
	}
	if _, ok := r.byMember[e.Member]; ok {
		return fmt.Errorf("fingerprint: member %q: %w", e.Member, ErrDuplicate)
	}
	r.byMember[e.Member] = n
	if e.Current.IsZero() {
		return fmt.Errorf("fingerprint: member %q has no current key: list the key that it serves", e.Member)
	}
	for _, k := range []Key{e.Current, e.Next} {
		if k.IsZero() {
			continue
		}
		if other, ok := r.byKey[k]; ok {
			return fmt.Errorf("fingerprint: key %s of %q and %q: %w", k.Short(), r.entries[other].Member, e.Member, ErrDuplicate)
		}
		r.byKey[k] = n
	}
	return nil
}

// Version numbers the registry; it is zero for a nil one.
func (r *Registry) Version() Version {
	if r == nil {
		return Version{}
	}
	return r.version
}

// Digest is the SHA-256 of the text form: two registries of one content have one digest, whatever their version.
func (r *Registry) Digest() [sha256.Size]byte {
	if r == nil {
		return sha256.Sum256(nil)
	}
	return r.digest
}

// Len is the number of entries.
func (r *Registry) Len() int {
	if r == nil {
		return 0
	}
	return len(r.entries)
}

// Entries yields the entries in order of member.
func (r *Registry) Entries() iter.Seq[Entry] {
	if r == nil {
		return func(func(Entry) bool) {}
	}
	return slices.Values(r.entries)
}

// Member finds a member's entry.
func (r *Registry) Member(id Identity) (Entry, bool) {
	if r == nil {
		return Entry{}, false
	}
	n, ok := r.byMember[id]
	if !ok {
		return Entry{}, false
	}
	return r.entries[n], true
}

// ByKey finds the entry that has k as its current or next key.
func (r *Registry) ByKey(k Key) (Entry, bool) {
	if r == nil {
		return Entry{}, false
	}
	n, ok := r.byKey[k]
	if !ok {
		return Entry{}, false
	}
	return r.entries[n], true
}

// Verdict is what the registry says of a member that holds a key.
type Verdict string

// The verdicts. They are codes for logs and reports and stay as they are.
const (
	Admitted  Verdict = ""
	Revoked   Verdict = "revoked"        // the member was removed
	OthersKey Verdict = "others-key"     // the key is, or was, another member's
	NotListed Verdict = "not-listed"     // the rule asks for an entry and there is none
	OtherKey  Verdict = "not-listed-key" // the rule asks for a listed key and the entry names others
)

// String is the verdict's code; "admitted" for the good one.
func (v Verdict) String() string {
	if v == Admitted {
		return "admitted"
	}
	return string(v)
}

// Check judges a member that holds key, by the rule of its role: any rule but Open is taken for Listed. Under either a
// revoked member is refused, and so is a key that stands in another member's entry, a tombstone included: who took a
// removed member's key cannot come back under another name. A member's own entry under another key is no refusal where
// the rule is Open. It allocates nothing. That the peer holds the key is for the handshake to show.
func (r *Registry) Check(member Identity, key Key, rule Rule) Verdict {
	var mine int32 = -1
	if r != nil {
		if n, ok := r.byMember[member]; ok {
			mine = n
			if r.entries[n].Revoked {
				return Revoked
			}
		}
		if n, ok := r.byKey[key]; ok && n != mine {
			return OthersKey
		}
	}
	switch {
	case rule == Open:
		return Admitted
	case mine < 0:
		return NotListed
	}
	if e := &r.entries[mine]; e.Current == key || e.Next == key && !key.IsZero() {
		return Admitted
	}
	return OtherKey
}
