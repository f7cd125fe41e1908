package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// scheme is how a key signs: what certificates call it, and the hash.
type scheme struct {
	name       x509.SignatureAlgorithm
	hash       crypto.Hash // 0: the key signs the message itself
	identifier []byte      // AlgorithmIdentifier
}

// schemes are the signatures by algorithm of the key (RFC 5758 §3.2, RFC 8410 §3, RFC 4055 §5: RSA has a NULL). An
// algorithm that a later Go brings adds itself from a file of its own, as in keystore.
var schemes = map[keystore.Algorithm]scheme{
	keystore.P256:    {x509.ECDSAWithSHA256, crypto.SHA256, identifier(nil, 1, 2, 840, 10045, 4, 3, 2)},
	keystore.P384:    {x509.ECDSAWithSHA384, crypto.SHA384, identifier(nil, 1, 2, 840, 10045, 4, 3, 3)},
	keystore.Ed25519: {x509.PureEd25519, 0, identifier(nil, 1, 3, 101, 112)},
	keystore.RSA2048: rsaScheme,
	keystore.RSA3072: rsaScheme,
	keystore.RSA4096: rsaScheme,
}

var rsaScheme = scheme{x509.SHA256WithRSA, crypto.SHA256, identifier([]byte{5, 0}, 1, 2, 840, 113549, 1, 1, 11)}

func identifier(parameters []byte, numbers ...int) []byte {
	var b der
	b.element(tagSequence, func() {
		b.raw(oid(numbers...))
		b.raw(parameters)
	})
	return b
}

// publicKey is a key that may stand in a certificate.
type publicKey struct {
	spki        []byte // SubjectPublicKeyInfo
	fingerprint fingerprint.Key
	scheme      scheme // of what it signs
}

func acceptable(public crypto.PublicKey) (publicKey, error) {
	a, err := keystore.AlgorithmOf(public)
	if err != nil {
		return publicKey{}, err
	}
	s, ok := schemes[a]
	if !ok {
		return publicKey{}, fmt.Errorf("no signature for %s: %w", a, keystore.ErrAlgorithm)
	}
	spki, err := encodeKey(public)
	if err != nil {
		return publicKey{}, fmt.Errorf("%w: %w", err, keystore.ErrAlgorithm)
	}
	return publicKey{spki, fingerprint.OfKey(spki), s}, nil
}

// The start of a SubjectPublicKeyInfo, up to the key itself (RFC 5480 §2, RFC 8410 §4).
var (
	prefixP256    = []byte("\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00")
	prefixP384    = []byte("\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00")
	prefixEd25519 = []byte("\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00")
)

// encodeKey gives the SubjectPublicKeyInfo. Those of fixed size need none of x509's reflection, which would be a third
// of the cost of encoding a certificate.
func encodeKey(public crypto.PublicKey) ([]byte, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // refuses what is not on the curve
		if err != nil {
			return nil, err
		}
		if k.Curve == elliptic.P256() {
			return slices.Concat(prefixP256, point), nil
		}
		return slices.Concat(prefixP384, point), nil
	case ed25519.PublicKey:
		return slices.Concat(prefixEd25519, k), nil
	}
	return x509.MarshalPKIXPublicKey(public)
}

// identifier is the subject key identifier: the leftmost 160 bits of the SHA-256 of the SubjectPublicKeyInfo (RFC 7093
// §2 method 4, cut as in method 1).
func (k publicKey) identifier() []byte { return k.fingerprint[:20] }
