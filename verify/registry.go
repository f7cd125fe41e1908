package verify

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
)

const registryType = "application/vnd.clusterca.registry.v1+json"

// ErrRegistry is wrapped when a signed registry is not accepted.
var ErrRegistry = errors.New("registry is not accepted")

// head is what is signed of a registry: the digest of its lines, not the lines, so that differences can be sent too.
type head struct {
	Cluster    fingerprint.ClusterID `json:"cluster"`
	Version    fingerprint.Version   `json:"version"`
	Digest     Digest                `json:"digest"`
	State      fingerprint.Version   `json:"state"` // trust state under which it was signed
	Issued     time.Time             `json:"issued"`
	FreshUntil time.Time             `json:"fresh_until"`
}

// signedRegistry is the registry as it travels.
type signedRegistry struct {
	Head  []byte `json:"head"`  // envelope
	Lines string `json:"lines"` // text form of the registry
}

// SignRegistry signs a registry with the document signer of a control member that b names. The error is that of the
// key, or wraps ErrRegistry when nobody would accept the result.
func SignRegistry(b *Bundle, r *fingerprint.Registry, issued, freshUntil time.Time, document crypto.Signer) ([]byte, error) {
	signed, err := signRegistry(b, r, issued.UTC(), freshUntil.UTC(), document)
	if err != nil {
		return nil, fmt.Errorf("verify: sign registry %v: %w", r.Version(), err)
	}
	return signed, nil
}

func signRegistry(b *Bundle, r *fingerprint.Registry, issued, freshUntil time.Time, document crypto.Signer) ([]byte, error) {
	h := head{b.Cluster, r.Version(), r.Digest(), b.Version, issued, freshUntil}
	if err := h.fits(b); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	signed, err := dsse.Sign(registryType, payload, document)
	if err != nil {
		return nil, err
	}
	lines, err := r.AppendText(nil)
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(signedRegistry{signed, string(lines)})
	if err != nil {
		return nil, err
	}
	if len(doc) > maxRegistry {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(doc), maxRegistry, ErrRegistry)
	}
	return doc, nil
}

func (h *head) fits(b *Bundle) error {
	switch {
	case h.Cluster != b.Cluster:
		return fmt.Errorf("it is of cluster %s: %w", h.Cluster.UUID, ErrRegistry)
	case h.Issued.IsZero() || !h.FreshUntil.After(h.Issued):
		return fmt.Errorf("it is not fresh for any time: %w", ErrRegistry)
	}
	return nil
}

// OpenRegistry returns the registry in doc if a member that holds the bundle may use it: signed by a document key that
// the bundle names, whose certificate comes from the root that signs now and is good now. Whether it is newer than the
// registry held is the caller's question: never go back. The error wraps ErrRegistry, ErrSigner or ErrFromFuture.
func OpenRegistry(held *Bundle, doc []byte, now time.Time) (*fingerprint.Registry, error) {
	r, err := openRegistry(held, doc, now)
	if err != nil {
		return nil, fmt.Errorf("verify: registry: %w", err)
	}
	return r, nil
}

func openRegistry(held *Bundle, doc []byte, now time.Time) (*fingerprint.Registry, error) {
	if len(doc) > maxRegistry {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(doc), maxRegistry, ErrRegistry)
	}
	var s signedRegistry
	if err := dsse.Decode(doc, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	h, err := openHead(held, s.Head, now)
	if err != nil {
		return nil, err
	}
	if DigestOf([]byte(s.Lines)) != h.Digest {
		return nil, fmt.Errorf("its lines are not those that were signed: %w", ErrRegistry)
	}
	r, err := fingerprint.ParseRegistry(h.Version, []byte(s.Lines))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	return r, nil
}

// openHead reads a head that the right signer signed.
func openHead(held *Bundle, signed []byte, now time.Time) (*head, error) {
	payload, key, err := dsse.Open(signed, registryType, documentKeys(held))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	h := new(head)
	if err := decodeCanonical(payload, h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	return h, firstError(
		func() error { return h.fits(held) },
		func() error { return notAhead(h.Issued, now) },
		func() error { return signerHolds(held, key, now) },
	)
}
