package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// Authority is a CA certificate and the signer that matches it.
type Authority struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	key         fingerprint.Key
}

// RootRequest says what a root is called and how long it lives.
type RootRequest struct {
	Cluster    fingerprint.ClusterID
	Generation int           // from 1; it stands in the subject
	Name       string        // for people; empty: the trust domain
	Lifetime   time.Duration // 0: 5 years; at most 10
	Backdate   time.Duration // 0: Backdate
	Now        time.Time     // zero: the present
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
	life, err := rootLifetime.choose(r.Lifetime)
	if err != nil {
		return nil, err
	}
	v, err := span(r.Now, r.Backdate, life)
	if err != nil {
		return nil, err
	}
	template := caTemplate(r.Cluster, rootSubject(r, key), key, v)
	certificate, err := sign(template, template, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	return Open(certificate, signer)
}

// acceptable returns the fingerprint of a key that may stand in a certificate.
func acceptable(public crypto.PublicKey) (fingerprint.Key, error) {
	if _, err := keystore.AlgorithmOf(public); err != nil {
		return fingerprint.Key{}, err
	}
	return fingerprint.OfPublicKey(public)
}

// Open puts a CA certificate and its signer together. The error wraps ErrMismatch when they do not belong together;
// a certificate that is no CA's is refused too.
func Open(certificate *x509.Certificate, signer crypto.Signer) (*Authority, error) {
	key, err := acceptable(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("ca: open %q: %w", certificate.Subject.CommonName, err)
	}
	if want := KeyOf(certificate); key != want {
		return nil, fmt.Errorf("ca: open %q: signer has key %s, the certificate %s: %w", certificate.Subject.CommonName, key.Short(), want.Short(), ErrMismatch)
	}
	if !certificate.BasicConstraintsValid || !certificate.IsCA || certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("ca: open %q: the certificate is not a CA's", certificate.Subject.CommonName)
	}
	return &Authority{certificate, signer, key}, nil
}

// Certificate is the authority's own certificate; the caller does not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Key is the fingerprint of the authority's key.
func (a *Authority) Key() fingerprint.Key { return a.key }

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
	id := fingerprint.ClusterID{UUID: to.Subject.SerialNumber}
	if len(to.URIs) == 1 {
		id.Domain = to.URIs[0].Host
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if id.UUID != a.certificate.Subject.SerialNumber {
		return nil, fmt.Errorf("it is of cluster %s, not %s", id.UUID, a.certificate.Subject.SerialNumber)
	}
	if err := to.CheckSignature(to.SignatureAlgorithm, to.RawTBSCertificate, to.Signature); err != nil {
		return nil, fmt.Errorf("its own signature: %w", err)
	}
	if KeyOf(to) == a.key {
		return nil, errors.New("it has this authority's own key")
	}
	v := validity{to.NotBefore, to.NotAfter}
	if a.certificate.NotAfter.Before(v.notAfter) {
		v.notAfter = a.certificate.NotAfter
	}
	template := caTemplate(id, to.Subject, KeyOf(to), v)
	template.RawSubject = to.RawSubject
	template.MaxPathLen = pathLength - 1
	return sign(template, a.certificate, to.PublicKey, a.signer)
}

// sign turns a template into a certificate and looks at what came out: a token that signs with another key, or a fault
// in the signature, must not leave this function.
func sign(template, issuer *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	template.SerialNumber = newSerial()
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, signer)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("what was signed does not parse: %w", err)
	}
	if err := matches(certificate, template, public); err != nil {
		return nil, err
	}
	if issuer == template {
		issuer = certificate
	}
	if err := certificate.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("what was signed does not verify: %w", err)
	}
	return certificate, nil
}
