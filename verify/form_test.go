package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

var anyone = verify.AnyOf(roles...)

// template is a good leaf of node a.
func (w *world) template(key crypto.PublicKey) *x509.Certificate {
	w.t.Helper()
	return &x509.Certificate{
		SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "a", SerialNumber: w.id.UUID},
		NotBefore: w.now.Add(-time.Minute), NotAfter: w.now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{uri(w.t, w.member(fingerprint.Node, "a").String())}, PublicKey: key,
	}
}

func uri(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// sign makes what package ca would refuse to.
func sign(t testing.TB, template, issuer *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, template.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A111, A128: what crypto/tls does not look at once it is told not to verify, and x509.Verify lets through. Every leaf
// here is well signed by the trusted root.
func TestWellSignedButWrong(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		edit func(*x509.Certificate)
		want verify.Reason
	}{
		{"nothing wrong", func(*x509.Certificate) {}, "accepted"},
		{"a CA", func(c *x509.Certificate) { c.IsCA = true }, verify.MalformedLeaf},
		{"may sign certificates", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, verify.MalformedLeaf},
		{"may sign CRLs", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, verify.MalformedLeaf},
		{"may not sign handshakes", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, verify.MalformedLeaf},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, verify.MalformedLeaf},
		{"no extended key usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, verify.WrongUsage},
		{"any extended key usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, verify.WrongUsage},
		{"client only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }, verify.WrongUsage},
		{"two identities", func(c *x509.Certificate) { c.URIs = append(c.URIs, uri(t, "spiffe://prod.example/control/ca-1")) }, verify.MalformedLeaf},
		{"an identity and a web page", func(c *x509.Certificate) { c.URIs = append(c.URIs, uri(t, "https://prod.example/")) }, verify.MalformedLeaf},
		{"identity in the common name only", func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, "spiffe://prod.example/node/a" }, verify.MalformedLeaf},
		{"identity spelled otherwise", func(c *x509.Certificate) { c.URIs[0] = uri(t, "spiffe://prod.example/node/_61") }, verify.MalformedLeaf},
		{"identity with a query", func(c *x509.Certificate) { c.URIs[0].RawQuery = "a" }, verify.MalformedLeaf},
		{"another cluster's UUID", func(c *x509.Certificate) { c.Subject.SerialNumber = fingerprint.NewUUID() }, verify.WrongCluster},
		{"no UUID", func(c *x509.Certificate) { c.Subject.SerialNumber = "" }, verify.WrongCluster},
		{"another trust domain", func(c *x509.Certificate) { c.URIs[0] = uri(t, "spiffe://test.example/node/a") }, verify.WrongCluster},
		{"a trust domain below ours", func(c *x509.Certificate) { c.URIs[0] = uri(t, "spiffe://a.prod.example/node/a") }, verify.WrongCluster},
		{"a user that may serve", func(c *x509.Certificate) { c.URIs[0] = uri(t, "spiffe://prod.example/user/eve") }, verify.WrongUsage},
		{"the root's own key", func(c *x509.Certificate) { c.PublicKey = w.keys[0].Public() }, verify.KeyOfAnother},
		{"a document signer's key", func(c *x509.Certificate) { c.PublicKey = w.document.Public() }, verify.KeyOfAnother},
		{"a control member's key", func(c *x509.Certificate) { c.PublicKey = w.control.Public() }, verify.KeyOfAnother},
		{"a curve that is too small", func(c *x509.Certificate) { c.PublicKey = weak.Public() }, verify.WeakKey},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}
		}, verify.UnknownIssuer},
	} {
		t.Run(row.name, func(t *testing.T) {
			template := w.template(newKey(t, keystore.P256).Public())
			row.edit(template)
			leaf := sign(t, template, w.roots[0].Certificate(), w.keys[0])
			if _, err := v.Peer([]*x509.Certificate{leaf}, verify.Server, anyone, w.now); reason(err) != row.want {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
}

// B79, B80: each link between leaf and root is judged, and the refusal says which it was.
func TestIntermediates(t *testing.T) {
	w := newWorld(t, 1)
	leafKey, linkKey := newKey(t, keystore.P256), newKey(t, keystore.P256)
	for _, row := range []struct {
		name  string
		key   crypto.Signer
		edit  func(link, leaf *x509.Certificate)
		want  verify.Reason
		which string
	}{
		{"a good one", linkKey, func(_, _ *x509.Certificate) {}, "accepted", ""},
		{"for clients only", linkKey, func(c, _ *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "accepted", ""},
		{"for servers only", linkKey, func(c, _ *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, verify.WrongUsage, "issuer 1"},
		{"for documents only", linkKey, func(c, _ *x509.Certificate) {
			c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, ca.DocumentSigning)
		}, verify.WrongUsage, "issuer 1"},
		{"ended", linkKey, func(c, _ *x509.Certificate) { c.NotAfter = w.now.Add(-time.Second) }, verify.Expired, `"link"`},
		{"not begun", linkKey, func(c, _ *x509.Certificate) { c.NotBefore = w.now.Add(time.Minute) }, verify.NotYetValid, `"link"`},
		{"not a CA", linkKey, func(c, _ *x509.Certificate) { c.IsCA = false }, verify.UnknownIssuer, "leaf"},
		{"with the leaf's key", leafKey, func(_, _ *x509.Certificate) {}, verify.MalformedChain, "leaf"},
		{"of another key identifier than the leaf names", linkKey, func(_, leaf *x509.Certificate) { leaf.AuthorityKeyId = []byte("another") }, verify.UnknownIssuer, "issuer 1"},
		{"that the leaf names by no key identifier", linkKey, func(c, _ *x509.Certificate) { c.SubjectKeyId = nil }, verify.MalformedLeaf, "leaf"},
	} {
		t.Run(row.name, func(t *testing.T) {
			link, template := w.template(row.key.Public()), w.template(leafKey.Public())
			link.IsCA, link.KeyUsage, link.ExtKeyUsage, link.URIs = true, x509.KeyUsageCertSign, nil, nil
			link.Subject.CommonName, link.NotBefore, link.SubjectKeyId = "link", w.now.Add(-time.Hour), []byte("link")
			template.NotBefore = w.now.Add(-30 * time.Second)
			row.edit(link, template)
			issued := sign(t, link, w.roots[0].Certificate(), w.keys[0])
			parent := *issued
			if template.AuthorityKeyId != nil {
				parent.SubjectKeyId = template.AuthorityKeyId // CreateCertificate takes it from there
			}
			if link.SubjectKeyId == nil {
				parent.SubjectKeyId = nil
			}
			chain := []*x509.Certificate{sign(t, template, &parent, row.key), issued}
			peer, err := w.verifier(w.bundle(1), nil).Peer(chain, verify.Client, anyone, w.now)
			if reason(err) != row.want {
				t.Fatalf("%v, want %s", err, row.want)
			}
			if refusal, ok := err.(*verify.Refusal); ok && refusal.Certificate != row.which {
				t.Errorf("%v, want it to be about %s", err, row.which)
			}
			if err == nil && peer.Issuer != w.roots[0].Key() {
				t.Errorf("issuer %s", peer.Issuer)
			}
		})
	}
}

// A peer that was accepted is good for as long as the shortest-lived link of its chain.
func TestShortestLinkCounts(t *testing.T) {
	w := newWorld(t, 2)
	v := w.verifier(w.bundle(1), nil)
	link := w.template(w.keys[1].Public())
	link.RawSubject, link.SubjectKeyId = w.roots[1].Certificate().RawSubject, w.roots[1].Certificate().SubjectKeyId
	link.IsCA, link.KeyUsage, link.ExtKeyUsage, link.URIs = true, x509.KeyUsageCertSign, nil, nil
	link.NotBefore, link.NotAfter = w.now.Add(-time.Second), w.now.Add(time.Minute)
	bridge := sign(t, link, w.roots[0].Certificate(), w.keys[0])
	chain := []*x509.Certificate{w.issue(2, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now), bridge}
	peer, err := v.Peer(chain, verify.Client, anyone, w.now)
	if err != nil || !peer.NotAfter.Equal(bridge.NotAfter) {
		t.Fatalf("ends %v, want %v (%v)", peer.NotAfter, bridge.NotAfter, err)
	}
	// It is remembered now, and must still end when the bridge does.
	if _, err := v.Peer(chain, verify.Client, anyone, bridge.NotAfter.Add(time.Second)); reason(err) != verify.Expired {
		t.Error(err)
	}
	if _, err := v.Peer(chain, verify.Client, anyone, bridge.NotBefore.Add(-time.Second)); reason(err) != verify.NotYetValid {
		t.Error(err)
	}
	// And the same leaf without the bridge is another chain.
	if _, err := v.Peer(chain[:1], verify.Client, anyone, w.now); reason(err) != verify.UnknownIssuer {
		t.Error(err)
	}
}

// Five certificates are looked at, the sixth is not: it would cost the verifier, not the sender.
func TestCountIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	chain := []*x509.Certificate{w.issue(1, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)}
	for len(chain) < 5 {
		chain = append(chain, w.roots[0].Certificate())
		if _, err := v.Peer(chain, verify.Client, anyone, w.now); err != nil {
			t.Errorf("%d certificates: %v", len(chain), err)
		}
	}
	chain = append(chain, w.roots[0].Certificate())
	if _, err := v.Peer(chain, verify.Client, anyone, w.now); reason(err) != verify.TooManyCerts {
		t.Error(err)
	}
	if _, err := v.Self(chain, w.now); reason(err) != verify.TooManyCerts {
		t.Error(err)
	}
}

// An expectation without a name is not one for every name.
func TestEmptyExpectations(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	chain := []*x509.Certificate{w.issue(1, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)}
	for name, row := range map[string]struct {
		expect verify.Expect
		want   verify.Reason
	}{
		"no host":   {verify.Host(fingerprint.Node, ""), verify.WrongHost},
		"no member": {verify.Member(fingerprint.Identity{}), verify.WrongRole},
		"no role":   {verify.AnyOf(), verify.WrongRole},
		"no side":   {anyone, verify.WrongUsage},
	} {
		side := verify.Server
		if name == "no side" {
			side = ""
		}
		if _, err := v.Peer(chain, side, row.expect, w.now); reason(err) != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A131, B80: one line that names the side, the certificate, the field, both values and what to do, and in which a
// stranger's words cannot begin another line.
func TestRefusalIsReadable(t *testing.T) {
	w := newWorld(t, 1)
	template := w.template(newKey(t, keystore.P256).Public())
	template.Subject.SerialNumber = "evil\nlevel=INFO msg=accepted" + strings.Repeat("!", 1000)
	leaf := sign(t, template, w.roots[0].Certificate(), w.keys[0])
	_, err := w.verifier(w.bundle(1), nil).Peer([]*x509.Certificate{leaf}, verify.Server, anyone, w.now)
	if err == nil {
		t.Fatal("accepted")
	}
	line := err.Error()
	for _, part := range []string{"server", "spiffe://prod.example/node/a", "wrong-cluster", "leaf", "subject serialNumber", w.id.UUID, "the address leads to another cluster"} {
		if !strings.Contains(line, part) {
			t.Errorf("%q does not say %q", line, part)
		}
	}
	if strings.Contains(line, "\n") || len(line) > 600 {
		t.Errorf("a stranger writes our log: %q", line)
	}

	// x509's own error names an issuer that was tried: a presented certificate with a name of any length.
	named := func() (*x509.Certificate, crypto.Signer) {
		key := newKey(t, keystore.P256)
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "evil\n" + strings.Repeat("!", 100_000)},
			NotBefore: w.now, NotAfter: w.now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, PublicKey: key.Public()}
		return sign(t, c, c, key), key
	}
	issuer, _ := named()
	other, otherKey := named()
	leaf = sign(t, w.template(newKey(t, keystore.P256).Public()), other, otherKey)
	_, err = w.verifier(w.bundle(1), nil).Peer([]*x509.Certificate{leaf, issuer}, verify.Server, anyone, w.now)
	if err == nil {
		t.Fatal("accepted")
	}
	if line := err.Error(); strings.Contains(line, "\n") || len(line) > 1500 {
		t.Errorf("a stranger writes our log: %d bytes", len(line))
	}
}

// A131: what stops a rollover is what the CA's own steps could have caused, not a wrong address or clock.
func TestTrustReasons(t *testing.T) {
	for r, want := range map[verify.Reason]bool{
		verify.UnknownIssuer: true, verify.RetiredIssuer: true, verify.NotInRegistry: true, verify.KeyNotRegistered: true,
		verify.KeyOfAnother: true, verify.MalformedChain: false, verify.WeakKey: true, verify.TooManyCerts: true, verify.BeforeCutoff: true, verify.NotPinned: true,
		verify.WrongMember: false, verify.WrongRole: false, verify.WrongCluster: false, verify.WrongHost: false,
		verify.Expired: false, verify.NotYetValid: false, verify.MemberRevoked: false, verify.NoCertificate: false,
	} {
		if r.Trust() != want {
			t.Errorf("%s: %t", r, r.Trust())
		}
	}
}
