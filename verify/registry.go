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

// SignRegistry signs a registry with the document signer of a control member that b names.
func SignRegistry(b *Bundle, r *fingerprint.Registry, issued, freshUntil time.Time, document crypto.Signer) ([]byte, error) {
	payload, err := json.Marshal(head{b.Cluster, r.Version(), r.Digest(), b.Version, issued, freshUntil})
	if err != nil {
		return nil, fmt.Errorf("verify: sign registry %v: %w", r.Version(), err)
	}
	signed, err := dsse.Sign(registryType, payload, document)
	if err != nil {
		return nil, fmt.Errorf("verify: sign registry %v: %w", r.Version(), err)
	}
	lines, err := r.AppendText(nil)
	if err != nil {
		return nil, fmt.Errorf("verify: sign registry %v: %w", r.Version(), err)
	}
	return json.Marshal(signedRegistry{signed, string(lines)})
}

// OpenRegistry returns the registry in doc if a member that holds the bundle may use it: signed by a document key that
// the bundle names, whose certificate comes from the root that signs now. The error wraps ErrRegistry, ErrSigner or
// ErrFromFuture.
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
	payload, key, err := dsse.Open(s.Head, registryType, documentKeys(held))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	var h head
	if err := dsse.Decode(payload, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	if h.Cluster != held.Cluster || Digest(DigestOf([]byte(s.Lines))) != h.Digest {
		return nil, fmt.Errorf("it is of another cluster, or its lines are not those that were signed: %w", ErrRegistry)
	}
	if err := notAhead(h.Issued, now); err != nil {
		return nil, err
	}
	if err := signerHolds(held, key, now); err != nil {
		return nil, err
	}
	return fingerprint.ParseRegistry(h.Version, []byte(s.Lines))
}
