package ca_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
	"github.com/clusterca/clusterca/keystore"
)

func newID(t testing.TB) fingerprint.ClusterID {
	t.Helper()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newKey(t testing.TB, a keystore.Algorithm) keystore.Signer {
	t.Helper()
	k, err := keystore.NewMemory().Generate(context.Background(), "k", a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRoot(t testing.TB, id fingerprint.ClusterID, generation int, a keystore.Algorithm) *ca.Authority {
	t.Helper()
	root, err := ca.CreateRoot(newKey(t, a), ca.RootRequest{Cluster: id, Generation: generation, Name: "Example & Co"})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func member(t testing.TB, id fingerprint.ClusterID, role fingerprint.Role, name string) fingerprint.Identity {
	t.Helper()
	m, err := id.Member(role, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newLeaf(t testing.TB, root *ca.Authority, id fingerprint.ClusterID, role fingerprint.Role, a keystore.Algorithm) *ca.Leaf {
	t.Helper()
	r := ca.Request{Cluster: id, Identity: member(t, id, role, "octo_pus 1"), PublicKey: newKey(t, a).Public()}
	if role != fingerprint.User {
		r.Hosts = []string{"octopus.example", "127.0.0.1", "2001:db8::1"}
	}
	leaf, err := root.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func write(t *testing.T, certificates ...*x509.Certificate) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range certificates {
		if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// judges ask openssl and GnuTLS whether leaf is good under root, by way of the bridges between.
func judges(t *testing.T, root *x509.Certificate, between []*x509.Certificate, leaf *x509.Certificate, profile string) {
	t.Helper()
	args := []string{"verify", "-x509_strict", "-check_ss_sig", "-CAfile", write(t, root)}
	if len(between) > 0 {
		args = append(args, "-untrusted", write(t, between...))
	}
	if out, err := exec.Command(outside.Program(t, "openssl"), append(args, write(t, leaf))...).CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	chain := append([]*x509.Certificate{leaf}, between...)
	cmd := exec.Command(outside.Program(t, "certtool"), "--verify", "--verify-profile="+profile, "--load-ca-certificate", write(t, root), "--infile", write(t, chain...))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verified. The certificate is trusted") {
		t.Errorf("certtool: %v\n%s", err, out)
	}
}

// A10, A18, B8: two independent implementations accept every root, intermediate, bridge, leaf of each role, document
// signer, and the longest chain, for each algorithm, with their strictest checks.
func TestGolden(t *testing.T) {
	for _, a := range []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA3072, keystore.RSA2048} {
		t.Run(string(a), func(t *testing.T) {
			profile := "high"
			if a == keystore.RSA2048 {
				profile = "medium" // GnuTLS wants 3072 bits for high
			}
			id := newID(t)
			root := newRoot(t, id, 1, a)
			judges(t, root.Certificate(), nil, root.Certificate(), profile)
			for _, role := range []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User} {
				judges(t, root.Certificate(), nil, newLeaf(t, root, id, role, a).Certificate, profile)
			}
			document, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: member(t, id, fingerprint.Control, "ca-1"), PublicKey: newKey(t, a).Public()})
			if err != nil {
				t.Fatal(err)
			}
			judges(t, root.Certificate(), nil, document.Certificate, profile)
			intermediate := newIntermediate(t, root, id, a)
			judges(t, root.Certificate(), nil, intermediate.Certificate(), profile)
			for _, role := range []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User} {
				leaf := newLeaf(t, intermediate, id, role, a)
				judges(t, root.Certificate(), []*x509.Certificate{leaf.Issuer}, leaf.Certificate, profile)
			}
			next := newRoot(t, id, 2, a)
			bridge, err := root.Bridge(next.Certificate())
			if err != nil {
				t.Fatal(err)
			}
			judges(t, root.Certificate(), nil, bridge, profile)
			// The longest chain there is: leaf, intermediate, bridge, root.
			leaf := newLeaf(t, newIntermediate(t, next, id, a), id, fingerprint.Node, a)
			judges(t, root.Certificate(), []*x509.Certificate{leaf.Issuer, bridge}, leaf.Certificate, profile)
		})
	}
}

// B30, B39: a leaf of the new root is good under the old one by way of new-with-old, whatever the two algorithms are.
func TestBridge(t *testing.T) {
	algorithms := []keystore.Algorithm{keystore.P256, keystore.Ed25519, keystore.RSA3072}
	for _, from := range algorithms {
		for _, to := range algorithms {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				id := newID(t)
				before, after := newRoot(t, id, 1, from), newRoot(t, id, 2, to)
				bridge, err := before.Bridge(after.Certificate())
				if err != nil {
					t.Fatal(err)
				}
				leaf := newLeaf(t, after, id, fingerprint.Node, keystore.P256)
				judges(t, before.Certificate(), []*x509.Certificate{bridge}, leaf.Certificate, "high")
				pool, way := x509.NewCertPool(), x509.NewCertPool()
				pool.AddCert(before.Certificate())
				way.AddCert(bridge)
				if _, err := leaf.Certificate.Verify(x509.VerifyOptions{Roots: pool, Intermediates: way}); err != nil {
					t.Errorf("crypto/x509: %v", err)
				}
				if _, err := leaf.Certificate.Verify(x509.VerifyOptions{Roots: pool}); err == nil {
					t.Error("the leaf is good without the bridge")
				}
			})
		}
	}
}

// A request that we make is one that openssl reads, and the other way round.
func TestRequestAndOpenSSL(t *testing.T) {
	id := newID(t)
	node := member(t, id, fingerprint.Node, "octopus")
	der, err := ca.NewRequest(newKey(t, keystore.P256), node)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours.der")
	if err := os.WriteFile(ours, der, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(outside.Program(t, "openssl"), "req", "-inform", "DER", "-in", ours, "-verify", "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), node.String()) {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	theirs := filepath.Join(dir, "theirs.der")
	out, err = exec.Command(outside.Program(t, "openssl"), "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", filepath.Join(dir, "key"),
		"-subj", "/CN=anything", "-outform", "DER", "-out", theirs).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	if der, err = os.ReadFile(theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.ParseRequest(der, node); err != nil {
		t.Errorf("openssl's request: %v", err)
	}
}
