package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// check refuses every state that cannot be.
func (b *Bundle) check() error {
	return firstError(
		b.Cluster.Validate,
		b.checkNumbers,
		b.checkRetired,
		b.checkRoots,
		b.checkPhase,
		b.checkControl,
		b.checkMembers,
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

func (b *Bundle) checkRetired() error {
	for i, k := range b.Retired {
		if k.IsZero() || slices.Contains(b.Retired[:i], k) {
			return fmt.Errorf("retired key %s is nobody's, or stands twice", k.Short())
		}
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
		ok = len(b.Roots) == 1 && b.From >= 1 && b.From <= b.Generations && b.From != b.To && b.Signer == b.To && b.trusts(b.To)
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
		if slices.ContainsFunc(b.Roots[:i], func(x Root) bool { return x.Key == r.Key }) {
			return fmt.Errorf("root g%d has the key of another generation", r.Generation)
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
	if err != nil {
		return nil, err
	}
	switch {
	case ca.KeyOf(c) != r.Key:
		return nil, fmt.Errorf("its certificate has key %s, not %s", ca.KeyOf(c).Short(), r.Key.Short())
	case slices.Contains(b.Retired, r.Key):
		return nil, errors.New("its key is retired")
	case !isAuthority(c) || len(c.SubjectKeyId) == 0:
		return nil, errors.New("its certificate is not a CA's, or has no subject key identifier")
	case ca.ClusterUUIDOf(c) != b.Cluster.UUID || len(c.URIs) != 1 || c.URIs[0].String() != b.Cluster.URI():
		return nil, fmt.Errorf("its certificate is of cluster %s", quote(ca.ClusterUUIDOf(c)))
	case !bytes.Equal(c.RawIssuer, c.RawSubject):
		return nil, errors.New("its certificate has another issuer")
	case len(r.Canary) > maxCertificate:
		return nil, fmt.Errorf("canary of %d bytes, at most %d", len(r.Canary), maxCertificate)
	}
	if _, err := keystore.AlgorithmOf(c.PublicKey); err != nil {
		return nil, err
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return nil, fmt.Errorf("its own signature: %w", err)
	}
	if r.Bridge != nil {
		if _, err := bridgeOf(r, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func isAuthority(c *x509.Certificate) bool {
	return c.BasicConstraintsValid && c.IsCA && c.KeyUsage&x509.KeyUsageCertSign != 0
}

// bridgeOf reads a root's bridge: the same subject and key, certified by somebody else. Who that is, Advance asks.
func bridgeOf(r Root, root *x509.Certificate) (*x509.Certificate, error) {
	bridge, err := parse(r.Bridge)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if ca.KeyOf(bridge) != r.Key || !bytes.Equal(bridge.RawSubject, root.RawSubject) || !isAuthority(bridge) {
		return nil, errors.New("its bridge is for another root")
	}
	return bridge, nil
}

func (b *Bundle) checkControl() error {
	seen := make(map[fingerprint.Key]bool)
	for _, k := range b.Retired {
		seen[k] = true
	}
	for _, r := range b.Roots {
		seen[r.Key] = true
	}
	for i, x := range b.Control {
		if x.Member.Role != fingerprint.Control || x.Member.Domain != b.Cluster.Domain {
			return fmt.Errorf("%q is not a control member of the cluster", x.Member)
		}
		if slices.ContainsFunc(b.Control[:i], func(y Controller) bool { return y.Member == x.Member }) {
			return fmt.Errorf("%q stands twice", x.Member)
		}
		if x.Current.IsZero() || x.Document.IsZero() {
			return fmt.Errorf("%q has no key", x.Member)
		}
		for _, k := range []fingerprint.Key{x.Current, x.Next, x.Document} {
			if seen[k] {
				return fmt.Errorf("key %s of %q has another use", k.Short(), x.Member)
			}
			seen[k] = !k.IsZero()
		}
		if err := b.checkDocuments(x); err != nil {
			return fmt.Errorf("document signer of %q: %w", x.Member, err)
		}
	}
	return nil
}

// checkDocuments wants a certificate of the document key from each trusted root, in the roots' order, good for
// documents and nothing else. Their signatures and dates are checked when the key signed something.
func (b *Bundle) checkDocuments(x Controller) error {
	if len(x.Documents) != len(b.Roots) {
		return fmt.Errorf("%d certificates, want one for each of %d roots", len(x.Documents), len(b.Roots))
	}
	for i, der := range x.Documents {
		c, err := parse(der)
		if err != nil {
			return err
		}
		switch {
		case ca.KeyOf(c) != x.Document:
			return fmt.Errorf("its certificate has key %s, not %s", ca.KeyOf(c).Short(), x.Document.Short())
		case !signsDocuments(c) || ca.ClusterUUIDOf(c) != b.Cluster.UUID:
			return errors.New("its certificate is not for documents of this cluster alone")
		case !bytes.Equal(c.AuthorityKeyId, b.certificates[i].SubjectKeyId):
			return fmt.Errorf("certificate %d is not of root g%d", i+1, b.Roots[i].Generation)
		}
		if _, err := keystore.AlgorithmOf(c.PublicKey); err != nil {
			return err
		}
	}
	return nil
}

// signsDocuments reports whether a certificate is good for documents and can never be taken for a member's.
func signsDocuments(c *x509.Certificate) bool {
	return !c.IsCA && len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 1 &&
		c.UnknownExtKeyUsage[0].Equal(ca.DocumentSigning) &&
		c.KeyUsage == x509.KeyUsageDigitalSignature && len(c.URIs) == 0
}

// checkMembers wants each waiver and debt to name a member of the cluster, once.
func (b *Bundle) checkMembers() error {
	waived := make(map[fingerprint.Identity]bool)
	for _, w := range b.Waivers {
		if w.Member.Domain != b.Cluster.Domain || waived[w.Member] || w.Until.IsZero() {
			return fmt.Errorf("waiver of %q has no end, stands twice or is of another cluster", w.Member)
		}
		waived[w.Member] = true
	}
	indebted := make(map[fingerprint.Identity]bool)
	for _, id := range b.Debts {
		if id.Domain != b.Cluster.Domain || indebted[id] {
			return fmt.Errorf("debt of %q stands twice or is of another cluster", id)
		}
		indebted[id] = true
	}
	return nil
}

func (b *Bundle) checkRest() error {
	for _, rule := range []fingerprint.Rule{b.Rules.Node, b.Rules.User} {
		if rule != fingerprint.Open && rule != fingerprint.Listed {
			return fmt.Errorf("rule %q is neither open nor listed", rule)
		}
	}
	if p := b.Pending; p != nil && (p.Generation < 1 || p.Generation > b.Generations || p.Label == "" || b.trusts(p.Generation)) {
		return errors.New("the pending rollover names no new root")
	}
	return nil
}
