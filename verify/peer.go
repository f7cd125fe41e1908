package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
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
// whom it accepted by everything that was presented. Side, dates and expectation are looked at each time, and
// a refusal is never remembered.
type Verifier struct {
	bundle   *Bundle
	digest   Digest // of bundle
	registry *fingerprint.Registry
	pool     *x509.CertPool
	trusted  map[fingerprint.Key]bool
	retired  map[fingerprint.Key]bool
	notLeaf  map[fingerprint.Key]bool                 // keys of roots, retired roots and document signers
	control  map[fingerprint.Identity]Controller      // who is listed by the bundle
	pinned   map[fingerprint.Key]fingerprint.Identity // their keys
	memory   memory
}

// NewVerifier prepares the judgement by b and r; a nil r is an empty registry, so that whatever must be listed is
// refused. The error wraps ErrMalformed when b cannot be judged by.
func NewVerifier(b *Bundle, r *fingerprint.Registry) (*Verifier, error) {
	v := &Verifier{
		bundle: b, digest: b.Digest(), registry: r, pool: x509.NewCertPool(), memory: newMemory(),
		trusted: make(map[fingerprint.Key]bool),
		retired: make(map[fingerprint.Key]bool),
		notLeaf: make(map[fingerprint.Key]bool),
		control: make(map[fingerprint.Identity]Controller),
		pinned:  make(map[fingerprint.Key]fingerprint.Identity),
	}
	if v.digest == (Digest{}) {
		return nil, fmt.Errorf("verify: state %v has no payload: %w", b.Version, ErrMalformed)
	}
	for _, k := range b.Retired {
		v.retired[k], v.notLeaf[k] = true, true
	}
	for _, root := range b.Roots {
		if err := v.trust(root); err != nil {
			return nil, fmt.Errorf("verify: root g%d: %w: %w", root.Generation, ErrMalformed, err)
		}
	}
	for _, x := range b.Control {
		v.control[x.Member], v.notLeaf[x.Document] = x, true
		v.pinned[x.Current], v.pinned[x.Next] = x.Member, x.Member
	}
	delete(v.pinned, fingerprint.Key{})
	return v, nil
}

// trust takes a root up. A bundle that was parsed was checked so already; one that was made by hand was not.
func (v *Verifier) trust(root Root) error {
	c, err := v.bundle.RootCertificate(root.Generation)
	switch {
	case err != nil:
		return err
	case ca.KeyOf(c) != root.Key || v.retired[root.Key]:
		return errors.New("its key is another's, or retired")
	}
	v.trusted[root.Key], v.notLeaf[root.Key] = true, true
	v.pool.AddCert(c)
	return nil
}

// Peer judges the certificates that a peer presented, leaf first; side is the part that the peer plays. The error is a
// *Refusal. now is compared with the dates of every link.
func (v *Verifier) Peer(presented []*x509.Certificate, side Side, expect Expect, now time.Time) (Peer, error) {
	if refusal := count(presented, side); refusal != nil {
		return Peer{}, refusal
	}
	known := v.memory.recall(presented)
	if !known.good(side, now) {
		var refusal *Refusal
		if known, refusal = v.judge(presented, side, now, true); refusal != nil {
			return Peer{}, refusal
		}
		v.memory.remember(presented, known)
	}
	if refusal := expect.judge(&known.peer, presented[0]); refusal != nil {
		refusal.Side, refusal.Peer = side, known.peer.Identity.String()
		return Peer{}, refusal
	}
	return known.peer, nil
}

// count bounds the work before any is done: a hundred certificates of one name make x509 try every one.
func count(presented []*x509.Certificate, side Side) *Refusal {
	switch n := len(presented); {
	case n == 0:
		return &Refusal{Reason: NoCertificate, Side: side, Remedy: "enrol the peer, and configure its certificate"}
	case n > 1+maxIntermediates:
		return &Refusal{Reason: TooManyCerts, Side: side, Certificate: "chain", Field: "length",
			Detail: fmt.Sprintf("%d certificates, at most %d", n, 1+maxIntermediates),
			Remedy: "present the leaf and what leads to the root only"}
	}
	return nil
}

// Canary judges root's canary as a node's leaf, in every respect but the registry: the key of a canary was thrown away.
// A bundle in which the root has none says so. The error is a *Refusal otherwise.
func (v *Verifier) Canary(root Root, now time.Time) error {
	if len(root.Canary) == 0 {
		return fmt.Errorf("verify: root g%d has no canary in state %v", root.Generation, v.bundle.Version)
	}
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
		switch {
		case refusal != nil:
			return refusal
		case known.peer.Issuer != root.Key || known.peer.Identity.Role != fingerprint.Node:
			return fmt.Errorf("verify: canary of root g%d is a %s's, issued by %s", root.Generation, known.peer.Identity.Role, known.peer.Issuer.Short())
		}
	}
	return nil
}

// Self judges one's own certificates as any peer would, but for the registry, which may not know a joining member yet.
// The error is a *Refusal.
func (v *Verifier) Self(presented []*x509.Certificate, now time.Time) (Peer, error) {
	if refusal := count(presented, Client); refusal != nil {
		return Peer{}, refusal
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
