package fingerprint_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os/exec"
	"strings"
	"testing"

	. "github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
)

func certificate(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A73: what openssl prints of a certificate is read, SHA-1 by its own name only.
func TestWhatOpenSSLPrints(t *testing.T) {
	path := outside.Program(t, "openssl")
	der := certificate(t)
	printed := func(hash string) string {
		cmd := exec.Command(path, "x509", "-inform", "DER", "-noout", "-fingerprint", hash)
		cmd.Stdin = bytes.NewReader(der)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(strings.TrimSpace(string(out)), "=")
		return value
	}
	if c, err := ParseCertificate(printed("-sha256")); err != nil || c != OfCertificate(der) {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := ParseCertificate(printed("-sha1")); !errors.Is(err, ErrFingerprint) || !strings.Contains(err.Error(), "ParseOldCertificate") || !c.IsZero() {
		t.Errorf("a SHA-1 was read without asking: %v, %v", c, err)
	}
	old, err := ParseOldCertificate(printed("-sha1"))
	if err != nil {
		t.Fatal(err)
	}
	if fips140.Enforced() {
		if same, err := old.Names(der); err == nil || same {
			t.Errorf("SHA-1 under fips140=only: %t, %v", same, err)
		}
		return
	}
	if same, err := old.Names(der); err != nil || !same {
		t.Errorf("its own SHA-1 does not name it: %v", err)
	}
	if same, err := old.Names(certificate(t)); err != nil || same {
		t.Errorf("it names another: %v", err)
	}
}

func colons(s string) string {
	var pairs []string
	for ; s != ""; s = s[2:] {
		pairs = append(pairs, s[:2])
	}
	return strings.Join(pairs, ":")
}

// A73: one fingerprint in four spellings; whatever is none of them is refused and says why.
func TestSpellings(t *testing.T) {
	bare := key(1).String()
	for _, s := range []string{bare, strings.ToUpper(bare), colons(bare), strings.ToUpper(colons(bare))} {
		if k, err := ParseKey(s); err != nil || k != key(1) {
			t.Errorf("%q: %v, %v", s, k, err)
		}
	}
	for s, why := range map[string]string{
		"":                                 "not hexadecimal digits",
		bare[2:]:                           "62 digits, 64 are wanted",
		bare + "00":                        "66 digits, 64 are wanted",
		colons(bare) + ":":                 "96 characters",
		colons(bare)[1:]:                   "pairs between colons",
		strings.Replace(bare, "1", ":", 1): "pairs between colons",
		bare[:2] + "-" + bare[3:]:          "something else than hexadecimal digits",
		strings.Repeat("0", 64):            "zeros only",
		" " + bare:                         "65 digits",
		strings.Repeat("ab", 20):           "as a SHA-1 has",
		strings.Repeat("x", 1<<20):         "characters",
	} {
		k, err := ParseKey(s)
		if !errors.Is(err, ErrFingerprint) || !strings.Contains(err.Error(), why) || !k.IsZero() || len(err.Error()) > 400 {
			t.Errorf("%.100q: %v, %.400v, want %q", s, k, err, why)
		}
	}
	if c, err := ParseOldCertificate(bare); !errors.Is(err, ErrFingerprint) || c != (OldCertificate{}) {
		t.Errorf("a SHA-256 was read as a SHA-1: %v", err)
	}
}

// FuzzParseKey: what is read has one text form, which differs from what was read by case and colons alone.
func FuzzParseKey(f *testing.F) {
	f.Add(key(1).String())
	f.Add(strings.ToUpper(colons(key(1).String())))
	f.Add("AA:BB")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil {
			if !errors.Is(err, ErrFingerprint) || !k.IsZero() {
				t.Errorf("%q: %v, %v", s, k, err)
			}
			return
		}
		if plain := strings.ToLower(strings.ReplaceAll(s, ":", "")); k.String() != plain {
			t.Errorf("%q is %s", s, k)
		}
	})
}
