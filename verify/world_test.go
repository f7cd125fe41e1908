package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

const (
	minute = time.Minute
	day    = 24 * time.Hour
)

// noon is the present of these tests; the roots are older.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is one cluster as its CA sees it: every root ever made, one control member, and the newest state.
type world struct {
	id       fingerprint.ClusterID
	roots    []*ca.Authority // of generation 1, 2, …
	keys     []crypto.Signer // of the roots
	bridges  [][]byte        // new-with-old, by generation; none for the first
	control  fingerprint.Identity
	tls      crypto.Signer // the control member's
	document crypto.Signer
	state    *verify.Bundle
	signed   [][]byte // every state after the first
	now      time.Time
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func keyOf(s crypto.Signer) fingerprint.Key { return must(fingerprint.OfPublicKey(s.Public())) }

func newWorld(domain string) *world {
	w := &world{id: must(fingerprint.NewCluster(domain)), tls: newKey(), document: newKey(), now: noon}
	w.control = must(w.id.Member(fingerprint.Control, "ctl.example"))
	root := w.newRoot()
	w.state = must(w.encoded(&verify.Bundle{
		Cluster: w.id, Version: fingerprint.Version{Term: 1, Number: 1}, Phase: verify.Settled,
		Roots: []verify.Root{root}, Signer: 1, Generations: 1,
		Control: []verify.Controller{w.controller(w.control, w.tls, w.document, 1)},
		Rules:   verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
		Issued:  w.now.Add(-day), FreshUntil: w.now.Add(30 * day),
	}))
	return w
}

// newRoot makes the next generation, with its bridge and its canary.
func (w *world) newRoot() verify.Root {
	generation := len(w.roots) + 1
	key := newKey()
	root := must(ca.CreateRoot(key, ca.RootRequest{Cluster: w.id, Generation: generation, Now: w.now.Add(-2 * day)}))
	w.roots, w.keys = append(w.roots, root), append(w.keys, key)
	r := verify.Root{Generation: generation, Key: root.Key(), Certificate: root.Certificate().Raw,
		Canary: w.leaf(root, w.node("canary"), newKey()).Raw}
	if generation > 1 {
		r.Bridge = must(w.roots[generation-2].Bridge(root.Certificate())).Raw
	}
	w.bridges = append(w.bridges, r.Bridge)
	return r
}

func (w *world) controller(id fingerprint.Identity, tls, document crypto.Signer, generations ...int) verify.Controller {
	c := verify.Controller{Member: id, Current: keyOf(tls), Document: keyOf(document)}
	for _, g := range generations {
		c.Documents = append(c.Documents, w.documentLeaf(w.roots[g-1], id, document))
	}
	return c
}

func (w *world) documentLeaf(root *ca.Authority, id fingerprint.Identity, document crypto.Signer) []byte {
	leaf := must(root.IssueDocumentSigner(ca.DocumentRequest{Cluster: w.id, Member: id, PublicKey: document.Public(), Now: w.now}))
	return leaf.Certificate.Raw
}

func (w *world) node(id string) fingerprint.Identity {
	return must(w.id.Member(fingerprint.Node, id))
}

func (w *world) leaf(root *ca.Authority, id fingerprint.Identity, key crypto.Signer, hosts ...string) *x509.Certificate {
	return must(root.Issue(ca.Request{Cluster: w.id, Identity: id, PublicKey: key.Public(), Hosts: hosts, Now: w.now})).Certificate
}

func (w *world) encoded(b *verify.Bundle) (*verify.Bundle, error) {
	payload, err := b.Encode()
	if err != nil {
		return nil, err
	}
	return verify.ParseBundle(payload)
}

// successor is a state that comes after held in number and name, and in nothing else yet.
func successor(held *verify.Bundle, edits ...func(*verify.Bundle)) *verify.Bundle {
	next := held.Clone()
	next.Version, next.Previous = held.Version.Next(), held.Digest()
	next.Issued, next.FreshUntil = held.Issued.Add(minute), held.Issued.Add(30*day)
	for _, edit := range edits {
		edit(next)
	}
	return next
}

// commit makes the successor the world's state and signs it.
func (w *world) commit(edits ...func(*verify.Bundle)) *verify.Bundle {
	w.state = must(w.encoded(successor(w.state, edits...)))
	w.signed = append(w.signed, must(verify.SignBundle(must(w.state.Encode()), w.document)))
	return w.state
}

// The steps of a rollover.

func (w *world) trust(b *verify.Bundle) {
	root := w.newRoot()
	b.Roots = append(b.Roots, root)
	b.Phase, b.From, b.To = verify.Trust, b.Signer, root.Generation
	b.Generations = root.Generation
	b.Control = []verify.Controller{w.controller(w.control, w.tls, w.document, b.From, b.To)}
}

func switched(b *verify.Bundle) { b.Phase, b.Signer = verify.Switch, b.To }

func rolledBack(b *verify.Bundle) {
	b.From, b.To = b.To, b.From
	switched(b)
}

func dropped(b *verify.Bundle) {
	keep := 0
	for i, r := range b.Roots {
		if r.Generation == b.To {
			keep = i
		} else {
			b.Retired = append(b.Retired, r.Key)
		}
	}
	b.Roots, b.Phase = b.Roots[keep:keep+1], verify.Drop
	for i := range b.Control {
		b.Control[i].Documents = b.Control[i].Documents[keep : keep+1]
	}
}

func settled(b *verify.Bundle) { b.Phase, b.From, b.To = verify.Settled, 0, 0 }

// rollover takes the world to its next generation.
func (w *world) rollover() {
	for _, step := range []func(*verify.Bundle){w.trust, switched, dropped, settled} {
		w.commit(step)
	}
}

func listed(b *verify.Bundle) { b.Rules = verify.Rules{Node: fingerprint.Listed, User: fingerprint.Listed} }

func parsed(der ...[]byte) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, d := range der {
		chain = append(chain, must(x509.ParseCertificate(d)))
	}
	return chain
}

func reasonOf(err error) verify.Reason {
	switch r := err.(type) {
	case nil:
		return ""
	case *verify.Refusal:
		return r.Reason
	}
	panic(fmt.Sprintf("%T is not a refusal: %v", err, err))
}

func p224() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) }
