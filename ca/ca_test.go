package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// A1, A2, A20, B9: roots of one cluster are told apart by name, and all name the cluster by value.
func TestRootSubjects(t *testing.T) {
	id := newID(t)
	first, second := newRoot(t, id, 1, keystore.P256), newRoot(t, id, 2, keystore.P256)
	if string(first.Certificate().RawSubject) == string(second.Certificate().RawSubject) {
		t.Error("two generations share a subject")
	}
	for _, root := range []*ca.Authority{first, second} {
		c := root.Certificate()
		if ca.ClusterUUIDOf(c) != id.UUID || len(c.URIs) != 1 || c.URIs[0].String() != id.URI() {
			t.Errorf("root names cluster %q, URIs %v", ca.ClusterUUIDOf(c), c.URIs)
		}
		if c.MaxPathLen != 2 || !c.PermittedDNSDomainsCritical || len(c.PermittedURIDomains) != 1 {
			t.Errorf("path length %d, constraints %v critical %v", c.MaxPathLen, c.PermittedURIDomains, c.PermittedDNSDomainsCritical)
		}
	}
}

// A24, A28, A31, A32, B5, B6: what a leaf says, by role.
func TestLeafProfile(t *testing.T) {
	id := newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	for role, usages := range map[fingerprint.Role][]x509.ExtKeyUsage{
		fingerprint.Control: {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		fingerprint.Node:    {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		fingerprint.User:    {x509.ExtKeyUsageClientAuth},
	} {
		c := newLeaf(t, root, id, role, keystore.P256).Certificate
		got, err := ca.IdentityOf(c)
		if err != nil || got != member(t, id, role, "octo_pus 1") {
			t.Errorf("%s: identity %v, %v", role, got, err)
		}
		if len(c.ExtKeyUsage) != len(usages) || c.ExtKeyUsage[0] != usages[0] || c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA {
			t.Errorf("%s: usages %v, %v", role, c.ExtKeyUsage, c.KeyUsage)
		}
		if len(c.SubjectKeyId) != 20 || string(c.AuthorityKeyId) != string(root.Certificate().SubjectKeyId) {
			t.Errorf("%s: key identifiers %x, %x", role, c.SubjectKeyId, c.AuthorityKeyId)
		}
		if n := c.SerialNumber.BitLen(); n > 127 || n < 80 || c.SerialNumber.Sign() <= 0 {
			t.Errorf("%s: serial of %d bits", role, n)
		}
		for _, e := range c.Extensions {
			if e.Id.String() == "2.5.29.15" && !e.Critical {
				t.Errorf("%s: key usage is not critical", role)
			}
		}
		hosts := len(c.DNSNames) + len(c.IPAddresses)
		if want := map[bool]int{true: 0, false: 3}[role == fingerprint.User]; hosts != want {
			t.Errorf("%s: %d hosts, want %d", role, hosts, want)
		}
	}
}

// A12, A13, A14, B50, B51: dates, caps, and what outlives its issuer.
func TestLifetimes(t *testing.T) {
	id := newID(t)
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	day := 24 * time.Hour
	root, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: id, Generation: 1, Now: now, Lifetime: 3 * day})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(change func(*ca.Request)) (*ca.Leaf, error) {
		r := ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public(), Now: now}
		change(&r)
		return root.Issue(r)
	}
	for _, test := range []struct {
		name   string
		change func(*ca.Request)
		ends   time.Time // zero: refused
		says   string
	}{
		{"default", func(r *ca.Request) {}, now.Add(day), ""},
		{"asked for", func(r *ca.Request) { r.Lifetime = time.Hour }, now.Add(time.Hour), ""},
		{"over the cap", func(r *ca.Request) { r.Lifetime = 91 * day }, time.Time{}, "at most"},
		{"negative", func(r *ca.Request) { r.Lifetime = -1 }, time.Time{}, "at most"},
		{"outlives the issuer", func(r *ca.Request) { r.Lifetime = 10 * day }, time.Time{}, now.Add(3 * day).Format(time.RFC3339)},
		{"clamped", func(r *ca.Request) { r.Lifetime, r.Clamp = 10*day, true }, now.Add(3 * day), ""},
		{"backdated too far", func(r *ca.Request) { r.Backdate = 2 * time.Hour }, time.Time{}, "backdated"},
		{"issuer expired", func(r *ca.Request) { r.Now, r.Clamp = now.Add(4*day), true }, time.Time{}, "renew it first"},
	} {
		leaf, err := issue(test.change)
		switch {
		case test.ends.IsZero():
			if !errors.Is(err, ca.ErrLifetime) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v, want ErrLifetime that says %q", test.name, err, test.says)
			}
		case err != nil || !leaf.Certificate.NotAfter.Equal(test.ends):
			t.Errorf("%s: %v, want an end at %v", test.name, err, test.ends)
		}
	}
	leaf, err := issue(func(r *ca.Request) { r.Backdate = time.Hour })
	if err != nil || !leaf.Certificate.NotBefore.Equal(root.Certificate().NotBefore) {
		t.Errorf("a leaf begins %v before its issuer %v (%v)", leaf.Certificate.NotBefore, root.Certificate().NotBefore, err)
	}
}

// A16, B7: from a request only the key is taken, and only after it proved itself.
func TestParseRequest(t *testing.T) {
	id := newID(t)
	node := member(t, id, fingerprint.Node, "n")
	good, err := ca.NewRequest(newKey(t, keystore.P256), node)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.NewRequest(newKey(t, keystore.P256), member(t, id, fingerprint.Control, "n"))
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{}, good...)
	forged[len(forged)-1] ^= 1
	weakKey, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weakKey)
	if err != nil {
		t.Fatal(err)
	}
	made := func(change func(*x509.CertificateRequest)) []byte {
		template := &x509.CertificateRequest{}
		change(template)
		der, err := x509.CreateCertificateRequest(rand.Reader, template, newKey(t, keystore.P256))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	uri := func(s string) *url.URL { return &url.URL{Scheme: "spiffe", Opaque: strings.TrimPrefix(s, "spiffe:")} }
	asks := func(id asn1.ObjectIdentifier, value ...byte) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { r.ExtraExtensions = []pkix.Extension{{Id: id, Value: value}} }
	}
	basicConstraints, keyUsage := asn1.ObjectIdentifier{2, 5, 29, 19}, asn1.ObjectIdentifier{2, 5, 29, 15}
	for _, test := range []struct {
		name string
		der  []byte
		want error
	}{
		{"good", good, nil},
		{"names nobody", made(func(*x509.CertificateRequest) {}), nil},
		{"names that are not taken", made(func(r *x509.CertificateRequest) { r.Subject.CommonName, r.DNSNames = "root", []string{"evil.example"} }), nil},
		{"its own name", made(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{uri(node.String())} }), nil},
		{"its own name twice", made(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{uri(node.String()), uri(node.String())} }), ca.ErrRequest},
		{"its own name in capitals", made(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{uri("spiffe://PROD.example/node/n")} }), ca.ErrRequest},
		{"its own name percent-encoded", made(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{uri("spiffe://prod.example/node/%6e")} }), ca.ErrRequest},
		{"wants to be a CA", made(asks(basicConstraints, 0x30, 3, 1, 1, 0xff)), ca.ErrRequest},
		{"wants to be no CA", made(asks(basicConstraints, 0x30, 0)), nil},
		{"wants to sign certificates", made(asks(keyUsage, 3, 2, 2, 4)), ca.ErrRequest},
		{"wants to sign revocation lists", made(asks(keyUsage, 3, 2, 1, 2)), ca.ErrRequest},
		{"wants to sign", made(asks(keyUsage, 3, 2, 7, 0x80)), nil},
		{"unreadable key usage", made(asks(keyUsage, 3, 9)), ca.ErrRequest},
		{"names another identity", other, ca.ErrRequest},
		{"signature does not verify", forged, ca.ErrRequest},
		{"data after it", append(append([]byte{}, good...), 0), ca.ErrRequest},
		{"cut off", good[:len(good)-1], ca.ErrRequest},
		{"too large", make([]byte, 1<<20), ca.ErrRequest},
		{"weak key", weak, keystore.ErrAlgorithm},
	} {
		if _, err := ca.ParseRequest(test.der, node); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// A29, A30, A32: what may be asked for.
func TestHosts(t *testing.T) {
	id := newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	for _, test := range []struct {
		role fingerprint.Role
		host string
		good bool
	}{
		{fingerprint.Node, "a.example", true},
		{fingerprint.Node, "a", true},
		{fingerprint.Node, "10.0.0.1", true},
		{fingerprint.Node, "::1", true},
		{fingerprint.Node, "fe80::1%eth0", false},
		{fingerprint.Node, "10.0.0.256", false},
		{fingerprint.Node, "*.example", false},
		{fingerprint.Node, "A.example", false},
		{fingerprint.Node, "a_b.example", false},
		{fingerprint.Node, ".example", false},
		{fingerprint.Node, "", false},
		{fingerprint.User, "a.example", false},
	} {
		_, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, test.role, "n"), PublicKey: newKey(t, keystore.P256).Public(), Hosts: []string{test.host}})
		if test.good != (err == nil) || err != nil && !errors.Is(err, ca.ErrNames) {
			t.Errorf("%s for %q: %v", test.role, test.host, err)
		}
	}
}

// liar has one key's public half and another's private one, as a token that lost its way does.
type liar struct {
	crypto.Signer
	signs crypto.Signer
}

func (l liar) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return l.signs.Sign(r, digest, opts)
}

// B21, B96: a signer that signs with another key, or for another certificate, releases nothing.
func TestSignerIsChecked(t *testing.T) {
	id := newID(t)
	lying := liar{newKey(t, keystore.P256), newKey(t, keystore.P256)}
	if _, err := ca.CreateRoot(lying, ca.RootRequest{Cluster: id, Generation: 1}); err == nil {
		t.Error("a root was made by another key's signature")
	}
	root := newRoot(t, id, 1, keystore.P256)
	if _, err := ca.Open(root.Certificate(), newKey(t, keystore.P256)); !errors.Is(err, ca.ErrMismatch) {
		t.Errorf("open with another key: %v", err)
	}
	leaf := newLeaf(t, root, id, fingerprint.Node, keystore.P256)
	if _, err := ca.Open(leaf.Certificate, newKey(t, keystore.P256)); err == nil {
		t.Error("a leaf was opened as an authority")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		if _, err := ca.CreateRoot(weak, ca.RootRequest{Cluster: id, Generation: 1}); !errors.Is(err, keystore.ErrAlgorithm) {
			t.Errorf("RSA of 1024 bits: %v", err)
		}
	}
}

// A cluster's authority signs for that cluster alone.
func TestOtherCluster(t *testing.T) {
	id, other := newID(t), newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	_, err := root.Issue(ca.Request{Cluster: other, Identity: member(t, other, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()})
	if !errors.Is(err, fingerprint.ErrIdentity) {
		t.Errorf("issue for another cluster of the same name: %v", err)
	}
	if _, err := root.Bridge(newRoot(t, other, 2, keystore.P256).Certificate()); err == nil {
		t.Error("a bridge to another cluster was made")
	}
	if _, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()}); err == nil {
		t.Error("a node got a document signer")
	}
	// The UUID alone is not the cluster: the trust domain is what the root's own constraint permits.
	renamed := fingerprint.ClusterID{Domain: "other.example", UUID: id.UUID}
	_, err = root.Issue(ca.Request{Cluster: renamed, Identity: member(t, renamed, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()})
	if !errors.Is(err, fingerprint.ErrIdentity) {
		t.Errorf("issue for another trust domain: %v", err)
	}
	if _, err := root.Bridge(newRoot(t, renamed, 2, keystore.P256).Certificate()); !errors.Is(err, fingerprint.ErrIdentity) {
		t.Errorf("a bridge to another trust domain: %v", err)
	}
}

// A bridge makes no CA of what is none.
func TestBridgeToLeaf(t *testing.T) {
	id := newID(t)
	root, key := newRoot(t, id, 1, keystore.P256), newKey(t, keystore.P256)
	uri, err := url.Parse(id.URI())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "leaf", SerialNumber: id.UUID},
		URIs: []*url.URL{uri}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Bridge(leaf); err == nil {
		t.Error("a leaf became a CA")
	}
}

// Any span down to seconds can be asked for, whole seconds or not (B51).
func TestShortAndBrokenSpans(t *testing.T) {
	id := newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	for _, life := range []time.Duration{10 * time.Second, 90 * time.Second, 19*time.Minute + time.Second, time.Hour + time.Millisecond} {
		for _, backdate := range []time.Duration{0, 1500 * time.Millisecond} {
			leaf, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public(),
				Lifetime: life, Backdate: backdate, Now: time.Now().Add(time.Minute)})
			if err != nil {
				t.Errorf("%s, backdated by %s: %v", life, backdate, err)
			} else if span := leaf.Certificate.NotAfter.Sub(leaf.Certificate.NotBefore); span < life {
				t.Errorf("%s, backdated by %s: lives %s", life, backdate, span)
			}
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	id := fingerprint.ClusterID{Domain: "prod.example", UUID: fingerprint.NewUUID()}
	node := fingerprint.Identity{Domain: id.Domain, Role: fingerprint.Node, ID: "n"}
	good, err := ca.NewRequest(newKey(f, keystore.P256), node)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		public, err := ca.ParseRequest(der, node)
		if err == nil && public == nil {
			t.Error("neither key nor error")
		}
	})
}

func FuzzIdentityOf(f *testing.F) {
	f.Add([]byte{0x30, 4, 0x86, 2, 'a', ':'})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, san []byte) {
		c := &x509.Certificate{}
		c.Extensions = append(c.Extensions, sanExtension(san))
		if id, err := ca.IdentityOf(c); err == nil && id.Validate() != nil {
			t.Errorf("identity %q is not valid", id)
		}
	})
}

func sanExtension(value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}
