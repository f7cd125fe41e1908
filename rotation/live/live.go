package live

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// Credentials are all that a daemon's TLS uses. They are swapped together, since a leaf and a trust state that do not
// belong together refuse, or are refused by, everybody else.
type Credentials struct {
	Chain    [][]byte      // leaf first, as issued: without the bridge; DER
	Key      crypto.Signer // of the leaf
	Bundle   *verify.Bundle
	Registry *fingerprint.Registry // nil: empty
}

// Live is what a daemon's TLS uses. Safe for concurrent use.
type Live struct {
	now atomic.Pointer[snapshot]

	mu       sync.Mutex // guards what follows, and serialises swaps
	changed  chan struct{}
	refusals []verify.Refused // since the present state went live
	tracked  map[*tracked]struct{}
	onRefuse func(*verify.Refusal)
}

// snapshot is immutable, but for what it remembers.
type snapshot struct {
	Credentials
	verifier  *verify.Verifier
	leaf      *x509.Certificate
	self      verify.Peer
	presented tls.Certificate
	renewAt   time.Time
	proven    sync.Map // keys of roots whose canary was accepted
}

// Why Install refuses. The last good credentials stay live.
var (
	ErrOlder    = errors.New("older than what is live")
	ErrFence    = errors.New("leaf of a root that does not sign now")
	ErrIdentity = errors.New("credentials of another member")
	ErrPair     = errors.New("key does not fit the leaf")
	ErrValidity = errors.New("would lose validity")
)

// New checks credentials and makes them live: key and leaf fit, and the leaf is good by its own bundle, at the present
// time, in every respect but the registry. The error wraps ErrPair, or is a *verify.Refusal.
func New(c Credentials) (*Live, error) {
	s, err := newSnapshot(c)
	if err != nil {
		return nil, fmt.Errorf("live: %w", err)
	}
	l := &Live{changed: make(chan struct{}), tracked: make(map[*tracked]struct{})}
	l.now.Store(s)
	return l, nil
}

func newSnapshot(c Credentials) (*snapshot, error) {
	verifier, err := verify.NewVerifier(c.Bundle, c.Registry)
	if err != nil {
		return nil, err
	}
	s := &snapshot{Credentials: c, verifier: verifier}
	var chain []*x509.Certificate
	for i, der := range c.Chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", i, err)
		}
		chain = append(chain, certificate)
	}
	if s.self, err = verifier.Self(chain, time.Now()); err != nil {
		return nil, err
	}
	if key, err := fingerprint.OfPublicKey(c.Key.Public()); err != nil || key != s.self.Key {
		return nil, fmt.Errorf("key %s, leaf %s: %w", key.Short(), s.self.Key.Short(), ErrPair)
	}
	s.leaf = chain[0]
	s.presented = tls.Certificate{Certificate: withBridge(c, s.self.Issuer), PrivateKey: c.Key, Leaf: s.leaf}
	s.renewAt = RenewalMoment(s.self.Identity, s.leaf)
	return s, nil
}

// withBridge adds the bridge to the chain from switch to drop, for holders of a leaf of the new root: until then
// nobody needs it, and afterwards nobody who could use it is to be let in by it. A rollback goes back to a root that
// all hold, and presents none.
func withBridge(c Credentials, issuer fingerprint.Key) [][]byte {
	b := c.Bundle
	root, ok := b.Root(b.Signer)
	if !ok || b.Phase != verify.Switch || b.From > b.To || root.Key != issuer || root.Bridge == nil {
		return c.Chain
	}
	return append(append([][]byte{}, c.Chain...), root.Bridge)
}

// Install replaces what is live, for the next handshake on, or refuses and leaves it as it is. It refuses a bundle or
// registry with a lower number (ErrOlder), a new leaf that the bundle's signer did not issue (ErrFence), one
// that neither begins nor ends later than the live one (ErrValidity), another member's (ErrIdentity), and all that New
// refuses.
func (l *Live) Install(c Credentials) error {
	next, err := newSnapshot(c)
	if err != nil {
		return fmt.Errorf("live: install: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.now.Load()
	if err := held.mayBecome(next); err != nil {
		return fmt.Errorf("live: install: %w", err)
	}
	l.now.Store(next)
	if held.Bundle.Version != next.Bundle.Version {
		l.refusals = nil
	}
	if held.Bundle.Digest() != next.Bundle.Digest() || held.Registry.Version() != next.Registry.Version() {
		for t := range l.tracked {
			t.swapped(l)
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// mayBecome holds the rules of a member against a swap.
func (s *snapshot) mayBecome(next *snapshot) error {
	switch {
	case next.self.Identity != s.self.Identity:
		return fmt.Errorf("%q instead of %q: %w", next.self.Identity, s.self.Identity, ErrIdentity)
	case next.Bundle.Digest() != s.Bundle.Digest() && !next.Bundle.Supersedes(s.Bundle):
		return fmt.Errorf("state %v, live is %v: %w", next.Bundle.Version, s.Bundle.Version, ErrOlder)
	case next.Registry.Version().Less(s.Registry.Version()):
		return fmt.Errorf("registry %v, live is %v: %w", next.Registry.Version(), s.Registry.Version(), ErrOlder)
	case bytes.Equal(next.leaf.Raw, s.leaf.Raw):
		return nil
	case !next.Bundle.Admits(next.self.Issuer):
		return fmt.Errorf("issuer %s, state %v lets g%d sign: %w", next.self.Issuer.Short(), next.Bundle.Version, next.Bundle.Signer, ErrFence)
	case next.self.Issuer == s.self.Issuer && !next.leaf.NotBefore.After(s.leaf.NotBefore) && next.leaf.NotAfter.Before(s.leaf.NotAfter):
		return fmt.Errorf("leaf until %s instead of %s: %w", next.leaf.NotAfter.Format(time.RFC3339), s.leaf.NotAfter.Format(time.RFC3339), ErrValidity)
	}
	return nil
}

// Credentials returns what is live; the caller does not change it.
func (l *Live) Credentials() Credentials { return l.now.Load().Credentials }

// Identity is who the daemon is.
func (l *Live) Identity() fingerprint.Identity { return l.now.Load().self.Identity }

// Self is what peers see in the live leaf: who, with which key, from which issuer, until when.
func (l *Live) Self() verify.Peer { return l.now.Load().self }

// Leaf returns the live leaf; the caller does not change it.
func (l *Live) Leaf() *x509.Certificate { return l.now.Load().leaf }

// Presented returns the chain as peers see it at this moment: with the bridge in phase switch.
func (l *Live) Presented() [][]byte { return l.now.Load().presented.Certificate }

// Changed returns a channel that is closed at the next swap.
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Proven returns the keys of the trusted roots whose canary the live verifier accepts: the proof that leaves of
// that root, algorithm included, would be accepted here. What was accepted once is not judged again before the next
// swap.
func (l *Live) Proven(now time.Time) []fingerprint.Key {
	s := l.now.Load()
	var proven []fingerprint.Key
	for _, root := range s.Bundle.Roots {
		_, known := s.proven.Load(root.Key)
		if known || s.verifier.Canary(root, now) == nil {
			s.proven.Store(root.Key, nil)
			proven = append(proven, root.Key)
		}
	}
	return proven
}
