package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// Import takes a CA certificate that somebody else made, with its key, as the authority of a cluster: a root of another
// tool, or a CA certificate that an external CA signed for the cluster. The file is PEM: the certificate, then those
// above it as far as they are at hand, each checked against the next; nothing in it is skipped. A file with a private
// key is refused. Whatever stands above it, the anchor that members trust is the authority's own certificate, by its
// key, and never the external root: under that, every sister cluster would be trusted too.
//
// The error wraps ErrChain when a certificate is not good at this time (zero: the present) or cannot certify what a
// cluster needs, ErrMismatch when the key is another's, keystore.ErrAlgorithm when one is weak, and
// fingerprint.ErrIdentity when the certificate names another cluster.
func Import(file []byte, signer crypto.Signer, cluster fingerprint.ClusterID, now time.Time) (*Authority, error) {
	a, err := importAuthority(file, signer, cluster, now)
	if err != nil {
		return nil, fmt.Errorf("ca: import the authority of %q: %w", cluster.Domain, err)
	}
	return a, nil
}

func importAuthority(file []byte, signer crypto.Signer, cluster fingerprint.ClusterID, now time.Time) (*Authority, error) {
	if err := cluster.Validate(); err != nil {
		return nil, err
	}
	if now.IsZero() {
		now = time.Now()
	}
	chain, err := parseChain(file)
	if err != nil {
		return nil, err
	}
	a, err := Open(chain[0], signer)
	if err != nil {
		return nil, err
	}
	if named := a.cluster; named.UUID != "" && named.UUID != cluster.UUID || named.Domain != "" && named.Domain != cluster.Domain {
		return nil, fmt.Errorf("its certificate names cluster %.36q (%.64q): %w", named.UUID, named.Domain, fingerprint.ErrIdentity)
	}
	a.cluster = cluster
	for i, c := range chain {
		issuer := c // the last may be a root, or signed by one that is not in the file
		if i+1 < len(chain) {
			issuer = chain[i+1]
		}
		if err := goodAuthority(c, issuer, now); err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
	}
	return a, certifiesMembers(chain[0], cluster)
}

// goodAuthority looks at one CA certificate of a file and at its link to the next. One that ends the file and is not
// self-issued is taken as it is: who signed it is not at hand, and members trust its key.
func goodAuthority(c, issuer *x509.Certificate, now time.Time) error {
	name := c.Subject.CommonName
	if _, err := keystore.AlgorithmOf(c.PublicKey); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	switch {
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%q is not a CA's: %w", name, ErrChain)
	case len(c.SubjectKeyId) == 0:
		return fmt.Errorf("%q has no subject key identifier: %w", name, ErrChain)
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("%q has critical extension %v, which nobody here understands: %w", name, c.UnhandledCriticalExtensions[0], ErrChain)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return notNow(c)
	case c != issuer:
		return goodLink(c, issuer, now)
	case bytes.Equal(c.RawIssuer, c.RawSubject):
		if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			return fmt.Errorf("%q: its own signature: %w: %w", name, ErrChain, err)
		}
	}
	return nil
}

func notNow(c *x509.Certificate) error {
	return fmt.Errorf("%q is good from %s to %s: %w", c.Subject.CommonName, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), ErrChain)
}

// certifiesMembers says whether what an authority signs for members would be accepted by verifiers that look at its own
// limits.
func certifiesMembers(c *x509.Certificate, cluster fingerprint.ClusterID) error {
	limited := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
	for _, p := range []purpose{serverAuth, clientAuth, documentOnly} {
		if limited && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) && !has(c, p) {
			return fmt.Errorf("%q is limited to other usages than members' (serverAuth, clientAuth, documentSigning): %w", c.Subject.CommonName, ErrChain)
		}
	}
	if len(c.PermittedURIDomains) > 0 && !slices.Contains(c.PermittedURIDomains, cluster.Domain) || slices.ContainsFunc(c.ExcludedURIDomains, covers(cluster.Domain)) {
		return fmt.Errorf("%q may not certify URIs of %q: %w", c.Subject.CommonName, cluster.Domain, ErrChain)
	}
	return nil
}

// covers says whether a URI constraint is about a domain: the domain itself, or one that it lies in, with a leading dot
// or without (RFC 5280 §4.2.1.10 has the dot; to exclude, the wider reading counts).
func covers(domain string) func(constraint string) bool {
	return func(constraint string) bool {
		return strings.HasSuffix("."+domain, "."+strings.TrimPrefix(constraint, "."))
	}
}

func has(c *x509.Certificate, p purpose) bool {
	if p.id == nil {
		return slices.Contains(c.ExtKeyUsage, p.known)
	}
	return slices.ContainsFunc(c.UnknownExtKeyUsage, p.id.Equal)
}

// Supplied is a member's certificate that was not issued by an authority at hand, but brought by an operator.
type Supplied struct {
	Cluster  fingerprint.ClusterID
	Identity fingerprint.Identity // whose it is to be
	Anchor   *x509.Certificate    // the CA certificate that the cluster's members trust
	Chain    []byte               // PEM: the leaf, at most one intermediate, and the anchor if it is there
	Signer   crypto.Signer        // the leaf's key
	Now      time.Time            // zero: the present
}

// ErrSupplied is wrapped when a certificate that an operator brought is not one that members would accept.
var ErrSupplied = errors.New("certificate is not good for that member")

// AcceptLeaf takes a certificate that an operator brought, after everything that a peer would ask of it: that it
// parses, in whole and with nothing around it; that the key is its own and strong; that it names this identity, of this
// cluster, and may do what the role does and no more; that it leads to the anchor now. The error names the first thing
// that is wrong, and wraps ErrSupplied, ErrChain, ErrMismatch, keystore.ErrAlgorithm or fingerprint.ErrIdentity.
func AcceptLeaf(s Supplied) (*Leaf, error) {
	leaf, err := acceptLeaf(s)
	if err != nil {
		return nil, fmt.Errorf("ca: accept the certificate of %q: %w", s.Identity, err)
	}
	return leaf, nil
}

func acceptLeaf(s Supplied) (*Leaf, error) {
	if err := errors.Join(s.Cluster.Validate(), s.Identity.Validate()); err != nil {
		return nil, err
	}
	chain, err := parseChain(s.Chain)
	if err != nil {
		return nil, err
	}
	c := chain[0]
	key, err := acceptable(s.Signer.Public())
	if err != nil {
		return nil, err
	}
	if KeyOf(c) != key.fingerprint {
		return nil, fmt.Errorf("the key is %s, the certificate's %s: %w", key.fingerprint.Short(), KeyOf(c).Short(), ErrMismatch)
	}
	id, err := IdentityOf(c)
	if err != nil {
		return nil, err
	}
	if id != s.Identity || id.Domain != s.Cluster.Domain || ClusterUUIDOf(c) != s.Cluster.UUID {
		return nil, fmt.Errorf("it names %q of cluster %.36q: %w", id, ClusterUUIDOf(c), fingerprint.ErrIdentity)
	}
	if err := leafForm(c, leafProfiles[id.Role]); err != nil {
		return nil, err
	}
	return s.link(c, chain[1:])
}

// leafForm wants the usages of the role, all of them and no others.
func leafForm(c *x509.Certificate, p *profile) error {
	switch {
	case c.Version != 3 || c.IsCA || !c.BasicConstraintsValid:
		return fmt.Errorf("it is a CA's, or does not say that it is not: %w", ErrSupplied)
	case c.KeyUsage != p.keyUsage:
		return fmt.Errorf("its key usage is %v, a %s has %v alone: %w", c.KeyUsage, p.name, p.keyUsage, ErrSupplied)
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) != len(p.purposes) || slices.ContainsFunc(p.purposes, func(x purpose) bool { return !has(c, x) }):
		return fmt.Errorf("its extended key usages are not exactly those of a %s: %w", p.name, ErrSupplied)
	case len(c.SubjectKeyId) == 0 || len(c.AuthorityKeyId) == 0:
		return fmt.Errorf("a key identifier is missing: %w", ErrSupplied)
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has critical extension %v, which nobody here understands: %w", c.UnhandledCriticalExtensions[0], ErrSupplied)
	}
	return nil
}

// link finds the leaf's issuer, which is the anchor or an intermediate right below it.
func (s Supplied) link(c *x509.Certificate, above []*x509.Certificate) (*Leaf, error) {
	now := s.Now
	if now.IsZero() {
		now = time.Now()
	}
	if n := len(above); n > 0 && bytes.Equal(above[n-1].Raw, s.Anchor.Raw) {
		above = above[:n-1]
	}
	issuer := s.Anchor
	switch len(above) {
	case 0:
	case 1:
		issuer = above[0]
		if err := goodAuthority(issuer, s.Anchor, now); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%d certificates between it and the anchor, at most 1: %w", len(above), ErrChain)
	}
	switch {
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return nil, notNow(c)
	case c.NotAfter.After(issuer.NotAfter):
		return nil, fmt.Errorf("it ends %s, its issuer %s: %w", c.NotAfter.Format(time.RFC3339), issuer.NotAfter.Format(time.RFC3339), ErrChain)
	case !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
		return nil, fmt.Errorf("it is not issued by %q: %w", issuer.Subject.CommonName, ErrChain)
	case KeyOf(c) == KeyOf(issuer) || KeyOf(c) == KeyOf(s.Anchor):
		return nil, fmt.Errorf("its key is a CA's: %w", ErrSupplied)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(s.Anchor)
	for _, x := range above {
		between.AddCert(x)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := c.Verify(options); err != nil { // with path lengths and name constraints
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	return &Leaf{Certificate: c, Issuer: issuer}, nil
}
