package verify

import (
	"bytes"
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

// Why a signed bundle is not accepted; the error of Advance wraps one of them, or ErrMalformed.
var (
	// ErrNotNext: it does not come directly after the state held. An older one is harmless, a later one needs those
	// in between, and one with another predecessor is a branch: report it.
	ErrNotNext = errors.New("not the state after the one held")
	// ErrSigner: whoever signed may not, or has no good certificate of the root that signs in the new state.
	ErrSigner = errors.New("not signed by a control member that the state held names")
	// ErrUntrustedRoot: somebody tries to bring in a root.
	ErrUntrustedRoot = errors.New("a root that the roots held do not vouch for")
	// ErrFromFuture: try again later, or set the clock.
	ErrFromFuture = errors.New("issued in the future: set the clock that is wrong, here or at the CA")
	// ErrTakenBack: a retired key, a dropped root, a number or a step of a rollover would be undone.
	ErrTakenBack = errors.New("takes back what was final")
)

// SignBundle signs the payload of a committed bundle with document signers of control members: one is enough for a member.
func SignBundle(payload []byte, documents ...crypto.Signer) ([]byte, error) {
	signed, err := dsse.Sign(bundleType, payload, documents...)
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
// document key alone can therefore add no root, and a stolen root alone cannot either. A document key may sign the state
// that replaces it, for which the certificate that held has of it counts.
//
// A member that slept walks state by state. Dates on the way are compared with the step's own, since they are past; roots
// are judged by the present in each handshake. now only bounds how far ahead a step may have been issued.
func Advance(held *Bundle, signed []byte, now time.Time) (*Bundle, error) {
	payload, keys, err := dsse.Open(signed, bundleType, documentKeys(held))
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
		func() error { return keepsOrder(held, next) },
		func() error { return newDocumentKeys(held, next) },
		func() error { return mayPublish(held, next, keys) },
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
		if len(x.Documents) == 0 {
			continue
		}
		if c, err := parse(x.Documents[0]); err == nil && ca.KeyOf(c) == x.Document {
			keys = append(keys, c.PublicKey)
		}
	}
	return keys
}

func follows(held, next *Bundle) error {
	switch {
	case next.Cluster != held.Cluster:
		return fmt.Errorf("it is of cluster %s: %w", next.Cluster.UUID, ErrNotNext)
	case next.Version == held.Version && next.Digest() != held.Digest():
		return fmt.Errorf("it is another state %v than the one held: %w: %w", held.Version, ErrNotNext, ErrEquivocation)
	case !next.Supersedes(held) || next.Version != held.Version.Next():
		return ErrNotNext
	case next.Previous != held.Digest():
		return fmt.Errorf("it follows another state %v than the one held: %w: %w", held.Version, ErrNotNext, ErrEquivocation)
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
	if _, ok := held.withKey(next.SignerKey()); !ok {
		return fmt.Errorf("root g%d signs before it was trusted: %w", next.Signer, ErrUntrustedRoot)
	}
	before, err := held.RootCertificate(held.Signer)
	if err != nil {
		return err
	}
	for i, r := range next.Roots {
		old, ok := held.withKey(r.Key)
		switch {
		case !ok:
			err = bridged(r, next.certificates[i], before, held.lastGeneration())
		case old.Generation != r.Generation:
			err = fmt.Errorf("it was g%d", old.Generation)
		default:
			err = sameSubject(held, r, next.certificates[i])
		}
		if err != nil {
			return fmt.Errorf("root g%d: %w: %w", r.Generation, ErrUntrustedRoot, err)
		}
	}
	return nil
}

func (b *Bundle) withKey(k fingerprint.Key) (Root, bool) {
	i := slices.IndexFunc(b.Roots, func(r Root) bool { return r.Key == k })
	if i < 0 {
		return Root{}, false
	}
	return b.Roots[i], true
}

func (b *Bundle) lastGeneration() int { return b.Roots[len(b.Roots)-1].Generation }

// bridged checks that before certified r's key under r's own name, and that r is of a new generation. Dates are not
// looked at: a member that slept walks along bridges that ended long ago.
func bridged(r Root, root, before *x509.Certificate, last int) error {
	if r.Generation <= last {
		return fmt.Errorf("it comes after g%d", last)
	}
	if r.Bridge == nil {
		return errors.New("it comes without a bridge")
	}
	bridge, err := bridgeOf(r, root)
	if err != nil {
		return err
	}
	if !bytes.Equal(bridge.RawIssuer, before.RawSubject) {
		return fmt.Errorf("its bridge names issuer %s", quote(bridge.Issuer.CommonName))
	}
	if err := bridge.CheckSignatureFrom(before); err != nil {
		return fmt.Errorf("its bridge: %w", err)
	}
	return nil
}

// sameSubject lets a root be issued again with its own key, under its own name.
func sameSubject(held *Bundle, r Root, again *x509.Certificate) error {
	was, err := held.RootCertificate(r.Generation)
	if err != nil {
		return err
	}
	if !bytes.Equal(was.RawSubject, again.RawSubject) {
		return fmt.Errorf("it was called %s", quote(was.Subject.CommonName))
	}
	return nil
}

// keepsFinal refuses a state that forgets a retired key, drops a root without retiring it, or counts generations or
// time again.
func keepsFinal(held, next *Bundle) error {
	for _, k := range held.Retired {
		if !slices.Contains(next.Retired, k) {
			return fmt.Errorf("key %s is retired no more: %w", k.Short(), ErrTakenBack)
		}
	}
	for _, r := range held.Roots {
		if _, kept := next.withKey(r.Key); !kept && !slices.Contains(next.Retired, r.Key) {
			return fmt.Errorf("root g%d is dropped but not retired: %w", r.Generation, ErrTakenBack)
		}
	}
	if next.Generations < held.Generations {
		return fmt.Errorf("%d generations after %d: %w", next.Generations, held.Generations, ErrTakenBack)
	}
	// Who signs with a certificate that ended could otherwise put the date back to where it was good.
	if next.Issued.Before(held.Issued) {
		return fmt.Errorf("issued %s, the one held %s: %w", next.Issued.Format(time.RFC3339), held.Issued.Format(time.RFC3339), ErrTakenBack)
	}
	return nil
}

// keepsOrder holds a step against the order of a rollover: a root is not dropped before the other one signed, and
// after the drop there is no way back. A phase may follow itself: other things change too.
func keepsOrder(held, next *Bundle) error {
	after := map[Phase][]Phase{
		Settled: {Settled, Trust},
		Trust:   {Trust, Switch},
		Switch:  {Switch, Trust, Drop},
		Drop:    {Drop, Settled},
	}
	if !slices.Contains(after[held.Phase], next.Phase) {
		return fmt.Errorf("phase %s after %s: %w", next.Phase, held.Phase, ErrTakenBack)
	}
	return nil
}

// newDocumentKeys wants a certificate of the root that signs for each document key that is new: a state after which
// nobody could sign is not followed.
func newDocumentKeys(held, next *Bundle) error {
	root, err := next.RootCertificate(next.Signer)
	if err != nil {
		return err
	}
	for _, x := range next.Control {
		if !held.names(x.Document) && !next.certified(root, x.Document, next.Issued) {
			return fmt.Errorf("new document key %s of %q has no good certificate of root g%d: %w", x.Document.Short(), x.Member, next.Signer, ErrSigner)
		}
	}
	return nil
}

// names reports whether k is a document key of b.
func (b *Bundle) names(k fingerprint.Key) bool {
	return slices.ContainsFunc(b.Control, func(x Controller) bool { return x.Document == k })
}

// mayPublish checks that a key which signed next has a certificate of the root that signs in it. For a key that next
// replaces it is the certificate in held that counts: otherwise the only document signer could never be replaced.
func mayPublish(held, next *Bundle, keys []crypto.PublicKey) error {
	var staying, leaving []crypto.PublicKey
	for _, key := range keys {
		if k, err := fingerprint.OfPublicKey(key); err == nil && next.names(k) {
			staying = append(staying, key)
		} else {
			leaving = append(leaving, key)
		}
	}
	err := signerHolds(next, next, staying, next.Issued)
	if err != nil && len(leaving) > 0 {
		err = signerHolds(next, held, leaving, next.Issued)
	}
	return err
}

// signerHolds checks that a key which signed has a certificate of the root that signs in b, good at the time given, for
// documents and nothing else, among those that state has.
func signerHolds(b, state *Bundle, keys []crypto.PublicKey, at time.Time) error {
	root, err := b.RootCertificate(b.Signer)
	if err != nil {
		return err
	}
	var last fingerprint.Key
	for _, key := range keys {
		if last, err = fingerprint.OfPublicKey(key); err != nil {
			return err
		}
		if state.certified(root, last, at) {
			return nil
		}
	}
	return fmt.Errorf("document key %s has no certificate of root g%d that is good at %s: let a CA daemon renew it: %w",
		last.Short(), b.Signer, at.UTC().Format(time.RFC3339), ErrSigner)
}

// certified reports whether b has a good certificate of a document key by root.
func (b *Bundle) certified(root *x509.Certificate, k fingerprint.Key, at time.Time) bool {
	return slices.ContainsFunc(b.Control, func(x Controller) bool {
		return slices.ContainsFunc(x.Documents, func(der []byte) bool { return certifies(root, der, k, at) })
	})
}

func certifies(root *x509.Certificate, der []byte, k fingerprint.Key, at time.Time) bool {
	c, err := parse(der)
	return err == nil && ca.KeyOf(c) == k && signsDocuments(c) &&
		!at.Before(c.NotBefore) && !at.After(c.NotAfter) && c.CheckSignatureFrom(root) == nil
}
