package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
)

// ErrMalformed is wrapped when a document is not what it must be, whoever signed it.
var ErrMalformed = errors.New("malformed")

// check refuses every state that cannot be.
func (b *Bundle) check() error {
	return firstError(
		b.Cluster.Validate,
		b.checkNumbers,
		b.checkRoots,
		b.checkPhase,
		b.checkControl,
		b.checkRest,
	)
}

func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) checkNumbers() error {
	switch {
	case b.Version.Term == 0 || b.Version.Number == 0:
		return errors.New("term and epoch count from 1")
	case len(b.Roots) == 0 || len(b.Roots) > maxRoots:
		return fmt.Errorf("%d roots, want 1 to %d", len(b.Roots), maxRoots)
	case len(b.Control) == 0 || len(b.Control) > maxControl:
		return fmt.Errorf("%d control members, want 1 to %d", len(b.Control), maxControl)
	case len(b.Retired) > maxRetired || len(b.Waivers) > maxWaivers || len(b.Debts) > maxDebts:
		return errors.New("too many retired keys, waivers or debts")
	case b.Issued.IsZero() || !b.FreshUntil.After(b.Issued):
		return errors.New("it is not fresh for any time")
	}
	return nil
}

// checkPhase holds the phase against the set of roots and the two ends of the rollover.
func (b *Bundle) checkPhase() error {
	both := len(b.Roots) == 2 && b.trusts(b.From) && b.trusts(b.To) && b.From != b.To
	ok := false
	switch b.Phase {
	case Settled:
		ok = len(b.Roots) == 1 && b.From == 0 && b.To == 0 && b.trusts(b.Signer)
	case Trust:
		ok = both && b.Signer == b.From
	case Switch:
		ok = both && b.Signer == b.To
	case Drop:
		ok = len(b.Roots) == 1 && b.From != 0 && b.From != b.To && b.Signer == b.To && b.trusts(b.To)
	}
	if !ok {
		return fmt.Errorf("phase %q does not fit signer g%d, from g%d, to g%d and %d roots", b.Phase, b.Signer, b.From, b.To, len(b.Roots))
	}
	return nil
}

func (b *Bundle) trusts(generation int) bool {
	_, ok := b.Root(generation)
	return ok
}

func (b *Bundle) checkRoots() error {
	b.certificates = nil
	for i, r := range b.Roots {
		if i > 0 && r.Generation <= b.Roots[i-1].Generation || r.Generation < 1 || r.Generation > b.Generations {
			return fmt.Errorf("root g%d is out of order, or above the %d generations begun", r.Generation, b.Generations)
		}
		certificate, err := b.checkRoot(r)
		if err != nil {
			return fmt.Errorf("root g%d: %w", r.Generation, err)
		}
		b.certificates = append(b.certificates, certificate)
	}
	return nil
}

func (b *Bundle) checkRoot(r Root) (*x509.Certificate, error) {
	c, err := parse(r.Certificate)
	switch {
	case err != nil:
		return nil, err
	case ca.KeyOf(c) != r.Key:
		return nil, fmt.Errorf("its certificate has key %s, not %s", ca.KeyOf(c).Short(), r.Key.Short())
	case !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("its certificate is not a CA's")
	case ca.ClusterUUIDOf(c) != b.Cluster.UUID || len(c.URIs) != 1 || c.URIs[0].String() != b.Cluster.URI():
		return nil, fmt.Errorf("its certificate is of cluster %q", ca.ClusterUUIDOf(c))
	case slices.Contains(b.Retired, r.Key):
		return nil, errors.New("its key is retired")
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return nil, fmt.Errorf("its own signature: %w", err)
	}
	if r.Bridge != nil {
		bridge, err := parse(r.Bridge)
		if err != nil || ca.KeyOf(bridge) != r.Key {
			return nil, errors.New("its bridge does not certify its key")
		}
	}
	if len(r.Canary) > maxCertificate {
		return nil, errors.New("its canary is too large")
	}
	return c, nil
}

func parse(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes, at most %d", len(der), maxCertificate)
	}
	return x509.ParseCertificate(der)
}

func (b *Bundle) checkControl() error {
	seen := make(map[fingerprint.Key]bool)
	for _, x := range b.Control {
		if x.Member.Role != fingerprint.Control || x.Member.Domain != b.Cluster.Domain {
			return fmt.Errorf("%q is not a control member of the cluster", x.Member)
		}
		for _, k := range []fingerprint.Key{x.Current, x.Next, x.Document} {
			if k != x.Next && k.IsZero() || !k.IsZero() && seen[k] {
				return fmt.Errorf("keys of %q are missing or not its own", x.Member)
			}
			seen[k] = !k.IsZero()
		}
		if len(x.Documents) == 0 || len(x.Documents) > maxRoots {
			return fmt.Errorf("%q has %d document certificates", x.Member, len(x.Documents))
		}
		for _, der := range x.Documents {
			if c, err := parse(der); err != nil || ca.KeyOf(c) != x.Document {
				return fmt.Errorf("a document certificate of %q does not certify its key", x.Member)
			}
		}
	}
	return nil
}

func (b *Bundle) checkRest() error {
	for _, rule := range []fingerprint.Rule{b.Rules.Node, b.Rules.User} {
		if rule != fingerprint.Open && rule != fingerprint.Listed {
			return fmt.Errorf("rule %q is neither open nor listed", rule)
		}
	}
	if p := b.Pending; p != nil && (p.Generation < 1 || p.Generation > b.Generations || p.Label == "") {
		return errors.New("the pending rollover names no root")
	}
	return nil
}
