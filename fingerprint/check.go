package fingerprint

import (
	"hash/maphash"
	"time"
)

// Presented is what a peer has shown of itself: who its leaf says it is, and the key that it proved to hold.
type Presented struct {
	Member    Identity
	Key       Key
	Leaf      Certificate
	NotBefore time.Time // of the leaf
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
	Void      Verdict = "void"           // the certificate begins before a cut-off
	NotPinned Verdict = "not-pinned"     // the entry pins other certificates
)

// String is the verdict's code; "admitted" for the good one.
func (v Verdict) String() string {
	if v == Admitted {
		return "admitted"
	}
	return string(v)
}

// Check judges a peer by the rule of its role: any rule but Open is taken for Listed. Under either a revoked member is
// refused, and so are a key that stands in another member's entry, a tombstone included (who took a removed member's key
// cannot come back under another name), a certificate from before the cut-off of the member or of its role, and one that
// is not among the member's pins. A member's own entry under another key is no refusal where the rule is Open. It
// allocates nothing, and admits nobody by itself: the chain and its dates are somebody else's question.
func (r *Registry) Check(p Presented, rule Rule) Verdict {
	if r == nil {
		r = &Registry{}
	}
	// Both slots are fetched before a record is: what costs time is memory that no cache has.
	byKey := r.byKey.probe(maphash.Bytes(seed, p.Key[:]))
	who, known := r.sought(p.Member)
	byMember := r.byMember.probe(who.hash())
	first, mine, entry := byKey.next(), -1, record{}
	if known {
		entry, mine = r.findFrom(&who, &byMember, byMember.next())
	}
	if mine >= 0 && entry.flags&isRevoked != 0 {
		return Revoked
	}
	if _, at := r.findKeyFrom(p.Key[:], &byKey, first); at >= 0 && at != mine {
		return OthersKey
	}
	switch {
	case rule != Open && mine < 0:
		return NotListed
	case rule != Open && !entry.has(p.Key[:]):
		return OtherKey
	case before(p.NotBefore, r.cutoff(p.Member.Role)):
		return Void
	case mine < 0:
		return Admitted
	case before(p.NotBefore, entry.seconds(hasVoid)):
		return Void
	case !entry.pinned(&p.Leaf):
		return NotPinned
	}
	return Admitted
}

// before reports whether a certificate begins before a cut-off, when there is one.
func before(begins time.Time, cutoff int64) bool { return cutoff != 0 && begins.Unix() < cutoff }
