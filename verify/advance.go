package verify

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
)

const bundleType = "application/vnd.clusterca.bundle.v1+json"

// Why a signed bundle is not accepted. Each is wrapped by the error of Advance.
var (
	ErrNotNext       = errors.New("not the state after the one held")
	ErrSigner        = errors.New("not signed by a control member that the state held names")
	ErrUntrustedRoot = errors.New("a root that the roots held do not vouch for")
	ErrFromFuture    = errors.New("issued in the future: one of the two clocks is wrong")
	ErrTakenBack     = errors.New("takes back what was final")
)

// SignBundle signs the payload of a committed bundle with a control member's document signer.
func SignBundle(payload []byte, document crypto.Signer) ([]byte, error) {
	signed, err := dsse.Sign(bundleType, payload, document)
	if err != nil {
		return nil, fmt.Errorf("verify: sign trust state: %w", err)
	}
	return signed, nil
}

// PeekBundle reads a signed bundle without judging who signed it: for a CA daemon's own history, never for a member.
func PeekBundle(signed []byte) (*Bundle, error) {
	payload, err := dsse.Payload(signed, bundleType)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return ParseBundle(payload)
}

// Advance takes one step along the chain of signed bundles: it returns the bundle in signed if a member that holds held
// may follow it. That is so when it comes directly after held; when a document key that held names signed it,
// and that key has a certificate of the root that signs in the new state; when held trusts that root already; when
// every root that is new was certified by the root that signs in held; and when nothing final is taken back. A stolen
// document key alone can therefore add no root, and a stolen root alone cannot either.
func Advance(held *Bundle, signed []byte, now time.Time) (*Bundle, error) {
	payload, key, err := dsse.Open(signed, bundleType, documentKeys(held))
	if err != nil {
		return nil, fmt.Errorf("verify: state after %v: %w: %w", held.Version, ErrSigner, err)
	}
	next, err := ParseBundle(payload)
	if err != nil {
		return nil, err
	}
	err = firstError(
		func() error { return follows(held, next) },
		func() error { return notAhead(next.Issued, now) },
		func() error { return vouched(held, next) },
		func() error { return keepsFinal(held, next) },
		func() error { return signerHolds(next, key, next.Issued) },
	)
	if err != nil {
		return nil, fmt.Errorf("verify: state %v after %v: %w", next.Version, held.Version, err)
	}
	return next, nil
}

// documentKeys are the keys that may sign what follows b.
func documentKeys(b *Bundle) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, x := range b.Control {
		if c, err := x509.ParseCertificate(x.Documents[0]); err == nil {
			keys = append(keys, c.PublicKey)
		}
	}
	return keys
}

func follows(held, next *Bundle) error {
	switch {
	case next.Cluster != held.Cluster:
		return fmt.Errorf("it is of cluster %s: %w", next.Cluster.UUID, ErrNotNext)
	case !next.Supersedes(held) || next.Version != held.Version.Next():
		return ErrNotNext
	case next.Previous != held.Digest():
		return fmt.Errorf("it follows another state %v than the one held: %w", held.Version, ErrNotNext)
	}
	return nil
}

func notAhead(issued, now time.Time) error {
	if ahead := issued.Sub(now); ahead > maxSkew {
		return fmt.Errorf("%s ahead, at most %s: %w", ahead.Round(time.Second), maxSkew, ErrFromFuture)
	}
	return nil
}

// vouched checks that the signing root was trusted before, and that each new root was certified by the root that
// signed before.
func vouched(held, next *Bundle) error {
	trusted := func(k fingerprint.Key) bool {
		return slices.ContainsFunc(held.Roots, func(r Root) bool { return r.Key == k })
	}
	if !trusted(next.SignerKey()) {
		return fmt.Errorf("root g%d signs before it was trusted: %w", next.Signer, ErrUntrustedRoot)
	}
	before, err := held.RootCertificate(held.Signer)
	if err != nil {
		return err
	}
	for _, r := range next.Roots {
		if trusted(r.Key) {
			continue
		}
		if err := bridged(r, before); err != nil {
			return fmt.Errorf("root g%d: %w: %w", r.Generation, ErrUntrustedRoot, err)
		}
	}
	return nil
}

// bridged checks that before certified r's key under r's own name. Dates are not looked at: a member that slept walks
// along bridges that ended long ago.
func bridged(r Root, before *x509.Certificate) error {
	if r.Bridge == nil {
		return errors.New("it comes without a bridge")
	}
	bridge, err := parse(r.Bridge)
	if err != nil {
		return err
	}
	root, err := parse(r.Certificate)
	if err != nil {
		return err
	}
	if ca.KeyOf(bridge) != r.Key || !slices.Equal(bridge.RawSubject, root.RawSubject) || !bridge.IsCA {
		return errors.New("its bridge is for another root")
	}
	return bridge.CheckSignatureFrom(before)
}

// keepsFinal refuses a state that forgets a retired key, drops a root without retiring it, or counts generations
// again.
func keepsFinal(held, next *Bundle) error {
	for _, k := range held.Retired {
		if !slices.Contains(next.Retired, k) {
			return fmt.Errorf("key %s is retired no more: %w", k.Short(), ErrTakenBack)
		}
	}
	for _, r := range held.Roots {
		if kept := slices.ContainsFunc(next.Roots, func(n Root) bool { return n.Key == r.Key }); !kept && !slices.Contains(next.Retired, r.Key) {
			return fmt.Errorf("root g%d is dropped but not retired: %w", r.Generation, ErrTakenBack)
		}
	}
	if next.Generations < held.Generations {
		return fmt.Errorf("%d generations after %d: %w", next.Generations, held.Generations, ErrTakenBack)
	}
	return nil
}

// signerHolds checks that the key which signed has, in b, a certificate of the root that signs in b, good at the time
// given, for documents and nothing else.
func signerHolds(b *Bundle, key crypto.PublicKey, at time.Time) error {
	k, err := fingerprint.OfPublicKey(key)
	if err != nil {
		return err
	}
	root, err := b.RootCertificate(b.Signer)
	if err != nil {
		return err
	}
	for _, x := range b.Control {
		if x.Document != k {
			continue
		}
		for _, der := range x.Documents {
			if c, err := parse(der); err == nil && isDocumentSigner(c, at) && c.CheckSignatureFrom(root) == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("document key %s has no good certificate of root g%d: %w", k.Short(), b.Signer, ErrSigner)
}

// isDocumentSigner checks usage and dates. Backdating and skew are part of the certificate's own dates.
func isDocumentSigner(c *x509.Certificate, at time.Time) bool {
	return !c.IsCA && len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 1 &&
		c.UnknownExtKeyUsage[0].Equal(ca.DocumentSigning) && c.KeyUsage == x509.KeyUsageDigitalSignature &&
		len(c.URIs) == 0 && !at.Before(c.NotBefore) && !at.After(c.NotAfter)
}
