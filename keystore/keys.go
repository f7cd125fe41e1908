package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Signer is a private key that never leaves its keeper. Safe for concurrent use. Printing one shows its label and
// algorithm, never the key.
type Signer interface {
	crypto.Signer
	// Label is the name under which the keeper finds the key.
	Label() string
}

// Keys is a keeper of private keys. An implementation is safe for concurrent use, and what Generate and Delete did is
// durable when they return. Labels are 1 to 64 of a-z, 0-9 and hyphens; others give an error that wraps ErrName.
type Keys interface {
	// Generate makes a key under a label, or returns the one that is there: a caller that was killed in between
	// calls again and gets the same key. A key of another algorithm under the label is an error that wraps
	// fs.ErrExist, one that is not made an error that wraps ErrAlgorithm.
	Generate(ctx context.Context, label string, a Algorithm) (Signer, error)
	// Open finds a key; the error wraps fs.ErrNotExist when there is none.
	Open(ctx context.Context, label string) (Signer, error)
	// Delete destroys a key; the error wraps fs.ErrNotExist when there is none.
	Delete(ctx context.Context, label string) error
	// Labels lists what is kept, sorted.
	Labels(ctx context.Context) ([]string, error)
}

// ErrName is wrapped when a label or a record's key is not of the grammar.
var ErrName = errors.New("bad name")

func validLabel(label string) error {
	if len(label) > maxLabel || !segment(label) {
		return fmt.Errorf("label %.80q: want 1 to %d of a-z, 0-9 and hyphens: %w", label, maxLabel, ErrName)
	}
	return nil
}

// segment reports whether s is one part of a record's key: [a-z0-9-]+.
func segment(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return s != ""
}

// softwareKey is a private key in this process's memory.
type softwareKey struct {
	key       crypto.Signer
	label     string
	algorithm Algorithm
}

func (k *softwareKey) Public() crypto.PublicKey { return k.key.Public() }
func (k *softwareKey) Label() string            { return k.label }

func (k *softwareKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.key.Sign(rand, digest, opts)
}

// as returns the key to a caller of Generate, if it is what the caller asked for.
func (k *softwareKey) as(a Algorithm) (Signer, error) {
	if k.algorithm != a {
		return nil, fmt.Errorf("a key of %s is there, not of %s: delete it or take another label: %w", k.algorithm, a, fs.ErrExist)
	}
	return k, nil
}

// Format shows label and algorithm under every verb: %+v and %#v would otherwise walk into the private key.
func (k *softwareKey) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "key %q (%s)", k.label, k.algorithm)
}
