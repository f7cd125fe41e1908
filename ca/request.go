package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"

	"github.com/clusterca/clusterca/fingerprint"
)

// ErrRequest is wrapped when a certification request is refused.
var ErrRequest = errors.New("certification request refused")

// NewRequest makes a certification request (PKCS#10, DER) that proves possession of the signer's key and names id.
func NewRequest(signer crypto.Signer, id fingerprint.Identity) ([]byte, error) {
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("ca: request: %w", err)
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, fmt.Errorf("ca: request for %q: %w", id, err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: cut(id.ID, maxName)},
		URIs:    []*url.URL{uri},
	}, signer)
	if err != nil {
		return nil, fmt.Errorf("ca: request for %q: %w", id, err)
	}
	return der, nil
}

// ParseRequest checks a certification request that is said to come from want, and returns its key: the only thing that
// is taken from it. A request that names another identity is refused, one that names none is not. The error wraps
// ErrRequest or keystore.ErrAlgorithm.
func ParseRequest(der []byte, want fingerprint.Identity) (crypto.PublicKey, error) {
	public, err := parseRequest(der, want)
	if err != nil {
		return nil, fmt.Errorf("ca: request of %q: %w", want, err)
	}
	return public, nil
}

func parseRequest(der []byte, want fingerprint.Identity) (crypto.PublicKey, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(der), maxRequest, ErrRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if _, err := acceptable(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("its signature does not prove possession of the key: %w: %w", ErrRequest, err)
	}
	for _, uri := range csr.URIs {
		if uri.String() != want.String() {
			return nil, fmt.Errorf("it names %q: %w", uri, ErrRequest)
		}
	}
	return csr.PublicKey, nil
}
