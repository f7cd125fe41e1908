package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
	"github.com/clusterca/clusterca/keystore"
)

// corporate is an external CA, made and run by openssl, which knows nothing of clusters.
type corporate struct {
	t    *testing.T
	dir  string
	root *x509.Certificate
}

func newCorporate(t *testing.T) *corporate {
	c := &corporate{t: t, dir: t.TempDir()}
	c.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
		"-subj", "/O=Corporate/CN=Corporate Root", "-days", "3650", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
	c.root = c.read("ca.pem")
	return c
}

func (c *corporate) openssl(args ...string) {
	c.t.Helper()
	cmd := exec.Command(outside.Program(c.t, "openssl"), args...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

func (c *corporate) read(name string) *x509.Certificate {
	c.t.Helper()
	file, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	return parsed
}

// sign answers a request file as such CAs do: the subject is taken from it, and nothing else.
func (c *corporate) sign(request []byte) *x509.Certificate {
	c.t.Helper()
	extensions := "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
	if err := errors.Join(os.WriteFile(filepath.Join(c.dir, "req.pem"), request, 0o600), os.WriteFile(filepath.Join(c.dir, "ext"), []byte(extensions), 0o600)); err != nil {
		c.t.Fatal(err)
	}
	c.openssl("x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "365", "-set_serial", "0x"+strings.Repeat("1f", 15), "-extfile", "ext", "-out", "sub.pem")
	return c.read("sub.pem")
}

// cluster has its CA certificate signed by the corporate CA.
func (c *corporate) cluster() (fingerprint.ClusterID, *ca.Authority) {
	c.t.Helper()
	id := newID(c.t)
	key := newKey(c.t, keystore.P256)
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := ca.Import(chainFile(c.sign(request), c.root), key, id, time.Time{})
	if err != nil {
		c.t.Fatal(err)
	}
	return id, a
}

// A15, B11: under an external root the anchor is our own CA certificate. With that, members are good and those of a
// sister cluster, signed by the same external root, are not; with the external root as the anchor the sister's would
// be.
func TestExternalChain(t *testing.T) {
	corporate := newCorporate(t)
	id, ours := corporate.cluster()
	sister, theirs := corporate.cluster()
	leaf := newLeaf(t, ours, id, fingerprint.Node, keystore.P256)
	stranger := newLeaf(t, theirs, sister, fingerprint.Node, keystore.P256)
	good := func(anchor *x509.Certificate, leaf *ca.Leaf) bool {
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(anchor)
		between.AddCert(leaf.Issuer)
		_, inGo := leaf.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
		err := exec.Command(outside.Program(t, "openssl"), "verify", "-x509_strict", "-partial_chain", "-CAfile", write(t, anchor), "-untrusted", write(t, leaf.Issuer), write(t, leaf.Certificate)).Run()
		if (inGo == nil) != (err == nil) {
			t.Errorf("crypto/x509: %v, openssl: %v", inGo, err)
		}
		return inGo == nil
	}
	if !good(ours.Certificate(), leaf) {
		t.Error("our member is not good under our own anchor")
	}
	if good(ours.Certificate(), stranger) {
		t.Error("the sister's member is good under our anchor")
	}
	if !good(corporate.root, stranger) {
		t.Error("the sister's member is not good under the external root: then this test shows nothing")
	}
	if ca.ClusterUUIDOf(leaf.Certificate) != id.UUID {
		t.Errorf("the leaf is of cluster %s", ca.ClusterUUIDOf(leaf.Certificate))
	}
	if _, err := ours.Issue(ca.Request{Cluster: sister, Identity: member(t, sister, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()}); !errors.Is(err, fingerprint.ErrIdentity) {
		t.Errorf("a leaf for the sister: %v", err)
	}
}

// template is a good CA certificate of a foreign tool, for changing one thing.
func template(id fingerprint.ClusterID) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: "Foreign Root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1,
	}
}

func selfSigned(t *testing.T, c *x509.Certificate, key keystore.Signer) *x509.Certificate {
	t.Helper()
	return signedBy(t, c, c, key, key)
}

func signedBy(t *testing.T, c, issuer *x509.Certificate, key, by keystore.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A15, A4: what may be imported as an authority, and what not.
func TestImport(t *testing.T) {
	id := newID(t)
	key, other := newKey(t, keystore.P256), newKey(t, keystore.P384)
	foreign := func(change func(*x509.Certificate)) []byte {
		c := template(id)
		change(c)
		return chainFile(selfSigned(t, c, key))
	}
	above := template(id)
	above.Subject.CommonName = "Above"
	aboveRoot := selfSigned(t, above, other)
	below := template(id)
	below.Subject.CommonName = "Below"
	sub := signedBy(t, below, aboveRoot, key, other)
	unrelated := selfSigned(t, template(id), other)
	plain := func(*x509.Certificate) {}
	for _, test := range []struct {
		name string
		file []byte
		want error
		says string
	}{
		{"a plain root", foreign(plain), nil, ""},
		{"a root that names the cluster", foreign(func(c *x509.Certificate) { c.Subject.SerialNumber = id.UUID }), nil, ""},
		{"a chain", chainFile(sub, aboveRoot), nil, ""},
		{"a chain whose root is not at hand", chainFile(sub), nil, ""},
		{"of another cluster", foreign(func(c *x509.Certificate) { c.Subject.SerialNumber = fingerprint.NewUUID() }), fingerprint.ErrIdentity, "names cluster"},
		{"of another domain", foreign(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "test.example"}} }), fingerprint.ErrIdentity, "names cluster"},
		{"another key", chainFile(unrelated), ca.ErrMismatch, "signer has key"},
		{"a key in the file", append(foreign(plain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})...), ca.ErrChain, "among certificates"},
		{"no CA", foreign(func(c *x509.Certificate) { c.IsCA = false }), nil, "not a CA's"},
		{"cannot sign", foreign(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), nil, "not a CA's"},
		{"expired", foreign(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), ca.ErrChain, "is good from"},
		{"not yet good", foreign(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ca.ErrChain, "is good from"},
		{"other usages", foreign(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), ca.ErrChain, "limited to other usages"},
		{"other domains", foreign(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"test.example"} }), ca.ErrChain, "may not certify"},
		{"unknown critical extension", foreign(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), ca.ErrChain, "nobody here understands"},
		{"in the wrong order", chainFile(aboveRoot, sub), ca.ErrMismatch, "signer has key"},
		{"above it another's", chainFile(sub, unrelated), ca.ErrChain, "as its issuer"},
		{"path length", chainFile(sub, selfSigned(t, func() *x509.Certificate { c := *above; c.MaxPathLen, c.MaxPathLenZero = 0, true; return &c }(), other)), ca.ErrChain, "path length"},
		{"broken second certificate", append(foreign(plain), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 3, 2, 1, 1}})...), ca.ErrChain, "line 11"},
		{"headers", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: sub.Raw}), ca.ErrChain, "headers"},
		{"text after it", append(foreign(plain), "bye"...), ca.ErrChain, "text after the last element"},
		{"nine certificates", chainFile(slices.Repeat([]*x509.Certificate{sub}, 9)...), ca.ErrChain, "at most 8"},
		{"nothing", nil, ca.ErrChain, "no PEM"},
		{"too long", make([]byte, 1<<20), ca.ErrChain, "at most"},
	} {
		a, err := ca.Import(test.file, key, id, time.Time{})
		if test.want == nil && test.says == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			newLeaf(t, a, id, fingerprint.Control, keystore.P256)
			continue
		}
		if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v that says %q", test.name, err, test.want, test.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells a secret", test.name)
		}
	}
}

// A34: of several authorities the newest signs unless one is named; one is removed when nothing that it issued is in
// use, or by force with the list.
func TestAuthorities(t *testing.T) {
	store := keystore.NewMemory()
	id, first, l := recorded(t, store)
	rules := ca.Rules{Recorder: l.Recorder(background)}
	later := time.Now().Add(time.Hour)
	second, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: id, Generation: 2, Now: later, Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	// The newest stands first, so that the order of the list does not decide.
	s, err := ca.NewAuthorities(second)
	if err == nil {
		s, err = s.With(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer := func(s *ca.Authorities, key fingerprint.Key) fingerprint.Key {
		a, err := s.Signer(key)
		if err != nil {
			t.Fatal(err)
		}
		return a.Key()
	}
	if signer(s, fingerprint.Key{}) != second.Key() || signer(s, first.Key()) != first.Key() {
		t.Error("the newest does not sign, or the named one does not")
	}
	if _, err := s.Signer(fingerprint.Key{1}); err == nil {
		t.Error("an unknown authority was found")
	}
	if _, err := s.With(second); err == nil {
		t.Error("one key stands twice")
	}
	if _, err := s.With(newRoot(t, newID(t), 1, keystore.P256)); !errors.Is(err, fingerprint.ErrIdentity) {
		t.Errorf("an authority of another cluster: %v", err)
	}

	leaf := newLeaf(t, first, id, fingerprint.Node, keystore.P256)
	newLeaf(t, first, id, fingerprint.User, keystore.P256)
	if rest, needing, err := s.Without(first.Key(), l.All(background, time.Time{}), time.Time{}, false); !errors.Is(err, ca.ErrNeeded) || rest != nil || len(needing) != 2 || needing[0].Identity != leaf.Certificate.URIs[0].String() {
		t.Errorf("removed while it is needed by %v: %v", needing, err)
	}
	rest, needing, err := s.Without(first.Key(), l.All(background, time.Time{}), time.Time{}, true)
	if err != nil || len(needing) != 2 {
		t.Fatalf("by force: %v, %v", needing, err)
	}
	if _, err := rest.Signer(first.Key()); err == nil {
		t.Error("it signs after it was removed")
	}
	if signer(s, first.Key()) != first.Key() {
		t.Error("removing changed the set it was removed from")
	}
	if _, needing, err := s.Without(first.Key(), l.All(background, time.Time{}), time.Now().Add(48*time.Hour), false); err != nil || len(needing) != 0 {
		t.Errorf("after all leaves expired: %v, %v", needing, err)
	}
	if _, _, err := s.Without(first.Key(), nil, time.Time{}, false); !errors.Is(err, ca.ErrNeeded) {
		t.Errorf("without records: %v", err)
	}
	if _, _, err := s.Without(fingerprint.Key{}, l.All(background, time.Time{}), time.Time{}, true); err == nil {
		t.Error("removed without a name")
	}
}

// A41: a certificate that an operator brings is taken when a peer would take it, and the error says why not.
func TestAcceptLeaf(t *testing.T) {
	id := newID(t)
	rootKey := newKey(t, keystore.P256)
	root, err := ca.CreateRoot(rootKey, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, keystore.P256)
	node := member(t, id, fingerprint.Node, "n")
	ours, err := root.Issue(ca.Request{Cluster: id, Identity: node, PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	intermediate := newIntermediate(t, root, id, keystore.P256)
	viaIntermediate, err := intermediate.Issue(ca.Request{Cluster: id, Identity: node, PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*x509.Certificate)) []byte {
		c := *ours.Certificate
		c.Extensions, c.ExtraExtensions = nil, nil
		change(&c)
		return chainFile(signedBy(t, &c, root.Certificate(), key, rootKey))
	}
	user := *ours.Certificate.URIs[0]
	user.Path = "/user/n"
	for _, test := range []struct {
		name  string
		chain []byte
		do    func(*ca.Supplied)
		want  error
	}{
		{"ours", chainFile(ours.Certificate), nil, nil},
		{"with the anchor", chainFile(ours.Certificate, root.Certificate()), nil, nil},
		{"with an intermediate", chainFile(viaIntermediate.Certificate, intermediate.Certificate()), nil, nil},
		{"without the intermediate", chainFile(viaIntermediate.Certificate), nil, ca.ErrChain},
		{"a key of another", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Signer = newKey(t, keystore.P256) }, ca.ErrMismatch},
		{"another identity", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Identity.ID = "m" }, fingerprint.ErrIdentity},
		{"another cluster", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Cluster.UUID = fingerprint.NewUUID() }, fingerprint.ErrIdentity},
		{"another anchor", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Anchor = newRoot(t, id, 2, keystore.P256).Certificate() }, ca.ErrChain},
		{"expired", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Now = time.Now().Add(48 * time.Hour) }, ca.ErrChain},
		{"not yet", chainFile(ours.Certificate), func(s *ca.Supplied) { s.Now = time.Now().Add(-48 * time.Hour) }, ca.ErrChain},
		{"outlives its issuer", changed(func(c *x509.Certificate) { c.NotAfter = root.Certificate().NotAfter.Add(time.Hour) }), nil, ca.ErrChain},
		{"a CA", changed(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), nil, ca.ErrSupplied},
		{"signs certificates", changed(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), nil, ca.ErrSupplied},
		{"no clientAuth", changed(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), nil, ca.ErrSupplied},
		{"any usage", changed(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage[:2:2], x509.ExtKeyUsageAny) }), nil, ca.ErrSupplied},
		{"a user that serves", changed(func(c *x509.Certificate) { c.URIs = []*url.URL{&user} }), func(s *ca.Supplied) { s.Identity.Role = fingerprint.User }, ca.ErrSupplied},
		{"two URIs", changed(func(c *x509.Certificate) { c.URIs = append(c.URIs, &user) }), nil, fingerprint.ErrIdentity},
		{"no URI", changed(func(c *x509.Certificate) { c.URIs = nil }), nil, fingerprint.ErrIdentity},
		{"forged", chainFile(forgedCopy(t, ours.Certificate)), nil, ca.ErrChain},
		{"cut off", chainFile(ours.Certificate)[:100], nil, ca.ErrChain},
		{"three above", chainFile(ours.Certificate, intermediate.Certificate(), intermediate.Certificate(), root.Certificate()), nil, ca.ErrChain},
	} {
		s := ca.Supplied{Cluster: id, Identity: node, Anchor: root.Certificate(), Chain: test.chain, Signer: key}
		if test.do != nil {
			test.do(&s)
		}
		leaf, err := ca.AcceptLeaf(s)
		if !errors.Is(err, test.want) || (leaf == nil) != (test.want != nil) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func forgedCopy(t *testing.T, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	der := slices.Clone(c.Raw)
	der[len(der)-1] ^= 1
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err) // x509 does not look into signatures when it parses
	}
	return parsed
}

func FuzzImport(f *testing.F) {
	id := newID(f)
	key := newKey(f, keystore.Ed25519)
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chainFile(root.Certificate()))
	f.Add(chainFile(root.Certificate(), root.Certificate()))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := ca.Import(file, key, id, time.Time{})
		if err == nil && a.Key() != ca.KeyOf(a.Certificate()) {
			t.Error("an authority with another key")
		}
	})
}

func FuzzSignIntermediate(f *testing.F) {
	id := newID(f)
	root := newRoot(f, id, 1, keystore.Ed25519)
	request, err := ca.NewIntermediateRequest(newKey(f, keystore.Ed25519), id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Fuzz(func(t *testing.T, file []byte) {
		response, err := root.SignIntermediate(file, ca.IntermediateRequest{})
		if err == nil && len(response) == 0 {
			t.Error("neither response nor error")
		}
	})
}
