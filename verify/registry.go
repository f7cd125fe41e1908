package verify

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
)

const registryType = "application/vnd.clusterca.registry.v1+json"

var (
	// ErrRegistry is wrapped when a signed registry is not accepted.
	ErrRegistry = errors.New("registry is not accepted")
	// ErrEquivocation is wrapped when one number was given to two contents, or a branch is signed: whoever did that lies
	// to somebody. Keep what is held, and report both documents.
	ErrEquivocation = errors.New("two documents of one number: keep the first and report both")
)

// SignedRegistry is a registry with the head that vouches for it. It is never changed after it was made.
type SignedRegistry struct {
	Registry   *fingerprint.Registry
	Head       []byte // envelope: the evidence, should another of the same number turn up
	Issued     time.Time
	FreshUntil time.Time
}

// head is what is signed of a registry: the digest of its text, not the text, so that differences can be sent too.
type head struct {
	Cluster    fingerprint.ClusterID `json:"cluster"`
	Version    fingerprint.Version   `json:"version"`
	Digest     Digest                `json:"digest"`
	Previous   Digest                `json:"previous,omitzero"` // of the registry of the number before
	State      fingerprint.Version   `json:"state"`             // trust state under which it was signed
	Issued     time.Time             `json:"issued"`
	FreshUntil time.Time             `json:"fresh_until"`
}

// SignRegistry signs a registry with document signers of control members that b names. previous is the digest of the
// registry whose number comes before, zero for the first one. The error is that of a key, or wraps ErrRegistry when nobody
// would accept the result.
func SignRegistry(b *Bundle, r *fingerprint.Registry, previous Digest, issued, freshUntil time.Time, documents ...crypto.Signer) (*SignedRegistry, error) {
	h := &head{b.Cluster, r.Version(), r.Digest(), previous, b.Version, issued.UTC(), freshUntil.UTC()}
	signed, err := h.sign(b, documents)
	if err != nil {
		return nil, fmt.Errorf("verify: sign registry %v: %w", r.Version(), err)
	}
	return &SignedRegistry{r, signed, h.Issued, h.FreshUntil}, nil
}

func (h *head) sign(b *Bundle, documents []crypto.Signer) ([]byte, error) {
	if err := h.fits(b); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return dsse.Sign(registryType, payload, documents...)
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

// Document is how the registry travels to a member that holds since: the head, on a line of its own, and the difference,
// or the whole text when since is nil or the difference has more lines. The error wraps ErrRegistry when it is too large.
func (s *SignedRegistry) Document(since *fingerprint.Registry) ([]byte, error) {
	doc := append(bytes.Clone(s.Head), '\n')
	var difference []byte
	if since != nil {
		difference = fingerprint.Difference(since, s.Registry)
	}
	if since == nil || bytes.Count(difference, []byte("\n")) > s.Registry.Len() {
		var err error
		if doc, err = s.Registry.AppendText(doc); err != nil {
			return nil, err
		}
	} else {
		doc = append(doc, difference...)
	}
	if len(doc) > maxRegistry {
		return nil, fmt.Errorf("verify: registry %v: %d bytes, at most %d: %w", s.Registry.Version(), len(doc), maxRegistry, ErrRegistry)
	}
	return doc, nil
}

// Stale reports whether the registry is past its time: who holds it goes on with the peers that it knows, admits no new
// ones, and says so.
func (s *SignedRegistry) Stale(now time.Time) bool { return now.After(s.FreshUntil) }

// OpenRegistry returns the registry in doc if a member that holds the bundle, and have before it (nil when it has none),
// may use it: signed by a document key that the bundle names, whose certificate comes from the root that signs now and is
// good now. An older one than have is refused with ErrTakenBack, another of the same number, or after another
// predecessor, with ErrEquivocation. The error wraps fingerprint.ErrDifference when doc is a difference from
// another registry than have: ask for the whole one. It wraps ErrRegistry, ErrSigner or ErrFromFuture otherwise.
func OpenRegistry(held *Bundle, have *SignedRegistry, doc []byte, now time.Time) (*SignedRegistry, error) {
	s, err := openRegistry(held, have, doc, now)
	if err != nil {
		return nil, fmt.Errorf("verify: registry: %w", err)
	}
	return s, nil
}

func openRegistry(held *Bundle, have *SignedRegistry, doc []byte, now time.Time) (*SignedRegistry, error) {
	signed, text, err := parts(doc)
	if err != nil {
		return nil, err
	}
	if have == nil {
		have = new(SignedRegistry)
	}
	h, err := openHead(held, signed, now, latest(now, held.Issued, have.Issued))
	if err != nil {
		return nil, err
	}
	if have.Registry != nil {
		if err := h.follows(have); err != nil {
			return nil, err
		}
	}
	return h.with(signed, have.Registry, text)
}

// parts are the head and the text of a document.
func parts(doc []byte) (signed, text []byte, err error) {
	if len(doc) > maxRegistry {
		return nil, nil, fmt.Errorf("%d bytes, at most %d: %w", len(doc), maxRegistry, ErrRegistry)
	}
	signed, text, ok := bytes.Cut(doc, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("it has no second line: %w", ErrRegistry)
	}
	return bytes.Clone(signed), text, nil
}

// latest is the time by which certificates are judged: a clock that was set back does not bring back who has ended. It
// is not the time by which a document is from the future: one wrong CA clock would pull all others along.
func latest(now time.Time, accepted ...time.Time) time.Time {
	return slices.MaxFunc(append(accepted, now), time.Time.Compare)
}

// openHead reads a head that the right signer signed, one whose certificate is good at a time that may be later than now.
func openHead(held *Bundle, signed []byte, now, at time.Time) (*head, error) {
	payload, keys, err := dsse.Open(signed, registryType, documentKeys(held))
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
		func() error { return signerHolds(held, held, keys, at) },
	)
}

// follows compares a head with the registry held. The same one may be signed again, by another daemon or under another
// state; its content and its place may not change.
func (h *head) follows(have *SignedRegistry) error {
	version, digest := have.Registry.Version(), Digest(have.Registry.Digest())
	switch {
	case h.Version.Less(version):
		return fmt.Errorf("%v after %v: %w", h.Version, version, ErrTakenBack)
	case h.Version == version && h.Digest != digest:
		return fmt.Errorf("another %v than the one held: %w", version, ErrEquivocation)
	case h.Version == version.Next() && h.Previous != digest:
		return fmt.Errorf("%v follows another %v than the one held: %w", h.Version, version, ErrEquivocation)
	}
	return nil
}

// with joins a head and its text, which is whole or a difference.
func (h *head) with(signed []byte, since *fingerprint.Registry, text []byte) (*SignedRegistry, error) {
	r, err := since.Apply(h.Version, text, h.Digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	return &SignedRegistry{r, signed, h.Issued, h.FreshUntil}, nil
}

// PeekRegistry reads a whole signed registry without judging who signed it: for a member's own disk, never for what
// somebody sent. The error wraps ErrRegistry.
func PeekRegistry(doc []byte) (*SignedRegistry, error) {
	s, err := peekRegistry(doc)
	if err != nil {
		return nil, fmt.Errorf("verify: registry: %w: %w", ErrRegistry, err)
	}
	return s, nil
}

func peekRegistry(doc []byte) (*SignedRegistry, error) {
	signed, text, err := parts(doc)
	if err != nil {
		return nil, err
	}
	payload, err := dsse.Payload(signed, registryType)
	if err != nil {
		return nil, err
	}
	h := new(head)
	if err := decodeCanonical(payload, h); err != nil {
		return nil, err
	}
	return h.with(signed, nil, text)
}
