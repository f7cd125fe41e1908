package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
)

// Algorithm names a kind of key. This file is the one place that says which are made and which are accepted.
type Algorithm string

// The algorithms that are made. P256 is the default everywhere: the fastest that all peers verify.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
	RSA4096 Algorithm = "rsa4096"
)

// ErrAlgorithm is wrapped when a key is of a kind that is neither made nor accepted.
var ErrAlgorithm = errors.New("key algorithm is not accepted")

// maxRSA is what crypto/tls accepts in a handshake.
const maxRSA = 8192

var makers = map[Algorithm]func() (crypto.Signer, error){
	P256:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	P384:    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	Ed25519: func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
	RSA2048: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	RSA3072: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	RSA4096: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
}

// Algorithms lists what can be made, sorted.
func Algorithms() []Algorithm {
	list := make([]Algorithm, 0, len(makers))
	for a := range makers {
		list = append(list, a)
	}
	slices.Sort(list)
	return list
}

// ParseAlgorithm reads an algorithm's name; the error wraps ErrAlgorithm and lists the names.
func ParseAlgorithm(s string) (Algorithm, error) {
	if _, ok := makers[Algorithm(s)]; !ok {
		return "", fmt.Errorf("keystore: %q is none of %v: %w", s, Algorithms(), ErrAlgorithm)
	}
	return Algorithm(s), nil
}

// AlgorithmOf says what kind of key a public key is. RSA keys between the named sizes are called by the size below.
// Keys that a careful peer would refuse (RSA under 2048 bits, over 8192 or not of whole bytes, other curves, DSA) give
// an error that wraps ErrAlgorithm.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
		return "", fmt.Errorf("keystore: ECDSA on %s: %w", k.Curve.Params().Name, ErrAlgorithm)
	case ed25519.PublicKey:
		return Ed25519, nil
	case *rsa.PublicKey:
		return rsaAlgorithm(k.N.BitLen())
	}
	return "", fmt.Errorf("keystore: %T: %w", public, ErrAlgorithm)
}

func rsaAlgorithm(bits int) (Algorithm, error) {
	switch {
	case bits < 2048 || bits > maxRSA || bits%8 != 0:
		return "", fmt.Errorf("keystore: RSA of %d bits, want whole bytes from 2048 to %d: %w", bits, maxRSA, ErrAlgorithm)
	case bits >= 4096:
		return RSA4096, nil
	case bits >= 3072:
		return RSA3072, nil
	}
	return RSA2048, nil
}

func (a Algorithm) generate() (crypto.Signer, error) {
	make, ok := makers[a]
	if !ok {
		return nil, fmt.Errorf("keystore: %q is none of %v: %w", a, Algorithms(), ErrAlgorithm)
	}
	return make()
}
