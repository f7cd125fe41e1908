package keystore

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 it is here to be refused
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"testing"
)

// testKey makes the PEM file of a key of a kind that we refuse.
func testKey(kind string) []byte {
	var key any
	var err error
	switch kind {
	case "p224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "rsa1024":
		key, err = rsa.GenerateKey(rand.Reader, 1024)
	case "x25519":
		key, err = ecdh.X25519().GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

// modulus is an RSA public key of a length; nobody has its private half.
func modulus(bits uint, exponent int) crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: exponent}
}

// What is accepted is what a careful verifier accepts (FACTS: RSA under 2048 or not a multiple of 8 bits, DSA, P-224 and
// X25519 are refused; crypto/tls stops at 8192).
func TestAlgorithmOf(t *testing.T) {
	for name, test := range map[string]struct {
		key  crypto.PublicKey
		want Algorithm // empty: refused
	}{
		"P-256":                  {&ecdsa.PublicKey{Curve: elliptic.P256()}, P256},
		"P-384":                  {&ecdsa.PublicKey{Curve: elliptic.P384()}, P384},
		"P-224":                  {&ecdsa.PublicKey{Curve: elliptic.P224()}, ""},
		"P-521":                  {&ecdsa.PublicKey{Curve: elliptic.P521()}, ""},
		"ECDSA without a curve":  {&ecdsa.PublicKey{}, ""},
		"no ECDSA key":           {(*ecdsa.PublicKey)(nil), ""},
		"Ed25519":                {make(ed25519.PublicKey, 32), Ed25519},
		"Ed25519 cut off":        {make(ed25519.PublicKey, 31), ""},
		"RSA 2048":               {modulus(2048, 65537), RSA2048},
		"RSA 2048, exponent 3":   {modulus(2048, 3), RSA2048},
		"RSA 2056":               {modulus(2056, 65537), RSA2048},
		"RSA 3072":               {modulus(3072, 65537), RSA3072},
		"RSA 4096":               {modulus(4096, 65537), RSA4096},
		"RSA 8192":               {modulus(8192, 65537), RSA4096},
		"RSA 1024":               {modulus(1024, 65537), ""},
		"RSA 2040":               {modulus(2040, 65537), ""},
		"RSA 2049":               {modulus(2049, 65537), ""},
		"RSA 8200":               {modulus(8200, 65537), ""},
		"RSA with exponent 1":    {modulus(2048, 1), ""},
		"RSA, an even exponent":  {modulus(2048, 65536), ""},
		"RSA without a modulus":  {&rsa.PublicKey{E: 65537}, ""},
		"DSA":                    {&dsa.PublicKey{}, ""},
		"X25519":                 {&ecdh.PublicKey{}, ""},
		"a key and no pointer":   {ecdsa.PublicKey{Curve: elliptic.P256()}, ""},
		"nothing":                {nil, ""},
		"something else":         {"p256", ""},
		"a private key":          {ed25519.PrivateKey(make([]byte, 64)), ""},
		"the bytes of a key":     {make([]byte, 32), ""},
		"an RSA key, not a pair": {rsa.PublicKey{E: 65537}, ""},
	} {
		got, err := AlgorithmOf(test.key)
		if got != test.want || (err == nil) != (test.want != "") || err != nil && !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}
}

// Each algorithm is made as it is called, and nothing else can be asked for.
func TestAlgorithms(t *testing.T) {
	if !slices.IsSorted(Algorithms()) || len(Algorithms()) < 6 {
		t.Errorf("algorithms %v", Algorithms())
	}
	for _, a := range Algorithms() {
		if parsed, err := ParseAlgorithm(string(a)); err != nil || parsed != a {
			t.Errorf("%s: %q, %v", a, parsed, err)
		}
		key, err := a.generate()
		if err != nil {
			t.Fatal(err)
		}
		if of, err := AlgorithmOf(key.Public()); err != nil || of != a {
			t.Errorf("made as %s it is %s, %v", a, of, err)
		}
	}
	for _, s := range []string{"", "P256", "p256 ", "p224", "p521", "rsa", "rsa1024", "dsa", "sm2"} {
		if a, err := ParseAlgorithm(s); !errors.Is(err, ErrAlgorithm) || a != "" {
			t.Errorf("%q: %q, %v, want ErrAlgorithm", s, a, err)
		}
	}
}

// A family of keys that a later Go brings is a file that appends to families: all that is here takes it from there.
func TestFamilyIsAdded(t *testing.T) {
	type later struct{ crypto.Signer }
	type laterPublic struct{}
	before := families
	defer func() { families = before }()
	families = append(slices.Clone(families), family{
		make: map[Algorithm]func() (crypto.Signer, error){
			"later": func() (crypto.Signer, error) { return later{}, nil },
		},
		recognise: func(public crypto.PublicKey) (Algorithm, bool, error) {
			_, mine := public.(laterPublic)
			return "later", mine, nil
		},
	})
	a, err := ParseAlgorithm("later")
	if err != nil || !slices.Contains(Algorithms(), a) {
		t.Errorf("%q, %v, %v", a, err, Algorithms())
	}
	if of, err := AlgorithmOf(laterPublic{}); err != nil || of != a {
		t.Errorf("%q, %v", of, err)
	}
}
