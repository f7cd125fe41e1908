package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Digest is the SHA-256 of a document's payload. It names the document: signatures never do, since an ECDSA signature
// can be altered without becoming invalid. Text: 64 lower-case hexadecimal digits.
type Digest [sha256.Size]byte

// DigestOf names a payload.
func DigestOf(payload []byte) Digest { return sha256.Sum256(payload) }

// String is the text form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText gives the text form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form.
func (d *Digest) UnmarshalText(b []byte) error {
	var parsed Digest
	if len(b) != 2*len(parsed) {
		return fmt.Errorf("verify: digest of %d characters, want %d", len(b), 2*len(parsed))
	}
	if _, err := hex.Decode(parsed[:], b); err != nil {
		return fmt.Errorf("verify: digest: %w", err)
	}
	if parsed.String() != string(b) {
		return errors.New("verify: digest: upper-case digits")
	}
	*d = parsed
	return nil
}
