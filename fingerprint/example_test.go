package fingerprint_test

import (
	"fmt"
	"log"

	"github.com/clusterca/clusterca/fingerprint"
)

// An identity has one spelling, which gives it back.
func ExampleParseIdentity() {
	anna := fingerprint.Identity{Domain: "prod.example", Role: fingerprint.User, ID: "anna@example.org"}
	fmt.Println(anna)
	back, err := fingerprint.ParseIdentity("spiffe://prod.example/user/anna_40example.org")
	fmt.Println(back == anna, err)
	_, err = fingerprint.ParseIdentity("spiffe://Prod.example/user/anna")
	fmt.Println(err)
	// Output:
	// spiffe://prod.example/user/anna_40example.org
	// true <nil>
	// fingerprint: trust domain "Prod.example": label "Prod" is not lower-case letters, digits and inner hyphens: not an identity of a cluster
}

// A cluster is named once; its members are named by it.
func ExampleNewCluster() {
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	node, err := id.Member(fingerprint.Node, fingerprint.NewUUID())
	fmt.Println(id.URI(), node.Role, len(node.ID), err)
	// Output: spiffe://prod.example node 36 <nil>
}

// A registry says which key is whose, now and next; edits make new ones.
func ExampleNewRegistry() {
	node := fingerprint.Identity{Domain: "prod.example", Role: fingerprint.Node, ID: "octopus"}
	old, next := fingerprint.OfKey([]byte("old")), fingerprint.OfKey([]byte("next"))
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, nil)
	if err != nil {
		log.Fatal(err)
	}
	check := func() {
		fmt.Println(r.Version(), r.Check(node, old, fingerprint.Listed), r.Check(node, next, fingerprint.Listed))
	}
	for _, edit := range []func() (*fingerprint.Registry, error){
		func() (*fingerprint.Registry, error) {
			return r.Add(fingerprint.Entry{Member: node, Current: old})
		},
		func() (*fingerprint.Registry, error) { return r.ListNext(node, next) },
		func() (*fingerprint.Registry, error) { return r.Promote(node) },
		func() (*fingerprint.Registry, error) { return r.SetPrivileged(node, true) },
		func() (*fingerprint.Registry, error) { return r.Revoke(node) },
		func() (*fingerprint.Registry, error) { return r.Put() }, // as many entries as one likes
	} {
		if r, err = edit(); err != nil {
			log.Fatal(err)
		}
		check()
	}
	text, err := r.AppendText(nil)
	if err != nil {
		log.Fatal(err)
	}
	again, err := fingerprint.ParseRegistry(r.Version(), text)
	fmt.Println(again.Digest() == r.Digest(), again.Len(), err)
	entry, _ := again.Member(node)
	byKey, _ := again.ByKey(next)
	fmt.Println(entry == byKey, entry.Revoked)
	for e := range again.Entries() {
		fmt.Println(e.Member.ID)
	}
	// Output:
	// 1.2 admitted not-listed-key
	// 1.3 admitted admitted
	// 1.4 not-listed-key admitted
	// 1.5 not-listed-key admitted
	// 1.6 revoked revoked
	// 1.7 revoked revoked
	// true 1 <nil>
	// true true
	// octopus
}

// Keys and certificates have fingerprints of two types, so that they cannot be confused.
func ExampleOfKey() {
	key := fingerprint.OfKey([]byte("a SubjectPublicKeyInfo in DER"))
	certificate := fingerprint.OfCertificate([]byte("a certificate in DER"))
	fmt.Println(key.Short(), certificate.Short())
	_, err := fingerprint.OfPublicKey("not a key")
	fmt.Println(err)
	// Output:
	// ed69b808… 68ebe6f9…
	// fingerprint: x509: unsupported public key type: string
}

// Versions are ordered as pairs.
func ExampleParseVersion() {
	v, err := fingerprint.ParseVersion("1.17")
	fmt.Println(v.Next(), v.Less(fingerprint.Version{Term: 2, Number: 1}), err)
	// Output: 1.18 true <nil>
}
