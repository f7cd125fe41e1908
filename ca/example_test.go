package ca_test

import (
	"context"
	"fmt"
	"log"
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
	for i, err := range issued.All(ctx) {
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
