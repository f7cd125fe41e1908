package ca_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// A root, and a node's leaf from the node's own request. Any crypto.Signer can be the root's key.
func Example() {
	ctx := context.Background()
	keys := keystore.NewMemory()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	rootKey, err := keys.Generate(ctx, "root-1", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	root, err := ca.CreateRoot(rootKey, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		log.Fatal(err)
	}

	// At the node: the key is born there, and only the request leaves it.
	node, err := id.Member(fingerprint.Node, "octopus")
	if err != nil {
		log.Fatal(err)
	}
	nodeKey, err := keys.Generate(ctx, "leaf-1", keystore.Ed25519)
	if err != nil {
		log.Fatal(err)
	}
	request, err := ca.NewRequest(nodeKey, node)
	if err != nil {
		log.Fatal(err)
	}

	// At the CA: the key is taken from the request, and nothing else.
	public, err := ca.ParseRequest(request, node)
	if err != nil {
		log.Fatal(err)
	}
	leaf, err := root.Issue(ca.Request{Cluster: id, Identity: node, PublicKey: public, Hosts: []string{"octopus.example", "10.0.0.8"}, Lifetime: 12 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	who, err := ca.IdentityOf(leaf.Certificate)
	fmt.Println(who, leaf.Certificate.DNSNames, leaf.Certificate.IPAddresses, err)
	fmt.Println(ca.ClusterUUIDOf(leaf.Certificate) == id.UUID, ca.KeyOf(leaf.Issuer) == root.Key())
	// Output:
	// spiffe://prod.example/node/octopus [octopus.example] [10.0.0.8] <nil>
	// true true
}

// A root is succeeded by another: the bridge lets those who only know the first verify leaves of the second.
func ExampleAuthority_Bridge() {
	ctx := context.Background()
	keys := keystore.NewMemory()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	var roots []*ca.Authority
	for generation, algorithm := range []keystore.Algorithm{keystore.P256, keystore.P384} {
		key, err := keys.Generate(ctx, fmt.Sprintf("root-%d", generation+1), algorithm)
		if err != nil {
			log.Fatal(err)
		}
		root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: generation + 1})
		if err != nil {
			log.Fatal(err)
		}
		roots = append(roots, root)
	}
	bridge, err := roots[0].Bridge(roots[1].Certificate())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ca.KeyOf(bridge) == roots[1].Key(), bridge.CheckSignatureFrom(roots[0].Certificate()))

	// Later, with the key from its keeper again.
	key, err := keys.Open(ctx, "root-2")
	if err != nil {
		log.Fatal(err)
	}
	again, err := ca.Open(roots[1].Certificate(), key)
	if err != nil {
		log.Fatal(err)
	}
	control, err := id.Member(fingerprint.Control, "ca-1")
	if err != nil {
		log.Fatal(err)
	}
	documents, err := keys.Generate(ctx, "document", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := again.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: control, PublicKey: documents.Public()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signer.Certificate.UnknownExtKeyUsage[0].Equal(ca.DocumentSigning), len(signer.Certificate.URIs))
	// Output:
	// true <nil>
	// true 0
}

// The root stays offline. Two files travel: a request from the place of the intermediate's key, and the answer.
func ExampleAuthority_SignIntermediate() {
	ctx := context.Background()
	online, offline := keystore.NewMemory(), keystore.NewMemory()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	rootKey, err := offline.Generate(ctx, "root-1", keystore.P384)
	if err != nil {
		log.Fatal(err)
	}
	root, err := ca.CreateRoot(rootKey, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		log.Fatal(err)
	}

	key, err := online.Generate(ctx, "intermediate-1", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		log.Fatal(err)
	}
	response, err := root.SignIntermediate(request, ca.IntermediateRequest{Lifetime: 180 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	intermediate, err := ca.AcceptIntermediate(response, key, root.Certificate(), time.Now())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(intermediate.Certificate().MaxPathLen, intermediate.Certificate().CheckSignatureFrom(root.Certificate()))
	// Output: 0 <nil>
}

// Everything that is issued is recorded before it is released, and a policy may refuse or shorten.
func ExampleAuthority_Under() {
	ctx := context.Background()
	memory := keystore.NewMemory() // keys and records; a directory or a database in earnest
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	issued, err := ca.OpenLog(ctx, memory, "issued")
	if err != nil {
		log.Fatal(err)
	}
	key, err := memory.Generate(ctx, "root-1", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		log.Fatal(err)
	}
	root = root.Under(ca.Rules{
		Recorder: issued.Recorder(ctx),
		Policy: func(r ca.Request, granted time.Duration) (time.Duration, error) {
			if r.Identity.Role == fingerprint.User {
				return 8 * time.Hour, nil // a working day
			}
			return granted, nil
		},
	})
	user, err := id.Member(fingerprint.User, "alice")
	if err != nil {
		log.Fatal(err)
	}
	userKey, err := memory.Generate(ctx, "alice", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range []bool{false, true} {
		if _, err := root.Issue(ca.Request{Cluster: id, Identity: user, PublicKey: userKey.Public(), Job: job}); err != nil {
			log.Fatal(err)
		}
	}
	for i, err := range issued.All(ctx, time.Time{}) {
		fmt.Println(i.Kind, i.Identity, i.NotAfter.Sub(i.NotBefore), err)
	}
	witnessed := issued.Head()
	swept, err := issued.Sweep(ctx, time.Now().Add(2*time.Hour))
	fmt.Println(swept, err, issued.Verify(ctx, time.Now().Add(2*time.Hour), witnessed))
	// Output:
	// user leaf spiffe://prod.example/user/alice 8h5m0s <nil>
	// user job leaf spiffe://prod.example/user/alice 1h5m0s <nil>
	// 1 <nil> <nil>
}

// A company's CA signed our CA certificate: members trust that certificate, by its key, and nothing above it.
func ExampleImport() {
	ctx := context.Background()
	keys := keystore.NewMemory()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	companyKey, err := keys.Generate(ctx, "company", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	company, err := ca.CreateRoot(companyKey, ca.RootRequest{Cluster: id, Generation: 1}) // stands for any CA that signs PKCS#10
	if err != nil {
		log.Fatal(err)
	}
	key, err := keys.Generate(ctx, "ours", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := company.SignIntermediate(request, ca.IntermediateRequest{})
	if err != nil {
		log.Fatal(err)
	}
	ours, err := ca.Import(answer, key, id, time.Now())
	if err != nil {
		log.Fatal(err)
	}

	// An operator brings a node's certificate: it is taken after all that a peer would ask.
	node, err := id.Member(fingerprint.Node, "octopus")
	if err != nil {
		log.Fatal(err)
	}
	nodeKey, err := keys.Generate(ctx, "octopus", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	leaf, err := ours.Issue(ca.Request{Cluster: id, Identity: node, PublicKey: nodeKey.Public()})
	if err != nil {
		log.Fatal(err)
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate.Raw})
	for _, anchor := range []*ca.Authority{ours, company} {
		_, err = ca.AcceptLeaf(ca.Supplied{Cluster: id, Identity: node, Anchor: anchor.Certificate(), Chain: file, Signer: nodeKey})
		fmt.Println(err == nil)
	}
	// Output:
	// true
	// false
}

// Two roots stand side by side: the newest signs, and the old one goes when nothing of it is in use.
func ExampleAuthorities() {
	ctx := context.Background()
	memory := keystore.NewMemory()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	issued, err := ca.OpenLog(ctx, memory, "issued")
	if err != nil {
		log.Fatal(err)
	}
	set, err := ca.NewAuthorities()
	if err != nil {
		log.Fatal(err)
	}
	var last *ca.Authority
	for generation := 1; generation <= 2; generation++ {
		key, err := memory.Generate(ctx, fmt.Sprintf("root-%d", generation), keystore.P256)
		if err != nil {
			log.Fatal(err)
		}
		last, err = ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: generation, Rules: ca.Rules{Recorder: issued.Recorder(ctx)}})
		if err != nil {
			log.Fatal(err)
		}
		if set, err = set.With(last); err != nil {
			log.Fatal(err)
		}
	}
	signer, err := set.Signer(fingerprint.Key{}) // the newest; or name one
	if err != nil {
		log.Fatal(err)
	}
	node, err := id.Member(fingerprint.Node, "octopus")
	if err != nil {
		log.Fatal(err)
	}
	key, err := memory.Generate(ctx, "octopus", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := signer.Issue(ca.Request{Cluster: id, Identity: node, PublicKey: key.Public()}); err != nil {
		log.Fatal(err)
	}
	_, needing, err := set.Without(last.Key(), issued.All(ctx, time.Time{}), time.Now(), false)
	fmt.Println(len(needing), errors.Is(err, ca.ErrNeeded))
	_, needing, err = set.Without(last.Key(), issued.All(ctx, time.Time{}), time.Now().Add(48*time.Hour), false)
	fmt.Println(len(needing), err)
	// Output:
	// 1 true
	// 0 <nil>
}

// What an authority took back, for verifiers outside the cluster. Members have the registry.
func ExampleAuthority_CRL() {
	ctx := context.Background()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	key, err := keystore.NewMemory().Generate(ctx, "root-1", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		log.Fatal(err)
	}
	const keyCompromise = 1
	list, err := root.CRL(ca.CRLRequest{Number: 12, Revoked: []x509.RevocationListEntry{
		{SerialNumber: big.NewInt(4711), RevocationTime: time.Now(), ReasonCode: keyCompromise},
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(list.Number, len(list.RevokedCertificateEntries), list.NextUpdate.After(time.Now()), list.CheckSignatureFrom(root.Certificate()))
	// Output:
	// 12 1 true <nil>
}

// Hosts are judged before anything is written down.
func ExampleCheckHosts() {
	fmt.Println(ca.CheckHosts(fingerprint.Node, []string{"octopus.example", "192.0.2.1"}))
	fmt.Println(ca.CheckHosts(fingerprint.Node, []string{"Octopus"}))
	// Output:
	// <nil>
	// ca: "Octopus" is neither an IP address nor a lower-case DNS name: host names are not allowed
}
