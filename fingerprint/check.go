package fingerprint

import "hash/maphash"

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
// the rule is Open. It allocates nothing, and a caller has shown already that the peer holds the key.
func (r *Registry) Check(member Identity, key Key, rule Rule) Verdict {
	if r == nil {
		r = &Registry{}
	}
	// Both slots are fetched before a record is: what costs time is memory that no cache has.
	byKey := r.byKey.probe(maphash.Bytes(seed, key[:]))
	who, known := r.sought(member)
	byMember := r.byMember.probe(who.hash())
	first, mine, entry := byKey.next(), -1, record{}
	if known {
		entry, mine = r.findFrom(&who, &byMember, byMember.next())
	}
	if mine >= 0 && entry.flags&isRevoked != 0 {
		return Revoked
	}
	if _, at := r.findKeyFrom(key[:], &byKey, first); at >= 0 && at != mine {
		return OthersKey
	}
	switch {
	case rule == Open:
		return Admitted
	case mine < 0:
		return NotListed
	case !entry.has(key[:]):
		return OtherKey
	}
	return Admitted
}
