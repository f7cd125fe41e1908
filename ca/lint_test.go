package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// counting counts its signatures.
type counting struct {
	crypto.Signer
	signed int
}

func (c *counting) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.signed++
	return c.Signer.Sign(r, digest, opts)
}

func testKey(t testing.TB, a keystore.Algorithm) keystore.Signer {
	t.Helper()
	k, err := keystore.NewMemory().Generate(context.Background(), "k", a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A11, A18, B96: each rule of the lint is broken once, the signature algorithm of the key's among them, by a draft that
// is encoded otherwise than it was asked for.
func TestLint(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	cluster := fingerprint.ClusterID{Domain: "prod.example", UUID: fingerprint.NewUUID()}
	root, err := CreateRoot(testKey(t, keystore.P256), RootRequest{Cluster: cluster, Generation: 1, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	other, err := CreateRoot(testKey(t, keystore.P384), RootRequest{Cluster: cluster, Generation: 2, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := acceptable(testKey(t, keystore.P256).Public())
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() draft {
		return draft{
			profile: leafProfiles[fingerprint.Node], validity: validity{now, now.Add(time.Hour)}, key: leafKey,
			subject: subjectOf(cluster, "", "n").encode(), issuer: root.certificate, by: root.key.scheme, serial: [16]byte{1, 15: 1}, cluster: cluster.UUID,
			uri: "spiffe://prod.example/node/n", dns: []string{"a.example"}, addresses: [][]byte{{10, 0, 0, 1}},
		}
	}
	authority := func() draft {
		d := *authorityDraft(rootProfile, cluster, root.key, validity{now, now.Add(time.Hour)})
		d.subject, d.by, d.serial = root.certificate.RawSubject, root.key.scheme, [16]byte{1, 15: 1}
		return d
	}
	profiled := func(change func(*profile)) func(*draft) {
		return func(d *draft) {
			p := *d.profile
			change(&p)
			d.profile = &p
		}
	}
	for _, test := range []struct {
		says    string
		draft   func() draft
		encoded func(*draft) // how the encoder goes astray
		asked   func(*draft) // what was wrong when it was asked for
	}{
		{"serial number", leaf, func(d *draft) { d.serial[3] ^= 1 }, nil},
		{"signature algorithm", leaf, func(d *draft) { d.by = other.key.scheme }, nil},
		{"issuer name", leaf, func(d *draft) { d.issuer = other.certificate }, nil},
		{"issuer name", leaf, nil, func(d *draft) { d.subject = root.certificate.RawSubject }},
		{"dates", leaf, func(d *draft) { d.notAfter = d.notAfter.Add(time.Second) }, nil},
		{"dates", leaf, nil, func(d *draft) { d.notAfter = d.notBefore.Add(-time.Second) }},
		{"lives longer", leaf, nil, func(d *draft) { d.notAfter = d.notBefore.Add(91 * day) }},
		{"outlives", leaf, nil, func(d *draft) {
			d.notBefore, d.notAfter = root.certificate.NotAfter, root.certificate.NotAfter.Add(time.Hour)
		}},
		{"outlives", leaf, nil, func(d *draft) { d.notBefore = root.certificate.NotBefore.Add(-time.Second) }},
		{"subject", leaf, func(d *draft) { d.subject = subjectOf(cluster, "", "m").encode() }, nil},
		{"subject", leaf, nil, func(d *draft) { d.subject = subject{"o", "n", fingerprint.NewUUID()}.encode() }},
		{"subject", leaf, nil, func(d *draft) { d.subject = []byte{tagSequence, 0} }},
		{"public key", leaf, func(d *draft) { d.key.spki = other.key.spki }, nil},
		{"its issuer's", leaf, nil, func(d *draft) { d.key = root.key }},
		{"key usage", leaf, profiled(func(p *profile) { p.keyUsage = certifies }), nil},
		{"key usage", authority, profiled(func(p *profile) { p.keyUsage |= signs }), nil},
		{"extended key usage", leaf, profiled(func(p *profile) { p.purposes = []purpose{clientAuth} }), nil},
		{"extended key usage", leaf, profiled(func(p *profile) { p.purposes = []purpose{serverAuth, documentOnly} }), nil},
		{"extended key usage", leaf, profiled(func(p *profile) { p.purposes = nil }), nil},
		{"basic constraints", leaf, profiled(func(p *profile) { p.isCA = true }), nil},
		{"basic constraints", authority, profiled(func(p *profile) { p.pathLength = 0 }), nil},
		{"basic constraints", authority, profiled(func(p *profile) { p.isCA = false }), nil},
		{"no such CA below", authority, nil, func(d *draft) {
			d.issuer = &x509.Certificate{MaxPathLen: 2, RawSubject: other.certificate.RawSubject, NotBefore: d.notBefore, NotAfter: d.notAfter, SubjectKeyId: []byte{1}}
		}},
		{"subject key identifier", leaf, func(d *draft) { d.key.fingerprint[0] ^= 1 }, nil},
		{"authority key identifier", leaf, func(d *draft) { changed := *d.issuer; changed.SubjectKeyId = []byte{1}; d.issuer = &changed }, nil},
		{"names", leaf, func(d *draft) { d.dns = nil }, nil},
		{"names", leaf, func(d *draft) { d.addresses = [][]byte{{10, 0, 0, 2}} }, nil},
		{"URI", leaf, func(d *draft) { d.uri = "spiffe://prod.example/node/m" }, nil},
		{"URI", leaf, func(d *draft) { d.uri = "" }, nil},
		{"URI", leaf, nil, func(d *draft) { d.uri = "spiffe://prod.example/node/%6e" }},
		{"URI", leaf, nil, func(d *draft) { d.uri = "spiffe://prod.example/user/n" }}, // a user's name with a node's usages
		{"URI", authority, nil, func(d *draft) { d.uri = "spiffe://prod.example/node/n" }},
		{"critical extensions", leaf, func(d *draft) { d.domain = "prod.example" }, nil},
		{"critical extensions", authority, func(d *draft) { d.domain = "" }, nil},
		{"name constraints", authority, func(d *draft) { d.domain = "example" }, nil},
	} {
		asked := test.draft()
		if err := lintOf(asked, asked); err != nil {
			t.Fatalf("%s: the good draft: %v", test.says, err)
		}
		if test.asked != nil {
			test.asked(&asked)
		}
		made := asked
		if test.encoded != nil {
			test.encoded(&made)
		}
		if err := lintOf(asked, made); !errors.Is(err, ErrNotAsked) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("want %q, got %v", test.says, err)
		}
	}
}

// lintOf holds the rules for one draft against the encoding of another.
func lintOf(asked, made draft) error {
	encoded, err := made.encode()
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(encoded)
	if err != nil {
		return err
	}
	return asked.lint(c)
}

// A key must not have signed what the lint refuses, not even for nobody to see.
func TestLintComesBeforeTheSignature(t *testing.T) {
	cluster := fingerprint.ClusterID{Domain: "prod.example", UUID: fingerprint.NewUUID()}
	signer := &counting{Signer: testKey(t, keystore.P256)}
	root, err := CreateRoot(signer, RootRequest{Cluster: cluster, Generation: 1})
	if err != nil || signer.signed != 1 {
		t.Fatalf("%d signatures for a root, %v", signer.signed, err)
	}
	key, err := acceptable(testKey(t, keystore.P256).Public())
	if err != nil {
		t.Fatal(err)
	}
	d := &draft{profile: documentProfile, key: key, cluster: cluster.UUID, subject: subjectOf(cluster, "", "n").encode(), validity: root.span()}
	if _, err := root.sign(d); !errors.Is(err, ErrNotAsked) {
		t.Errorf("five years for a document signer: %v", err)
	}
	if signer.signed != 1 {
		t.Error("the certificate that the lint refused was signed")
	}
	d.notAfter = d.notBefore.Add(day)
	if _, err := root.sign(d); err != nil || signer.signed != 2 {
		t.Errorf("%d signatures in all, %v", signer.signed, err)
	}
}
