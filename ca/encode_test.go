package ca_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// again lets crypto/x509 encode what a certificate says, and compares all but the signature, byte for byte.
func again(t *testing.T, name string, c, issuer *x509.Certificate, signer keystore.Signer) {
	t.Helper()
	template := *c
	template.Extensions, template.ExtraExtensions, template.SignatureAlgorithm = nil, nil, 0
	template.MaxPathLenZero = c.MaxPathLen == 0
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, c.PublicKey, signer)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	theirs, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !bytes.Equal(c.RawTBSCertificate, theirs.RawTBSCertificate) {
		t.Errorf("%s: ours\n%x\ncrypto/x509\n%x", name, c.RawTBSCertificate, theirs.RawTBSCertificate)
	}
	parsed, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !bytes.Equal(parsed.Signature, c.Signature) || !bytes.Equal(parsed.RawTBSCertificate, c.RawTBSCertificate) {
		t.Errorf("%s: what was returned is not what its bytes say", name)
	}
	if err := parsed.CheckSignatureFrom(issuer); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// A18: whatever we encode, crypto/x509 would have encoded to the same bytes: every kind, key, name and date.
func TestEncodedAsX509Does(t *testing.T) {
	hosts := [][]string{nil, {"a.example", "10.0.0.1", "2001:db8::1"}, make([]string, 64)}
	for i := range hosts[2] {
		hosts[2][i] = string(bytes.Repeat([]byte{'a' + byte(i%26)}, 1+i%63)) + ".example"
	}
	for _, a := range []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA2048} {
		id := newID(t)
		key, next := newKey(t, a), newKey(t, a)
		for i, now := range []time.Time{{}, time.Date(2049, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(2060, 2, 29, 0, 0, 0, 0, time.UTC)} {
			root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1 + i, Now: now, Name: []string{"", "Ærø & Söner *", "plain (1)"}[i]})
			if err != nil {
				t.Fatal(err)
			}
			again(t, "root", root.Certificate(), root.Certificate(), key)
			for role, name := range map[fingerprint.Role]string{fingerprint.Control: "ca-1", fingerprint.Node: "octo_pus 1", fingerprint.User: "Zoë"} {
				r := ca.Request{Cluster: id, Identity: member(t, id, role, name), PublicKey: newKey(t, keystore.P256).Public(), Now: now}
				if role != fingerprint.User {
					r.Hosts = hosts[i]
				}
				leaf, err := root.Issue(r)
				if err != nil {
					t.Fatal(err)
				}
				again(t, string(role), leaf.Certificate, root.Certificate(), key)
			}
			document, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: member(t, id, fingerprint.Control, "ca-1"), PublicKey: newKey(t, a).Public(), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			again(t, "document signer", document.Certificate, root.Certificate(), key)
			successor, err := ca.CreateRoot(next, ca.RootRequest{Cluster: id, Generation: 2 + i, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			bridge, err := root.Bridge(successor.Certificate())
			if err != nil {
				t.Fatal(err)
			}
			again(t, "bridge", bridge, root.Certificate(), key)
		}
	}
}

// Serials with leading zeros are the ones that an encoder gets wrong: enough are drawn to meet some.
func TestSerials(t *testing.T) {
	id := newID(t)
	key := newKey(t, keystore.Ed25519)
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	r := ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.Ed25519).Public()}
	short := 0
	for range 2000 {
		leaf, err := root.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		serial := leaf.Certificate.SerialNumber
		if serial.Sign() <= 0 || seen[serial.String()] {
			t.Fatalf("serial %v is not positive, or was drawn twice", serial)
		}
		seen[serial.String()] = true
		if serial.BitLen() < 120 {
			short++
		}
	}
	if short == 0 {
		t.Error("no serial has a leading zero byte")
	}
}

// The URI stands in the certificate as it was asked for, and parses as a URL for those who read it so.
func TestURIIsRaw(t *testing.T) {
	id := newID(t)
	leaf := newLeaf(t, newRoot(t, id, 1, keystore.P256), id, fingerprint.Node, keystore.P256)
	want, err := url.Parse(member(t, id, fingerprint.Node, "octo_pus 1").String())
	if err != nil || len(leaf.Certificate.URIs) != 1 || *leaf.Certificate.URIs[0] != *want {
		t.Errorf("URIs %v, want %v (%v)", leaf.Certificate.URIs, want, err)
	}
}
