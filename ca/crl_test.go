package ca_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
	"github.com/clusterca/clusterca/keystore"
)

// entry is a certificate that was taken back an hour ago.
func entry(serial *big.Int) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now().Add(-time.Hour), ReasonCode: 1}
}

// writePEM writes one block for openssl and certtool to read.
func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A74, B76: openssl and GnuTLS find the signature good, and refuse the leaf that stands in the list and no other.
func TestCRL(t *testing.T) {
	for _, algorithm := range []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA3072} {
		t.Run(string(algorithm), func(t *testing.T) {
			id := newID(t)
			root := newRoot(t, id, 1, algorithm)
			gone, stays := newLeaf(t, root, id, fingerprint.Node, keystore.P256), newLeaf(t, root, id, fingerprint.Node, keystore.P256)
			crl, err := root.CRL(ca.CRLRequest{Number: 7, Revoked: []x509.RevocationListEntry{entry(gone.Certificate.SerialNumber)}})
			if err != nil {
				t.Fatal(err)
			}
			if crl.Number.Int64() != 7 || !bytes.Equal(crl.AuthorityKeyId, root.Certificate().SubjectKeyId) || !bytes.Equal(crl.RawIssuer, root.Certificate().RawSubject) {
				t.Errorf("number %v, key identifier %x, issuer %v", crl.Number, crl.AuthorityKeyId, crl.Issuer)
			}
			if len(crl.RevokedCertificateEntries) != 1 || crl.RevokedCertificateEntries[0].ReasonCode != 1 {
				t.Errorf("entries %v", crl.RevokedCertificateEntries)
			}
			rootFile, list := writePEM(t, "root", "CERTIFICATE", root.Certificate().Raw), writePEM(t, "crl", "X509 CRL", crl.Raw)
			for name, leaf := range map[string]*ca.Leaf{"gone": gone, "stays": stays} {
				file := writePEM(t, name, "CERTIFICATE", leaf.Certificate.Raw)
				out, err := exec.Command(outside.Program(t, "openssl"), "verify", "-x509_strict", "-crl_check", "-CAfile", rootFile, "-CRLfile", list, file).CombinedOutput()
				if revoked := strings.Contains(string(out), "certificate revoked"); revoked != (name == "gone") || (err == nil) != (name == "stays") {
					t.Errorf("openssl about the one that %s: %v\n%s", name, err, out)
				}
			}
			out, err := exec.Command(outside.Program(t, "certtool"), "--verify-crl", "--load-ca-certificate", rootFile, "--infile", list).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Verified") || strings.Contains(string(out), "Not verified") {
				t.Errorf("certtool: %v\n%s", err, out)
			}
		})
	}
}

// B76: dates, from the one table of lifetimes; a list ends with its issuer.
func TestCRLDates(t *testing.T) {
	now := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	root, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: newID(t), Generation: 1, Now: now, Lifetime: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		r    ca.CRLRequest
		ends time.Time // zero: refused
	}{
		{"default", ca.CRLRequest{Number: 1, Now: now}, now.Add(24 * time.Hour)},
		{"asked for", ca.CRLRequest{Number: 1, Now: now, Lifetime: time.Hour}, now.Add(time.Hour)},
		{"over the cap", ca.CRLRequest{Number: 1, Now: now, Lifetime: 3000 * time.Hour}, time.Time{}},
		{"outlives its issuer", ca.CRLRequest{Number: 1, Now: now, Lifetime: 72 * time.Hour}, now.Add(48 * time.Hour)},
		{"after its issuer", ca.CRLRequest{Number: 1, Now: now.Add(50 * time.Hour)}, time.Time{}},
	} {
		crl, err := root.CRL(row.r)
		switch {
		case row.ends.IsZero():
			if !errors.Is(err, ca.ErrLifetime) {
				t.Errorf("%s: %v, want ErrLifetime", row.name, err)
			}
		case err != nil || !crl.NextUpdate.Equal(row.ends) || !crl.ThisUpdate.Before(row.r.Now) || crl.ThisUpdate.Before(root.Certificate().NotBefore):
			t.Errorf("%s: %v, want an end at %v", row.name, err, row.ends)
		}
	}
}

// B76: what would make a list that verifiers read differently, or refuse.
func TestCRLRefused(t *testing.T) {
	root := newRoot(t, newID(t), 1, keystore.P256)
	one := big.NewInt(1)
	for name, row := range map[string]struct {
		r    ca.CRLRequest
		says string
	}{
		"no number":        {ca.CRLRequest{}, "count from 1"},
		"no serial":        {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{entry(nil)}}, "serial"},
		"negative serial":  {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{entry(big.NewInt(-1))}}, "serial"},
		"serial too long":  {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{entry(new(big.Int).Lsh(one, 160))}}, "serial"},
		"twice":            {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{entry(one), entry(one)}}, "twice"},
		"no date":          {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{{SerialNumber: one}}}, "date"},
		"taken back later": {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{{SerialNumber: one, RevocationTime: time.Now().Add(time.Hour)}}}, "date"},
		"removed again":    {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{{SerialNumber: one, RevocationTime: time.Now(), ReasonCode: 8}}}, "reason"},
		"unknown reason":   {ca.CRLRequest{Number: 1, Revoked: []x509.RevocationListEntry{{SerialNumber: one, RevocationTime: time.Now(), ReasonCode: 11}}}, "reason"},
	} {
		if crl, err := root.CRL(row.r); crl != nil || !errors.Is(err, ca.ErrCRL) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want ErrCRL that says %q", name, err, row.says)
		}
	}
}

// exchanged is a token whose key is replaced behind our back.
type exchanged struct{ key *crypto.Signer }

func (s exchanged) Public() crypto.PublicKey { return (*s.key).Public() }

func (s exchanged) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return (*s.key).Sign(r, digest, o)
}

// A list that was signed with another key than the certificate's is not released.
func TestCRLOtherKey(t *testing.T) {
	var token crypto.Signer = newKey(t, keystore.P256)
	root, err := ca.CreateRoot(exchanged{&token}, ca.RootRequest{Cluster: newID(t), Generation: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.CRL(ca.CRLRequest{Number: 1}); err != nil {
		t.Fatal(err)
	}
	token = newKey(t, keystore.P256)
	if list, err := root.CRL(ca.CRLRequest{Number: 2}); err == nil || list != nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("%v, want a refusal to release it", err)
	}
}
