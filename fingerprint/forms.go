package fingerprint

import (
	"crypto/fips140"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// What people and other systems write. What is written here is the one text form of Key and Certificate.

// ErrFingerprint is wrapped by every refusal of a fingerprint that people wrote.
var ErrFingerprint = errors.New("not a fingerprint")

// ParseKey reads a key's fingerprint in any of the usual spellings: 64 hexadecimal digits in upper or lower case, bare or
// in pairs between colons. The error wraps ErrFingerprint.
func ParseKey(s string) (k Key, err error) {
	err = spelled(k[:], s)
	return k, err
}

// ParseCertificate reads a certificate's fingerprint in the spellings of ParseKey, among them that of openssl x509
// -fingerprint -sha256. The error wraps ErrFingerprint.
func ParseCertificate(s string) (c Certificate, err error) {
	err = spelled(c[:], s)
	return c, err
}

// OldCertificate is the SHA-1 of a certificate in DER, which is how old systems list peers. It is read so that their
// lists can be taken over: find the certificate that it names, and list what OfCertificate and the key say of that.
// Whoever can choose a certificate can make two of one SHA-1, so nothing here compares by it or writes it.
type OldCertificate [sha1.Size]byte

// ParseOldCertificate reads 40 hexadecimal digits in the spellings of ParseKey. The error wraps ErrFingerprint.
func ParseOldCertificate(s string) (c OldCertificate, err error) {
	err = spelled(c[:], s)
	return c, err
}

// Names reports whether c is the SHA-1 of a certificate. The error says that this process may not use SHA-1 (GODEBUG
// fips140=only).
func (c OldCertificate) Names(der []byte) (bool, error) {
	if fips140.Enforced() {
		return false, errors.New("fingerprint: SHA-1 is not allowed under fips140=only: convert the old list elsewhere")
	}
	return c == sha1.Sum(der), nil
}

// spelled reads digits into sum, which is cleared when it cannot.
func spelled(sum []byte, s string) error {
	if len(s) > maxSpelled {
		return fmt.Errorf("fingerprint: %q… has %d characters, at most %d are wanted: %w", s[:maxSpelled], len(s), maxSpelled, ErrFingerprint)
	}
	digits := s
	if strings.Contains(s, ":") {
		digits = withoutColons(s)
	}
	switch digits = strings.ToLower(digits); {
	case digits == "":
		return fmt.Errorf("fingerprint: %q is not hexadecimal digits, bare or in pairs between colons: %w", s, ErrFingerprint)
	case len(digits) == 2*sha1.Size && len(sum) == sha256.Size:
		return fmt.Errorf("fingerprint: %q has 40 digits, as a SHA-1 has; 64 are wanted (read an old list by ParseOldCertificate): %w", s, ErrFingerprint)
	case len(digits) != 2*len(sum):
		return fmt.Errorf("fingerprint: %q has %d digits, %d are wanted: %w", s, len(digits), 2*len(sum), ErrFingerprint)
	}
	zero := strings.Trim(digits, "0") == ""
	if !unhex(sum, digits) || zero {
		clear(sum)
		why := "something else than hexadecimal digits"
		if zero {
			why = "zeros only"
		}
		return fmt.Errorf("fingerprint: %q has %s: %w", s, why, ErrFingerprint)
	}
	return nil
}

// withoutColons joins pairs of digits; it is empty when they are not pairs.
func withoutColons(s string) string {
	pairs := strings.Split(s, ":")
	for _, pair := range pairs {
		if len(pair) != 2 {
			return ""
		}
	}
	return strings.Join(pairs, "")
}
