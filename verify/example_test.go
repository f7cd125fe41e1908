package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// example is a cluster with one root, one control member and one node.
type example struct {
	root          *ca.Authority
	state         *verify.Bundle
	document      crypto.Signer
	node, user    fingerprint.Identity
	key           crypto.Signer // the node's
	leaf, visitor *x509.Certificate
	now           time.Time
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func anyKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newExample() *example {
	e := &example{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), document: anyKey(), key: anyKey()}
	cluster := must(fingerprint.NewCluster("prod.example"))
	control := must(cluster.Member(fingerprint.Control, "ca-1"))
	e.node, e.user = must(cluster.Member(fingerprint.Node, "octopus")), must(cluster.Member(fingerprint.User, "anna"))
	e.root = must(ca.CreateRoot(anyKey(), ca.RootRequest{Cluster: cluster, Generation: 1, Now: e.now}))
	issue := func(id fingerprint.Identity, key crypto.Signer) *x509.Certificate {
		return must(e.root.Issue(ca.Request{Cluster: cluster, Identity: id, PublicKey: key.Public(), Now: e.now})).Certificate
	}
	e.leaf, e.visitor = issue(e.node, e.key), issue(e.user, anyKey())
	documents := must(e.root.IssueDocumentSigner(ca.DocumentRequest{Cluster: cluster, Member: control, PublicKey: e.document.Public(), Now: e.now}))
	payload := must((&verify.Bundle{
		Cluster: cluster, Version: fingerprint.Version{Term: 1, Number: 1}, Phase: verify.Settled, Signer: 1, Generations: 1,
		Roots: []verify.Root{{Generation: 1, Key: e.root.Key(), Certificate: e.root.Certificate().Raw, Canary: issue(must(cluster.Member(fingerprint.Node, "canary")), anyKey()).Raw}},
		Control: []verify.Controller{{Member: control, Current: must(fingerprint.OfPublicKey(anyKey().Public())),
			Document: must(fingerprint.OfPublicKey(e.document.Public())), Documents: [][]byte{documents.Certificate.Raw}}},
		Rules:  verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
		Issued: e.now, FreshUntil: e.now.Add(24 * time.Hour),
	}).Encode())
	e.state = must(verify.ParseBundle(payload))
	return e
}

// A verifier is one state and one registry. Whoever is judged is judged for a side and against an expectation.
func Example() {
	e := newExample()
	v, err := verify.NewVerifier(e.state, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	presented := []*x509.Certificate{e.leaf}
	peer, err := v.Peer(presented, verify.Server, verify.Member(e.node), e.now)
	fmt.Println(peer.Identity, err)

	for _, expect := range []verify.Expect{verify.AnyOf(fingerprint.Control), verify.Host(fingerprint.Node, "squid.example")} {
		_, err = v.Peer(presented, verify.Server, expect, e.now)
		if refusal, ok := errors.AsType[*verify.Refusal](err); ok {
			fmt.Printf("%s (%s): %s\n", refusal.Reason, refusal.Field, refusal.Remedy)
			fmt.Println("of trust:", refusal.Reason.Trust())
		}
	}
	_, err = v.Peer([]*x509.Certificate{e.visitor}, verify.Server, verify.AnyOf(fingerprint.User), e.now)
	fmt.Println(err)
	// Output:
	// spiffe://prod.example/node/octopus <nil>
	// wrong-role (URI SAN): connect to a member of that role, or expect this one
	// of trust: false
	// wrong-host (DNS and IP SANs): dial a name that the certificate has, or issue one with this name
	// of trust: false
	// verify: refused server spiffe://prod.example/user/anna: wrong-usage (leaf, extended key usage): this certificate of a user may not act as a server; use a control or node certificate there
}

// Before a step, a daemon judges its own certificates as its peers would, and the canary of each root.
func ExampleVerifier_Self() {
	e := newExample()
	v, err := verify.NewVerifier(e.state, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	self, err := v.Self([]*x509.Certificate{e.leaf}, e.now)
	fmt.Println(self.Identity.ID, self.NotAfter.Format(time.DateOnly), err)
	root, _ := e.state.Root(1)
	fmt.Println(v.Canary(root, e.now))

	issuer, err := e.state.IssuerOf([][]byte{e.leaf.Raw})
	fmt.Println(e.state.Admits(issuer), err)
	// Output:
	// octopus 2026-11-25 <nil>
	// <nil>
	// true <nil>
}

// A member follows the chain of signed states, each checked against the one that it holds.
func ExampleAdvance() {
	e := newExample()
	held := e.state
	next := held.Clone()
	next.Version, next.Previous = held.Version.Next(), held.Digest()
	next.Rules.User = fingerprint.Listed
	payload, err := next.Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := verify.SignBundle(payload, e.document)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := verify.Advance(held, signed, e.now)
	fmt.Println(b.Version, b.RuleFor(fingerprint.User), b.Supersedes(held), b.Digest() == verify.DigestOf(payload), err)

	_, err = verify.Advance(b, signed, e.now) // once more
	fmt.Println(errors.Is(err, verify.ErrNotNext))

	own, err := verify.PeekBundle(signed) // a CA daemon's own history
	fmt.Println(own.Version, err)
	root, err := own.RootCertificate(own.Signer)
	fmt.Println(root.Subject.Organization, own.SignerKey() == e.root.Key(), err)

	var name verify.Digest
	text, err := b.Digest().MarshalText()
	fmt.Println(len(text), err, name.UnmarshalText(text), name.String() == string(text))
	// Output:
	// 1.2 listed true true <nil>
	// true
	// 1.2 <nil>
	// [prod.example] true <nil>
	// 64 <nil> <nil> true
}

// The CA signs its registry; members open it with the state that they hold.
func ExampleOpenRegistry() {
	e := newExample()
	registry := must(fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 5}, []fingerprint.Entry{
		{Member: e.node, Current: must(fingerprint.OfPublicKey(e.key.Public())), Revoked: true},
	}))
	signed, err := verify.SignRegistry(e.state, registry, verify.Digest{}, e.now, e.now.Add(time.Hour), e.document)
	if err != nil {
		fmt.Println(err)
		return
	}
	opened, err := verify.OpenRegistry(e.state, nil, must(signed.Document(nil)), e.now)
	if err != nil {
		fmt.Println(err)
		return
	}
	kept := must(verify.PeekRegistry(must(opened.Document(nil)))) // from the member's own disk
	fmt.Println(kept.Registry.Digest() == registry.Digest(), kept.Stale(e.now), kept.Stale(e.now.Add(2*time.Hour)))
	v := must(verify.NewVerifier(e.state, opened.Registry))
	_, err = v.Peer([]*x509.Certificate{e.leaf}, verify.Client, verify.AnyOf(fingerprint.Node), e.now)
	refusal, _ := errors.AsType[*verify.Refusal](err)
	fmt.Println(opened.Registry.Version(), refusal.Reason)
	// Output:
	// true false true
	// 1.5 revoked
}

// A report is signed by the key that the member serves with, and is a claim until the CA has looked whose key that is.
func ExampleSignReport() {
	e := newExample()
	signed, err := verify.SignReport(&verify.Report{
		Cluster: e.state.Cluster, Member: e.node, Boot: 3, Count: 14, Serving: true,
		State: e.state.Version, Digest: e.state.Digest(), Clock: e.now,
	}, e.key)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := verify.OpenReport(signed, e.key.Public())
	fmt.Println(r.Member.ID, r.State, err)
	_, err = verify.OpenReport(signed, anyKey().Public())
	fmt.Println(errors.Is(err, verify.ErrReport))
	// Output:
	// octopus 1.1 <nil>
	// true
}

// Would every member accept every other? None means yes.
func ExampleMutual() {
	e := newExample()
	v := must(verify.NewVerifier(e.state, nil))
	parties := []verify.Party{
		{Identity: e.node, Chain: []*x509.Certificate{e.leaf}, Verifier: v},
		{Identity: e.user, Chain: []*x509.Certificate{e.visitor}, Verifier: v},
	}
	fmt.Println(len(verify.Mutual(parties, e.now)))
	for _, denial := range verify.Mutual(parties, e.now.Add(48*time.Hour)) {
		fmt.Println(denial.By.ID, "refuses", denial.Peer.ID, "as", denial.Refusal.Side, "-", denial.Refusal.Reason)
	}
	// Output:
	// 0
	// anna refuses octopus as server - expired
	// octopus refuses anna as client - expired
}

// Any chain, for callers that are not members: here they trust the cluster's root, and want to know whether the node
// took part in the cluster when its CA last said so.
func ExampleChain() {
	e := newExample()
	roots := x509.NewCertPool()
	roots.AddCert(e.root.Certificate())
	list := must(e.root.CRL(ca.CRLRequest{Number: 1, Now: e.now}))
	o := verify.ChainOptions{Roots: roots, CRLs: []*x509.RevocationList{list}}
	valid, err := verify.Chain([]*x509.Certificate{e.leaf}, o, e.now)
	fmt.Println(len(valid.Chain), valid.NotAfter, err)

	// A day later the list is stale. That is a refusal, unless the caller says that it may be.
	later := e.now.Add(24 * time.Hour)
	o.CRLs[0] = must(e.root.CRL(ca.CRLRequest{Number: 2, Now: e.now, Lifetime: time.Hour}))
	_, err = verify.Chain([]*x509.Certificate{e.leaf}, o, later)
	refusal, _ := errors.AsType[*verify.Refusal](err)
	fmt.Println(refusal.Reason)
	o.AcceptUnchecked = true
	valid, err = verify.Chain([]*x509.Certificate{e.leaf}, o, later)
	fmt.Println(valid.Unchecked[0].Reason, err)
	// Output:
	// 2 2026-11-25 12:00:00 +0000 UTC <nil>
	// stale-crl
	// stale-crl <nil>
}
