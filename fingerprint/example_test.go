package fingerprint_test

import (
	"fmt"
	"log"
	"time"

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
		verdict := func(k fingerprint.Key) fingerprint.Verdict {
			return r.Check(fingerprint.Presented{Member: node, Key: k}, fingerprint.Listed)
		}
		fmt.Println(r.Version(), verdict(old), verdict(next))
	}
	for _, edit := range []func() (*fingerprint.Registry, error){
		func() (*fingerprint.Registry, error) {
			return r.Add(fingerprint.Entry{Member: node, Current: old})
		},
		func() (*fingerprint.Registry, error) { return r.ListNext(node, next) },
		func() (*fingerprint.Registry, error) { return r.Promote(node) },
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
	// 1.5 revoked revoked
	// 1.6 revoked revoked
	// true 1 <nil>
	// true true
	// octopus
}

// Promoting a member to a privileged one, narrowing it, and letting go of the tombstones of long ago are edits too.
func ExampleRegistry_SetPrivileged() {
	cluster := fingerprint.ClusterID{Domain: "prod.example"}
	ca, _ := cluster.Member(fingerprint.Control, "ca-1")
	node, _ := cluster.Member(fingerprint.Node, "octopus")
	leaf := fingerprint.OfCertificate([]byte("a certificate in DER"))
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, []fingerprint.Entry{
		{Member: ca, Current: fingerprint.OfKey([]byte("ca-1"))},
		{Member: node, Current: fingerprint.OfKey([]byte("octopus"))},
	})
	for _, edit := range []func() (*fingerprint.Registry, error){
		func() (*fingerprint.Registry, error) { return r.SetPrivileged(node, true) },
		func() (*fingerprint.Registry, error) { return r.SetPins(node, leaf, fingerprint.Certificate{}) },
		func() (*fingerprint.Registry, error) { return r.VoidBefore(node, now.Add(-time.Hour), now) },
		func() (*fingerprint.Registry, error) {
			return r.VoidRole(fingerprint.Cutoff{Role: fingerprint.User, Before: now}, now)
		},
		func() (*fingerprint.Registry, error) { return r.Forget(now) },
	} {
		if err == nil {
			r, err = edit()
		}
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Version(), r.Cutoffs())
	peer := fingerprint.Presented{Member: node, Key: fingerprint.OfKey([]byte("octopus")), Leaf: leaf, NotBefore: now.Add(-2 * time.Hour)}
	fmt.Println(r.Check(peer, fingerprint.Open))
	_, err = r.SetPrivileged(node, false)
	fmt.Println(err)
	// Output:
	// 1.6 [{user 2026-11-25 12:00:00 +0000 UTC}]
	// void
	// fingerprint: nobody would be privileged any more, promote another member first: would lock everybody out
}

// A difference is what changed, and is believed when it leads to the digest that was signed.
func ExampleDifference() {
	node := fingerprint.Identity{Domain: "prod.example", Role: fingerprint.Node, ID: "octopus"}
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, []fingerprint.Entry{{Member: node, Current: fingerprint.OfKey(nil)}})
	if err != nil {
		log.Fatal(err)
	}
	next, err := r.Revoke(node)
	if err != nil {
		log.Fatal(err)
	}
	difference := fingerprint.Difference(r, next)
	fmt.Print(string(difference))
	there, err := r.Apply(next.Version(), difference, next.Digest())
	fmt.Println(there.Digest() == next.Digest(), err)
	// Output:
	// clusterca registry difference 2
	// +spiffe://prod.example/node/octopus e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 - r
	// true <nil>
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

// What people and old systems write is read by name.
func ExampleParseCertificate() {
	der := []byte("a certificate in DER")
	c, err := fingerprint.ParseCertificate("68:EB:E6:F9:FF:6B:B6:27:59:3F:98:5E:9A:EE:F7:A7:2F:23:87:91:2D:BF:E1:3B:7C:4C:BC:EA:3A:71:33:45")
	fmt.Println(c == fingerprint.OfCertificate(der), err)
	k, err := fingerprint.ParseKey(fingerprint.OfKey(der).String())
	fmt.Println(k == fingerprint.OfKey(der), err)
	old, err := fingerprint.ParseOldCertificate("2B:BE:95:18:67:33:03:5E:45:09:BF:C4:C8:EB:E1:75:69:CB:DB:21")
	fmt.Println(err)
	fmt.Println(old.Names(der))
	_, err = fingerprint.ParseCertificate("2B:BE")
	fmt.Println(err)
	// Output:
	// true <nil>
	// true <nil>
	// <nil>
	// true <nil>
	// fingerprint: "2B:BE" has 4 digits, 64 are wanted: not a fingerprint
}

// Versions are ordered as pairs.
func ExampleParseVersion() {
	v, err := fingerprint.ParseVersion("1.17")
	fmt.Println(v.Next(), v.Less(fingerprint.Version{Term: 2, Number: 1}), err)
	// Output: 1.18 true <nil>
}
