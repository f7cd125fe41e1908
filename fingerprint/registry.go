package fingerprint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"time"
)

// Rule says what a role needs besides a good chain.
type Rule string

// The rules. Control members are always listed.
const (
	Open   Rule = "open"   // not revoked is enough
	Listed Rule = "listed" // the key must stand in the registry for that very member
)

// Entry is one member's line in the registry: pins are of keys, so that a renewal waits for nobody. A revoked entry is a
// tombstone: the member, and its keys in anybody's hands, stay refused. Times are whole seconds, as X.509 has them.
type Entry struct {
	Member     Identity `json:"member"`
	Current    Key      `json:"current"`
	Next       Key      `json:"next,omitzero"` // zero when no re-key is under way
	Privileged bool     `json:"privileged,omitzero"`
	Revoked    bool     `json:"revoked,omitzero"`

	// VoidBefore refuses the member's certificates that begin before it; zero refuses none. Certificates begin a little
	// before they are issued.
	VoidBefore time.Time `json:"void_before,omitzero"`
	// ForgetAfter is when a tombstone is needed no more, since the last certificate that it refuses has ended and nobody
	// may recover by it: see [Registry.Forget]. Zero keeps it for ever.
	ForgetAfter time.Time `json:"forget_after,omitzero"`
	// Pin refuses every certificate of the member but this one and NextPin; zero refuses none. It only narrows: what is
	// pinned is judged in every other way too. A pinned member must be pinned anew before each renewal.
	Pin     Certificate `json:"pin,omitzero"`
	NextPin Certificate `json:"next_pin,omitzero"`
}

// Cutoff refuses the certificates of all members of a role that begin before it, listed or not.
type Cutoff struct {
	Role   Role      `json:"role"`
	Before time.Time `json:"before"`
}

// Registry says which keys belong to which member, now and next, who is privileged, and who was revoked. It is
// immutable and safe for concurrent use; a nil Registry is empty. A million members take about 60 MB.
type Registry struct {
	version Version
	digest  [sha256.Size]byte
	packed
	kindOf   map[kind]uint32
	byMember index
	byKey    index
}

// ErrDuplicate is wrapped when a member, or one key of two members, would stand in a registry twice.
var ErrDuplicate = errors.New("listed twice")

// NewRegistry makes a registry of entries, in any order, and of the cut-offs of roles, at most one each; the slice stays
// the caller's. The error wraps ErrDuplicate or ErrIdentity; refused without a sentinel are an entry without a current key,
// a time or a pin that makes no sense, and more than two million entries.
func NewRegistry(v Version, entries []Entry, cutoffs ...Cutoff) (*Registry, error) {
	if err := countable(len(entries)); err != nil {
		return nil, err
	}
	order := make([]int32, len(entries))
	for n := range entries {
		order[n] = int32(n)
	}
	slices.SortFunc(order, func(a, b int32) int { return entries[a].Member.Compare(entries[b].Member) })
	b := newBuilder(len(entries))
	for _, c := range cutoffs {
		if err := b.cut(c); err != nil {
			return nil, err
		}
	}
	for i, n := range order {
		e := &entries[n]
		if err := e.validate(); err != nil {
			return nil, err
		}
		if i > 0 && entries[order[i-1]].Member == e.Member {
			return nil, fmt.Errorf("fingerprint: member %q: %w", e.Member, ErrDuplicate)
		}
		b.add(e)
	}
	return b.registry(v, b.digestText())
}

func countable(n int) error {
	if n > maxEntries {
		return fmt.Errorf("fingerprint: registry of %d entries, at most %d", n, maxEntries)
	}
	return nil
}

func (e *Entry) validate() error {
	if err := e.Member.Validate(); err != nil {
		return err
	}
	bad := ""
	switch {
	case e.Current.IsZero():
		bad = "no current key: list the key that it serves"
	case e.Current == e.Next:
		return fmt.Errorf("fingerprint: key %s of %q, as current and next: %w", e.Next.Short(), e.Member, ErrDuplicate)
	case !e.VoidBefore.IsZero() && !writable(e.VoidBefore):
		bad = "a cut-off that is not a whole second between 1970 and 9999"
	case !e.ForgetAfter.IsZero() && !writable(e.ForgetAfter):
		bad = "an end of its tombstone that is not a whole second between 1970 and 9999"
	case !e.ForgetAfter.IsZero() && !e.Revoked:
		bad = "an end of its tombstone, and is not revoked"
	case !e.NextPin.IsZero() && e.Pin.IsZero():
		bad = "a next pin without a pin"
	case !e.Pin.IsZero() && e.Pin == e.NextPin:
		bad = "one pin twice"
	default:
		return nil
	}
	return fmt.Errorf("fingerprint: member %q has %s", e.Member, bad)
}

// writable reports whether the text form of a time gives it back.
func writable(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() > 0 && t.UTC().Year() <= 9999
}

// registry indexes what was packed, whose text has the digest. Two cores halve the time that a million entries take.
func (b *builder) registry(v Version, digest [sha256.Size]byte) (*Registry, error) {
	r := &Registry{version: v, digest: digest, packed: b.done(), kindOf: b.kindOf}
	var members sync.WaitGroup
	members.Go(func() {
		r.byMember, _ = newIndex(r.count, r.memberHashes, func(int, int) error { return nil }) // sorted: none stands there twice
	})
	var err error
	r.byKey, err = newIndex(r.count, r.keyHashes, r.clash)
	members.Wait()
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (p *packed) memberHashes(yield func(uint64, int) bool) {
	for at, rec := range p.all() {
		if !yield(rec.hash(), at) {
			return
		}
	}
}

func (p *packed) keyHashes(yield func(uint64, int) bool) {
	for at, rec := range p.all() {
		if !yield(maphash.Bytes(seed, rec.current()), at) {
			return
		}
		if next := rec.field(hasNext); next != nil && !yield(maphash.Bytes(seed, next), at) {
			return
		}
	}
}

// clash refuses one key in two records.
func (p *packed) clash(at, other int) error {
	rec, _ := p.read(at)
	owner, _ := p.read(other)
	for _, k := range [][]byte{rec.current(), rec.field(hasNext)} {
		if at != other && k != nil && owner.has(k) {
			return fmt.Errorf("fingerprint: key %s of %q and %q: %w", Key(k).Short(), p.identity(owner), p.identity(rec), ErrDuplicate)
		}
	}
	return nil
}

// find is the record of a member, and where it begins; -1 when there is none.
func (r *Registry) find(id Identity) (record, int) {
	if s, ok := r.sought(id); ok {
		p := r.byMember.probe(s.hash())
		return r.findFrom(&s, &p, p.next())
	}
	return record{}, -1
}

func (r *Registry) findFrom(s *sought, p *probe, at int) (record, int) {
	for ; at >= 0; at = p.next() {
		if rec, _ := r.read(at); s.is(rec) {
			return rec, at
		}
	}
	return record{}, -1
}

// findKey is the record that has k as one of its keys, and where it begins; -1 when there is none.
func (r *Registry) findKey(k Key) (record, int) {
	p := r.byKey.probe(maphash.Bytes(seed, k[:]))
	return r.findKeyFrom(k[:], &p, p.next())
}

func (r *Registry) findKeyFrom(k []byte, p *probe, at int) (record, int) {
	for ; at >= 0; at = p.next() {
		if rec, _ := r.read(at); rec.has(k) {
			return rec, at
		}
	}
	return record{}, -1
}

// Cutoffs are those of roles, in order of role.
func (r *Registry) Cutoffs() (list []Cutoff) {
	if r == nil {
		return nil
	}
	for n, role := range roles {
		if seconds := r.cutoffs[n]; seconds > 0 {
			list = append(list, Cutoff{role, time.Unix(seconds, 0).UTC()})
		}
	}
	return list
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
		return emptyDigest
	}
	return r.digest
}

// Len is the number of entries.
func (r *Registry) Len() int {
	if r == nil {
		return 0
	}
	return r.count
}

// Entries yields the entries in order of member.
func (r *Registry) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if r == nil {
			return
		}
		for _, rec := range r.all() {
			if !yield(r.entry(rec)) {
				return
			}
		}
	}
}

// Member finds a member's entry.
func (r *Registry) Member(id Identity) (Entry, bool) {
	if r == nil {
		return Entry{}, false
	}
	rec, at := r.find(id)
	if at < 0 {
		return Entry{}, false
	}
	return r.entry(rec), true
}

// ByKey finds the entry that has k as its current or next key.
func (r *Registry) ByKey(k Key) (Entry, bool) {
	if r == nil || k.IsZero() {
		return Entry{}, false
	}
	rec, at := r.findKey(k)
	if at < 0 {
		return Entry{}, false
	}
	return r.entry(rec), true
}
