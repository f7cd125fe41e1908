package verify_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// world is a cluster with successive roots, for judging and being judged.
type world struct {
	t        testing.TB
	id       fingerprint.ClusterID
	now      time.Time
	roots    []*ca.Authority     // g1 first
	keys     []keystore.Signer   // of the roots
	bridges  []*x509.Certificate // new-with-old, into g2 first
	control  keystore.Signer
	document keystore.Signer
}

func newWorld(t testing.TB, generations int) *world {
	t.Helper()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, id: id, now: time.Now().UTC().Truncate(time.Second), control: newKey(t, keystore.P256), document: newKey(t, keystore.P256)}
	for range generations {
		w.addRoot(keystore.P256)
	}
	return w
}

func newKey(t testing.TB, a keystore.Algorithm) keystore.Signer {
	t.Helper()
	k, err := keystore.NewMemory().Generate(context.Background(), "k", a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyOf(t testing.TB, s crypto.Signer) fingerprint.Key {
	t.Helper()
	k, err := fingerprint.OfPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) addRoot(a keystore.Algorithm) *ca.Authority {
	w.t.Helper()
	key := newKey(w.t, a)
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: w.id, Generation: len(w.roots) + 1, Now: w.now.Add(-2 * time.Hour)})
	if err != nil {
		w.t.Fatal(err)
	}
	if n := len(w.roots); n > 0 {
		bridge, err := w.roots[n-1].Bridge(root.Certificate())
		if err != nil {
			w.t.Fatal(err)
		}
		w.bridges = append(w.bridges, bridge)
	}
	w.roots, w.keys = append(w.roots, root), append(w.keys, key)
	return root
}

func (w *world) member(role fingerprint.Role, name string) fingerprint.Identity {
	w.t.Helper()
	id, err := w.id.Member(role, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// issue makes a leaf of a generation for a key, good from at.
func (w *world) issue(generation int, id fingerprint.Identity, key crypto.Signer, at time.Time) *x509.Certificate {
	w.t.Helper()
	r := ca.Request{Cluster: w.id, Identity: id, PublicKey: key.Public(), Lifetime: time.Hour, Now: at}
	if id.Role != fingerprint.User {
		r.Hosts = []string{id.ID + ".example", "127.0.0.1"}
	}
	leaf, err := w.roots[generation-1].Issue(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return leaf.Certificate
}

// root is how a bundle carries a generation.
func (w *world) root(generation int) verify.Root {
	w.t.Helper()
	a := w.roots[generation-1]
	r := verify.Root{Generation: generation, Key: a.Key(), Certificate: a.Certificate().Raw}
	if generation > 1 {
		r.Bridge = w.bridges[generation-2].Raw
	}
	r.Canary = w.issue(generation, w.member(fingerprint.Node, "canary"), newKey(w.t, keystore.P256), w.now).Raw
	return r
}

func (w *world) documentCertificate(generation int, key crypto.Signer) []byte {
	w.t.Helper()
	leaf, err := w.roots[generation-1].IssueDocumentSigner(ca.DocumentRequest{Cluster: w.id, Member: w.member(fingerprint.Control, "ca-1"), PublicKey: key.Public(), Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	return leaf.Certificate.Raw
}

// bundle is a settled state of one generation, or the switch between two.
func (w *world) bundle(generations ...int) *verify.Bundle {
	w.t.Helper()
	b := &verify.Bundle{
		Cluster: w.id, Version: fingerprint.Version{Term: 1, Number: uint64(10 * generations[0])}, Phase: verify.Settled,
		Generations: len(w.roots), Rules: verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
		Issued: w.now, FreshUntil: w.now.Add(time.Hour),
		Control: []verify.Controller{{Member: w.member(fingerprint.Control, "ca-1"), Current: keyOf(w.t, w.control), Document: keyOf(w.t, w.document)}},
	}
	for _, g := range generations {
		b.Roots = append(b.Roots, w.root(g))
		b.Control[0].Documents = append(b.Control[0].Documents, w.documentCertificate(g, w.document))
	}
	b.Signer = generations[len(generations)-1]
	if len(generations) == 2 {
		b.Phase, b.From, b.To = verify.Switch, generations[0], generations[1]
	}
	for g := 1; g < slices.Min(generations); g++ {
		b.Retired = append(b.Retired, w.roots[g-1].Key())
	}
	return w.parsed(b)
}

// parsed is what a member gets of b.
func (w *world) parsed(b *verify.Bundle) *verify.Bundle {
	w.t.Helper()
	payload, err := b.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	parsed, err := verify.ParseBundle(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	return parsed
}

// registryDocument is how a registry reaches a member that has none.
func (w *world) registryDocument(b *verify.Bundle, r *fingerprint.Registry, previous verify.Digest, issued time.Time, key crypto.Signer) []byte {
	w.t.Helper()
	s, err := verify.SignRegistry(b, r, previous, issued, issued.Add(time.Hour), key)
	if err != nil {
		w.t.Fatal(err)
	}
	doc, err := s.Document(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

func (w *world) verifier(b *verify.Bundle, r *fingerprint.Registry) *verify.Verifier {
	w.t.Helper()
	v, err := verify.NewVerifier(b, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func reason(err error) verify.Reason {
	if r, ok := err.(*verify.Refusal); ok {
		return r.Reason
	}
	if err != nil {
		return verify.Reason(err.Error())
	}
	return "accepted"
}
