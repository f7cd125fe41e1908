package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// Authority is a CA certificate and the signer that matches it.
type Authority struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	key         publicKey
	cluster     fingerprint.ClusterID
	rules       Rules
}

// RootRequest says what a root is called and how long it lives.
type RootRequest struct {
	Cluster    fingerprint.ClusterID
	Generation int           // from 1; it stands in the subject
	Name       string        // for people; empty: the trust domain
	Lifetime   time.Duration // 0: 5 years; at most 10
	Backdate   time.Duration // 0: Backdate
	Now        time.Time     // zero: the present
	Rules      Rules         // zero: none; the root's own certificate is recorded too
}

// ErrMismatch is wrapped when a signer and a certificate do not belong together.
var ErrMismatch = errors.New("signer does not match the certificate")

// CreateRoot makes a root: a self-signed CA certificate of the signer's key. The error wraps fingerprint.ErrIdentity,
// keystore.ErrAlgorithm or ErrLifetime when the request is not allowed.
func CreateRoot(signer crypto.Signer, r RootRequest) (*Authority, error) {
	a, err := createRoot(signer, r)
	if err != nil {
		return nil, fmt.Errorf("ca: create root g%d of %q: %w", r.Generation, r.Cluster.Domain, err)
	}
	return a, nil
}

func createRoot(signer crypto.Signer, r RootRequest) (*Authority, error) {
	if err := r.Cluster.Validate(); err != nil {
		return nil, err
	}
	if r.Generation < 1 {
		return nil, errors.New("generations count from 1")
	}
	key, err := acceptable(signer.Public())
	if err != nil {
		return nil, err
	}
	life, err := rootProfile.lifetime(r.Lifetime)
	if err != nil {
		return nil, err
	}
	v, err := span(r.Now, r.Backdate, life)
	if err != nil {
		return nil, err
	}
	d := authorityDraft(rootProfile, r.Cluster, key, v)
	d.subject = authoritySubject(r.Cluster, r.Name, fmt.Sprintf("root g%d", r.Generation), key.fingerprint).encode()
	d.by = key.scheme
	certificate, err := d.release(signer, r.Rules.Recorder)
	if err != nil {
		return nil, err
	}
	a, err := Open(certificate, signer)
	if err != nil {
		return nil, err
	}
	return a.Under(r.Rules), nil
}

// authorityDraft is what all CA certificates have in common. The URI constraint is a second line only: verifiers
// compare the whole identity.
func authorityDraft(p *profile, cluster fingerprint.ClusterID, key publicKey, v validity) *draft {
	return &draft{profile: p, key: key, validity: v, cluster: cluster.UUID, uri: cluster.URI(), domain: cluster.Domain}
}

// Open puts a CA certificate and its signer together. The error wraps ErrMismatch when they do not belong together;
// a certificate that is no CA's is refused too.
func Open(certificate *x509.Certificate, signer crypto.Signer) (*Authority, error) {
	key, err := acceptable(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("ca: open %q: %w", certificate.Subject.CommonName, err)
	}
	if want := KeyOf(certificate); key.fingerprint != want {
		return nil, fmt.Errorf("ca: open %q: signer has key %s, the certificate %s: %w", certificate.Subject.CommonName, key.fingerprint.Short(), want.Short(), ErrMismatch)
	}
	if !isCA(certificate) {
		return nil, fmt.Errorf("ca: open %q: the certificate is not a CA's", certificate.Subject.CommonName)
	}
	return &Authority{certificate, signer, key, clusterOf(certificate), Rules{}}, nil
}

// clusterOf reads which cluster a CA certificate is of: the trust domain is its one URI, the raw string as everywhere. What
// it does not say is empty.
func clusterOf(c *x509.Certificate) fingerprint.ClusterID {
	id := fingerprint.ClusterID{UUID: ClusterUUIDOf(c)}
	if uri, count, ok := uriOf(c.Extensions); ok && count == 1 {
		if domain, found := strings.CutPrefix(string(uri), fingerprint.ClusterID{}.URI()); found {
			id.Domain = domain
		}
	}
	return id
}

func isCA(c *x509.Certificate) bool {
	return c.BasicConstraintsValid && c.IsCA && c.KeyUsage&x509.KeyUsageCertSign != 0
}

// Certificate is the authority's own certificate; the caller does not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Key is the fingerprint of the authority's key.
func (a *Authority) Key() fingerprint.Key { return a.key.fingerprint }

// Bridge certifies the key of another root with this one: new-with-old, when a is the root before it. It has the other
// root's subject and key identifier, and ends with the first of the two. It is public and kept for ever.
func (a *Authority) Bridge(to *x509.Certificate) (*x509.Certificate, error) {
	bridge, err := a.bridge(to)
	if err != nil {
		return nil, fmt.Errorf("ca: bridge to %q: %w", to.Subject.CommonName, err)
	}
	return bridge, nil
}

func (a *Authority) bridge(to *x509.Certificate) (*x509.Certificate, error) {
	id := clusterOf(to)
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if id != a.cluster {
		return nil, fmt.Errorf("it is of cluster %s (%s), the authority of %s (%s): %w", id.Domain, id.UUID, a.cluster.Domain, a.cluster.UUID, fingerprint.ErrIdentity)
	}
	if !isCA(to) {
		return nil, errors.New("it is not a CA's")
	}
	if err := to.CheckSignature(to.SignatureAlgorithm, to.RawTBSCertificate, to.Signature); err != nil {
		return nil, fmt.Errorf("its own signature: %w", err)
	}
	if KeyOf(to) == a.key.fingerprint {
		return nil, errors.New("it has this authority's own key")
	}
	key, err := acceptable(to.PublicKey)
	if err != nil {
		return nil, err
	}
	v, err := validity{to.NotBefore, to.NotAfter}.within(a.span(), true)
	if err != nil {
		return nil, err
	}
	d := authorityDraft(bridgeProfile, id, key, v)
	d.subject = to.RawSubject
	return a.sign(d)
}

// span is the authority's own, which nothing that it signs may exceed.
func (a *Authority) span() validity { return validity{a.certificate.NotBefore, a.certificate.NotAfter} }

func (a *Authority) sign(d *draft) (*x509.Certificate, error) {
	d.issuer, d.by = a.certificate, a.key.scheme
	return d.release(a.signer, a.rules.Recorder)
}
