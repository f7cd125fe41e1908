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

// family is one type of public key. A family that a later Go brings (ML-DSA) is one file more, behind a build
// constraint: its init appends to families, and nothing writes to families after that.
type family struct {
	make map[Algorithm]func() (crypto.Signer, error)
	// recognise says which algorithm a public key is. mine is false for keys of other families; a key of this family
	// that a careful peer would refuse is an error.
	recognise func(public crypto.PublicKey) (a Algorithm, mine bool, err error)
}

var families = []family{
	{
		make: map[Algorithm]func() (crypto.Signer, error){
			P256: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
			P384: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		},
		recognise: recogniseECDSA,
	},
	{
		make: map[Algorithm]func() (crypto.Signer, error){
			Ed25519: func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
		},
		recognise: recogniseEd25519,
	},
	{
		make: map[Algorithm]func() (crypto.Signer, error){
			RSA2048: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
			RSA3072: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
			RSA4096: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
		},
		recognise: recogniseRSA,
	},
}

// Algorithms lists what can be made, sorted.
func Algorithms() []Algorithm {
	var list []Algorithm
	for _, f := range families {
		for a := range f.make {
			list = append(list, a)
		}
	}
	slices.Sort(list)
	return list
}

// ParseAlgorithm reads an algorithm's name; the error wraps ErrAlgorithm and lists the names.
func ParseAlgorithm(s string) (Algorithm, error) {
	if _, err := Algorithm(s).maker(); err != nil {
		return "", fmt.Errorf("keystore: %w", err)
	}
	return Algorithm(s), nil
}

// AlgorithmOf says what kind of key a public key is. RSA keys between the named sizes are called by the size below.
// Keys that a careful peer would refuse (RSA under 2048 bits, over 8192 or not of whole bytes, or with an even exponent;
// other curves; DSA; X25519) give an error that wraps ErrAlgorithm.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	for _, f := range families {
		if a, mine, err := f.recognise(public); err != nil {
			return "", fmt.Errorf("keystore: %w: %w", err, ErrAlgorithm)
		} else if mine {
			return a, nil
		}
	}
	return "", fmt.Errorf("keystore: %T: %w", public, ErrAlgorithm)
}

func recogniseECDSA(public crypto.PublicKey) (a Algorithm, mine bool, err error) {
	k, ok := public.(*ecdsa.PublicKey)
	switch {
	case !ok:
		return "", false, nil
	case k == nil || k.Curve == nil:
		return "", true, errors.New("ECDSA without a curve")
	case k.Curve == elliptic.P256():
		return P256, true, nil
	case k.Curve == elliptic.P384():
		return P384, true, nil
	}
	return "", true, fmt.Errorf("ECDSA on %s", k.Curve.Params().Name)
}

func recogniseEd25519(public crypto.PublicKey) (a Algorithm, mine bool, err error) {
	k, ok := public.(ed25519.PublicKey)
	if ok && len(k) != ed25519.PublicKeySize {
		err = fmt.Errorf("Ed25519 of %d bytes", len(k))
	}
	return Ed25519, ok, err
}

func recogniseRSA(public crypto.PublicKey) (a Algorithm, mine bool, err error) {
	k, ok := public.(*rsa.PublicKey)
	if !ok {
		return "", false, nil
	}
	if k == nil || k.N == nil {
		return "", true, errors.New("RSA without a modulus")
	}
	switch bits := k.N.BitLen(); {
	case bits < minRSA || bits > maxRSA || bits%8 != 0:
		return "", true, fmt.Errorf("RSA of %d bits, want whole bytes from %d to %d", bits, minRSA, maxRSA)
	case k.E < 3 || k.E%2 == 0:
		return "", true, fmt.Errorf("RSA with exponent %d", k.E)
	case bits >= 4096:
		return RSA4096, true, nil
	case bits >= 3072:
		return RSA3072, true, nil
	}
	return RSA2048, true, nil
}

func (a Algorithm) maker() (func() (crypto.Signer, error), error) {
	for _, f := range families {
		if maker, ok := f.make[a]; ok {
			return maker, nil
		}
	}
	return nil, fmt.Errorf("%q is none of %v: %w", string(a), Algorithms(), ErrAlgorithm)
}

func (a Algorithm) generate() (crypto.Signer, error) {
	maker, err := a.maker()
	if err != nil {
		return nil, err
	}
	return maker()
}
