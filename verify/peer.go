package verify

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// Peer is who stands at the other end.
type Peer struct {
	Identity fingerprint.Identity
	Key      fingerprint.Key
	Leaf     fingerprint.Certificate
	Issuer   fingerprint.Key // of the trusted root at the end of its chain
	NotAfter time.Time       // the first on its chain to end
}

// Verifier judges peers by one bundle and one registry. It never changes, and is safe for concurrent use. It remembers
// whom it accepted by everything that was presented; dates and the expectation are looked at each time, and
// a refusal is never remembered.
type Verifier struct {
	bundle   *Bundle
	registry *fingerprint.Registry
	pool     *x509.CertPool
	roots    map[fingerprint.Key]*x509.Certificate
	retired  map[fingerprint.Key]bool
	notLeaf  map[fingerprint.Key]bool // keys of roots, retired roots and document signers
	control  map[fingerprint.Identity]Controller

	mu         sync.RWMutex
	remembered map[[sha256.Size]byte]remembered // guarded by mu
}

type remembered struct {
	peer      Peer
	notBefore time.Time // the last on the chain to begin
}

// NewVerifier prepares the judgement by b and r; a nil r is an empty registry. The error says which certificate of b
// does not parse.
func NewVerifier(b *Bundle, r *fingerprint.Registry) (*Verifier, error) {
	v := &Verifier{
		bundle: b, registry: r, pool: x509.NewCertPool(),
		roots:      make(map[fingerprint.Key]*x509.Certificate),
		retired:    make(map[fingerprint.Key]bool),
		notLeaf:    make(map[fingerprint.Key]bool),
		control:    make(map[fingerprint.Identity]Controller),
		remembered: make(map[[sha256.Size]byte]remembered),
	}
	for _, k := range b.Retired {
		v.retired[k], v.notLeaf[k] = true, true
	}
	for _, root := range b.Roots {
		c, err := b.RootCertificate(root.Generation)
		if err != nil {
			return nil, fmt.Errorf("verify: root g%d: %w", root.Generation, err)
		}
		v.roots[root.Key], v.notLeaf[root.Key] = c, true
		v.pool.AddCert(c)
	}
	for _, x := range b.Control {
		v.control[x.Member], v.notLeaf[x.Document] = x, true
	}
	return v, nil
}

// Peer judges the certificates that a peer presented, leaf first; side is the part that the peer plays. The error is a
// *Refusal. now is compared with the dates of every link.
func (v *Verifier) Peer(presented []*x509.Certificate, side Side, expect Expect, now time.Time) (Peer, error) {
	if len(presented) == 0 {
		return Peer{}, &Refusal{Reason: NoCertificate, Side: side, Remedy: "enrol the peer, and configure its certificate"}
	}
	if len(presented) > 1+maxIntermediates {
		return Peer{}, &Refusal{Reason: TooManyCerts, Side: side, Certificate: "chain", Field: "length",
			Detail: fmt.Sprintf("%d certificates, at most %d", len(presented), 1+maxIntermediates), Remedy: "present the leaf and what leads to the root only"}
	}
	leaf := presented[0]
	name := presentedName(presented, side)
	known, ok := v.recall(name)
	if !ok || now.Before(known.notBefore) || now.After(known.peer.NotAfter) {
		var refusal *Refusal
		if known, refusal = v.judge(presented, side, now, true); refusal != nil {
			return Peer{}, refusal
		}
		v.remember(name, known)
	}
	if refusal := expect.judge(&known.peer, leaf); refusal != nil {
		refusal.Side, refusal.Peer = side, known.peer.Identity.String()
		return Peer{}, refusal
	}
	return known.peer, nil
}

// Canary judges root's canary as a node's leaf, in every respect but the registry: the key of a canary was thrown away.
// A bundle in which the root has none says so. The error is a *Refusal otherwise.
func (v *Verifier) Canary(root Root, now time.Time) error {
	c, err := parse(root.Canary)
	if err != nil {
		return fmt.Errorf("verify: canary of root g%d: %w", root.Generation, err)
	}
	// A canary proves that the root can be verified here. Its own dates prove nothing, and a rollover may take longer
	// than it lives.
	if now.After(c.NotAfter) {
		now = c.NotAfter
	}
	for _, side := range []Side{Server, Client} {
		known, refusal := v.judge([]*x509.Certificate{c}, side, now, false)
		if refusal != nil {
			return refusal
		}
		if known.peer.Issuer != root.Key {
			return fmt.Errorf("verify: canary of root g%d was issued by %s", root.Generation, known.peer.Issuer.Short())
		}
	}
	return nil
}

// Self judges one's own certificates as any peer would, but for the registry, which may not know a joining member yet.
// The error is a *Refusal.
func (v *Verifier) Self(presented []*x509.Certificate, now time.Time) (Peer, error) {
	if len(presented) == 0 || len(presented) > 1+maxIntermediates {
		return Peer{}, &Refusal{Reason: NoCertificate, Side: Client}
	}
	sides := []Side{Client, Server}
	if id, err := ca.IdentityOf(presented[0]); err == nil && id.Role == fingerprint.User {
		sides = sides[:1]
	}
	var peer Peer
	for _, side := range sides {
		known, refusal := v.judge(presented, side, now, false)
		if refusal != nil {
			return Peer{}, refusal
		}
		peer = known.peer
	}
	return peer, nil
}

// presentedName is the SHA-256 of everything that was presented, with lengths, and the side.
func presentedName(presented []*x509.Certificate, side Side) [sha256.Size]byte {
	if len(presented) == 1 {
		// The usual case without a copy: the digest of the leaf, told apart by side.
		name := sha256.Sum256(presented[0].Raw)
		name[0] ^= side[0]
		return name
	}
	h := sha256.New()
	var size [8]byte
	for _, c := range presented {
		binary.BigEndian.PutUint64(size[:], uint64(len(c.Raw)))
		h.Write(size[:])
		h.Write(c.Raw)
	}
	var name [sha256.Size]byte
	h.Sum(name[:0])
	name[0] ^= side[0]
	return name
}

func (v *Verifier) recall(name [sha256.Size]byte) (remembered, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	known, ok := v.remembered[name]
	return known, ok
}

func (v *Verifier) remember(name [sha256.Size]byte, known remembered) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.remembered) >= maxRemembered {
		clear(v.remembered)
	}
	v.remembered[name] = known
}

// judgement is one look at one peer.
type judgement struct {
	*Verifier
	leaf      *x509.Certificate
	presented []*x509.Certificate // after the leaf
	side      Side
	now       time.Time
	listed    bool // ask the registry
	peer      Peer
	notBefore time.Time
}

func (v *Verifier) judge(presented []*x509.Certificate, side Side, now time.Time, listed bool) (remembered, *Refusal) {
	j := judgement{Verifier: v, leaf: presented[0], presented: presented[1:], side: side, now: now, listed: listed}
	for _, step := range []func() *Refusal{j.identity, j.cluster, j.form, j.usage, j.dates, j.chain, j.authorised} {
		if refusal := step(); refusal != nil {
			refusal.Side = side
			if refusal.Certificate == "" {
				refusal.Certificate = "leaf"
			}
			if refusal.Peer == "" && !j.peer.Identity.IsZero() {
				refusal.Peer = j.peer.Identity.String()
			}
			return remembered{}, refusal
		}
	}
	return remembered{j.peer, j.notBefore}, nil
}

func (j *judgement) identity() *Refusal {
	id, err := ca.IdentityOf(j.leaf)
	if err != nil {
		return &Refusal{Reason: MalformedLeaf, Peer: fmt.Sprintf("%q", j.leaf.Subject.CommonName), Field: "URI SAN", Detail: err.Error(), Remedy: "present a member's certificate"}
	}
	j.peer.Identity = id
	j.peer.Leaf = fingerprint.OfCertificate(j.leaf.Raw)
	j.peer.Key = ca.KeyOf(j.leaf)
	return nil
}

// cluster tells clusters apart by value: two of one name have different UUIDs.
func (j *judgement) cluster() *Refusal {
	want := j.bundle.Cluster
	if uuid := ca.ClusterUUIDOf(j.leaf); uuid != want.UUID || j.peer.Identity.Domain != want.Domain {
		return &Refusal{Reason: WrongCluster, Field: "subject serialNumber",
			Detail: fmt.Sprintf("it is of cluster %q (%s), this is %q (%s)", j.peer.Identity.Domain, uuid, want.Domain, want.UUID),
			Remedy: "the address leads to another cluster, or a member of one dials here"}
	}
	return nil
}

// form is what crypto/tls leaves to us once it does not verify (and what x509.Verify does not look at).
func (j *judgement) form() *Refusal {
	malformed := func(field, detail string) *Refusal {
		return &Refusal{Reason: MalformedLeaf, Field: field, Detail: detail, Remedy: "issue the member's certificate again"}
	}
	if j.leaf.IsCA || j.leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		return malformed("basic constraints", "a CA's certificate serves nobody")
	}
	if j.leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return malformed("key usage", "digitalSignature is missing")
	}
	if len(j.leaf.AuthorityKeyId) == 0 {
		return malformed("authority key identifier", "it is missing")
	}
	if _, err := keystore.AlgorithmOf(j.leaf.PublicKey); err != nil {
		return &Refusal{Reason: WeakKey, Field: "public key", Detail: err.Error(), Remedy: "re-key the member with an accepted algorithm"}
	}
	if j.notLeaf[j.peer.Key] {
		return &Refusal{Reason: KeyOfAnother, Field: "public key", Detail: "it is a CA's or a document signer's key", Remedy: "re-key the member, and find out who served with that key"}
	}
	return nil
}

func (j *judgement) usage() *Refusal {
	want := x509.ExtKeyUsageServerAuth
	if j.side == Client {
		want = x509.ExtKeyUsageClientAuth
	}
	if !slices.Contains(j.leaf.ExtKeyUsage, want) {
		return &Refusal{Reason: WrongUsage, Field: "extended key usage",
			Detail: fmt.Sprintf("a %s certificate may not act as a %s", j.peer.Identity.Role, j.side),
			Remedy: "use a control or node certificate there"}
	}
	return nil
}

func (j *judgement) dates() *Refusal {
	return j.datesOf(j.leaf, "leaf")
}

func (j *judgement) datesOf(c *x509.Certificate, which string) *Refusal {
	if j.now.Before(c.NotBefore) {
		return &Refusal{Reason: NotYetValid, Certificate: which, Field: "not before",
			Detail: fmt.Sprintf("it begins %s, now is %s", c.NotBefore.Format(time.RFC3339), j.now.UTC().Format(time.RFC3339)),
			Remedy: "set the clocks of both machines"}
	}
	if j.now.After(c.NotAfter) {
		return &Refusal{Reason: Expired, Certificate: which, Field: "not after",
			Detail: fmt.Sprintf("it ended %s, now is %s", c.NotAfter.Format(time.RFC3339), j.now.UTC().Format(time.RFC3339)),
			Remedy: "let the member reach a CA daemon and renew"}
	}
	if j.peer.NotAfter.IsZero() || c.NotAfter.Before(j.peer.NotAfter) {
		j.peer.NotAfter = c.NotAfter
	}
	if c.NotBefore.After(j.notBefore) {
		j.notBefore = c.NotBefore
	}
	return nil
}

// chain builds the way to a trusted root. What has a trusted root's key is put aside first, since Go would build every
// chain through it; what has a retired key is put aside too, whichever certificate carries it.
func (j *judgement) chain() *Refusal {
	intermediates := x509.NewCertPool()
	retired := j.retiredKeyID(j.leaf.AuthorityKeyId)
	for _, c := range j.presented {
		key := ca.KeyOf(c)
		switch {
		case j.retired[key]:
			retired = true
		case j.roots[key] == nil:
			intermediates.AddCert(c)
			retired = retired || j.retiredKeyID(c.AuthorityKeyId)
		}
	}
	chains, err := j.leaf.Verify(x509.VerifyOptions{
		Roots: j.pool, Intermediates: intermediates, CurrentTime: j.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the leaf's was looked at, and no CA of ours has one
	})
	if err != nil {
		return j.noChain(err, retired)
	}
	for _, chain := range chains {
		if linked(chain) {
			return j.accept(chain)
		}
	}
	return &Refusal{Reason: UnknownIssuer, Field: "authority key identifier", Detail: "it is not its issuer's subject key identifier", Remedy: "issue the member's certificate again"}
}

// retiredKeyID reports whether a key identifier is that of a retired key.
func (j *judgement) retiredKeyID(id []byte) bool {
	for k := range j.retired {
		if len(id) > 0 && bytes.HasPrefix(k[:], id) {
			return true
		}
	}
	return false
}

func (j *judgement) noChain(err error, retired bool) *Refusal {
	if retired {
		return &Refusal{Reason: RetiredIssuer, Field: "issuer",
			Detail: fmt.Sprintf("%q was retired; state %v trusts %s", j.leaf.Issuer.CommonName, j.bundle.Version, j.rootNames()),
			Remedy: "the member missed a rollover: let it renew at a CA daemon"}
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if refusal := j.datesOf(invalid.Cert, fmt.Sprintf("%q", invalid.Cert.Subject.CommonName)); refusal != nil {
			return refusal
		}
	}
	return &Refusal{Reason: UnknownIssuer, Field: "issuer",
		Detail: fmt.Sprintf("%q leads to no trusted root; state %v trusts %s (%v)", j.leaf.Issuer.CommonName, j.bundle.Version, j.rootNames(), err),
		Remedy: "compare the trust states of both sides"}
}

func (j *judgement) rootNames() string {
	var names string
	for i, r := range j.bundle.Roots {
		if i > 0 {
			names += ", "
		}
		names += fmt.Sprintf("g%d %s", r.Generation, r.Key.Short())
	}
	return names
}

// linked checks that each authority key identifier is the issuer's subject key identifier.
func linked(chain []*x509.Certificate) bool {
	for i, c := range chain[:len(chain)-1] {
		if !bytes.Equal(c.AuthorityKeyId, chain[i+1].SubjectKeyId) {
			return false
		}
	}
	return true
}

func (j *judgement) accept(chain []*x509.Certificate) *Refusal {
	for i, c := range chain[1:] {
		if refusal := j.datesOf(c, fmt.Sprintf("issuer %d", i+1)); refusal != nil {
			return refusal
		}
	}
	j.peer.Issuer = ca.KeyOf(chain[len(chain)-1])
	return nil
}

// authorised asks who may be whom: the bundle for control members, the registry for everybody.
func (j *judgement) authorised() *Refusal {
	if !j.listed {
		return nil
	}
	id, rule := j.peer.Identity, j.bundle.RuleFor(j.peer.Identity.Role)
	if id.Role == fingerprint.Control {
		x, ok := j.control[id]
		if !ok {
			return registryRefusal(fingerprint.NotListed, "the trust state does not name it")
		}
		if j.peer.Key != x.Current && (x.Next.IsZero() || j.peer.Key != x.Next) {
			return registryRefusal(fingerprint.OtherKey, fmt.Sprintf("the trust state names key %s", x.Current.Short()))
		}
		rule = fingerprint.Open // listed by the bundle; the registry still knows who was removed
	}
	if verdict := j.registry.Check(id, j.peer.Key, rule); verdict != fingerprint.Admitted {
		return registryRefusal(verdict, fmt.Sprintf("registry %v, key %s", j.registry.Version(), j.peer.Key.Short()))
	}
	return nil
}

func registryRefusal(verdict fingerprint.Verdict, detail string) *Refusal {
	r := &Refusal{Field: "public key", Detail: detail}
	switch verdict {
	case fingerprint.Revoked:
		r.Reason, r.Remedy = MemberRevoked, "the member was removed: admit it as a new one if that was a mistake"
	case fingerprint.NotListed:
		r.Reason, r.Remedy = NotInRegistry, "admit the member, or wait until this side has the newer registry"
	case fingerprint.OthersKey:
		r.Reason, r.Remedy = KeyOfAnother, "somebody uses another member's key: find out who"
	default:
		r.Reason, r.Remedy = KeyNotRegistered, "list the member's new key before it is served"
	}
	return r
}
