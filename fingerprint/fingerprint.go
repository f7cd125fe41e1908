package fingerprint

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// Key is the SHA-256 of a public key: of its SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7, RFC 7469 §2.4). Text: 64
// lower-case hexadecimal digits; the zero value's is empty.
type Key [sha256.Size]byte

// Certificate is the SHA-256 of a whole certificate in DER. Text: 64 lower-case hexadecimal digits; the zero value's
// is empty.
type Certificate [sha256.Size]byte

// OfKey is the fingerprint of a SubjectPublicKeyInfo in DER.
func OfKey(spki []byte) Key { return sha256.Sum256(spki) }

// OfPublicKey is the fingerprint of a public key; the error says that x509 cannot encode it.
func OfPublicKey(public crypto.PublicKey) (Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("fingerprint: %w", err)
	}
	return OfKey(spki), nil
}

// OfCertificate is the fingerprint of a certificate in DER.
func OfCertificate(der []byte) Certificate { return sha256.Sum256(der) }

// String is the text form.
func (k Key) String() string { return text(k) }

// Short is the first eight digits and an ellipsis, for people; "none" for the zero value. Never compare it.
func (k Key) Short() string { return short(k) }

// IsZero reports whether k is nobody's.
func (k Key) IsZero() bool { return k == Key{} }

// Compare orders keys bytewise.
func (k Key) Compare(other Key) int { return bytes.Compare(k[:], other[:]) }

// MarshalText gives the text form; the error is always nil.
func (k Key) MarshalText() ([]byte, error) { return []byte(text(k)), nil }

// UnmarshalText reads the text form, and nothing else; after an error the value is as it was.
func (k *Key) UnmarshalText(b []byte) error { return parse((*[sha256.Size]byte)(k), b) }

// String is the text form.
func (c Certificate) String() string { return text(c) }

// Short is the first eight digits and an ellipsis, for people; "none" for the zero value. Never compare it.
func (c Certificate) Short() string { return short(c) }

// IsZero reports whether c is no certificate's.
func (c Certificate) IsZero() bool { return c == Certificate{} }

// Compare orders certificates bytewise.
func (c Certificate) Compare(other Certificate) int { return bytes.Compare(c[:], other[:]) }

// MarshalText gives the text form; the error is always nil.
func (c Certificate) MarshalText() ([]byte, error) { return []byte(text(c)), nil }

// UnmarshalText reads the text form, and nothing else; after an error the value is as it was.
func (c *Certificate) UnmarshalText(b []byte) error { return parse((*[sha256.Size]byte)(c), b) }

func text(sum [sha256.Size]byte) string {
	if sum == [sha256.Size]byte{} {
		return ""
	}
	return hex.EncodeToString(sum[:])
}

func short(sum [sha256.Size]byte) string {
	if sum == [sha256.Size]byte{} {
		return "none"
	}
	return hex.EncodeToString(sum[:4]) + "…"
}

func parse(sum *[sha256.Size]byte, b []byte) error {
	var parsed [sha256.Size]byte
	if len(b) > 0 {
		if len(b) != 2*sha256.Size {
			return fmt.Errorf("fingerprint: %d characters, want %d hexadecimal digits", len(b), 2*sha256.Size)
		}
		if _, err := hex.Decode(parsed[:], b); err != nil {
			return fmt.Errorf("fingerprint: %w", err)
		}
		if !bytes.Equal([]byte(text(parsed)), b) {
			return errors.New("fingerprint: want lower-case hexadecimal digits that are not all zero")
		}
	}
	*sum = parsed
	return nil
}
