package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
)

// ErrRequest is wrapped when a certification request is refused.
var ErrRequest = errors.New("certification request refused")

// NewRequest makes a certification request (PKCS#10, DER) that proves possession of the signer's key and names id.
func NewRequest(signer crypto.Signer, id fingerprint.Identity) ([]byte, error) {
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("ca: request: %w", err)
	}
	der, err := newRequest(signer, id.String(), subject{commonName: cut(id.ID, maxName)})
	if err != nil {
		return nil, fmt.Errorf("ca: request for %q: %w", id, err)
	}
	return der, nil
}

func newRequest(signer crypto.Signer, name string, s subject) ([]byte, error) {
	if _, err := acceptable(signer.Public()); err != nil {
		return nil, err
	}
	uri, err := url.Parse(name)
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: s.commonName, SerialNumber: s.cluster}, URIs: []*url.URL{uri}}
	return x509.CreateCertificateRequest(rand.Reader, template, signer)
}

// ParseRequest checks a certification request that is said to come from want, and returns its key: the only thing that
// is taken from it. Refused are: a signature that does not prove possession of the key, or is of SHA-1; a weak key; the
// name of another identity, as a URI or twice; a wish to be a CA or to sign certificates. One that names no identity is
// taken. The error wraps ErrRequest or keystore.ErrAlgorithm. Whether the key is somebody else's is not known here: ask
// the registry.
func ParseRequest(der []byte, want fingerprint.Identity) (crypto.PublicKey, error) {
	csr, err := parseRequest(der, want.String())
	if err != nil {
		return nil, fmt.Errorf("ca: request of %q: %w", want, err)
	}
	return csr.PublicKey, nil
}

func parseRequest(der []byte, want string) (*x509.CertificateRequest, error) {
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
	if csr.SignatureAlgorithm == x509.SHA1WithRSA || csr.SignatureAlgorithm == x509.ECDSAWithSHA1 {
		return nil, fmt.Errorf("its signature is of SHA-1: make it again with SHA-256: %w", ErrRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("its signature does not prove possession of the key: %w: %w", ErrRequest, err)
	}
	return csr, modest(csr, want)
}

// modest refuses requests that ask for what nobody gets by asking. The rest of what they ask for is left aside.
func modest(csr *x509.CertificateRequest, want string) error {
	uri, count, ok := uriOf(csr.Extensions)
	if !ok || count > 1 || count == 1 && string(uri) != want {
		return fmt.Errorf("it names %.300q, %d URIs in all: %w", uri, count, ErrRequest)
	}
	for _, e := range csr.Extensions {
		if e.Id.Equal(basicConstraintsID) && !slices.Equal(e.Value, []byte{tagSequence, 0}) {
			return fmt.Errorf("it asks to be a CA: %w", ErrRequest)
		}
		if e.Id.Equal(keyUsageID) && certifiesBits(e.Value) {
			return fmt.Errorf("it asks to sign certificates or revocation lists: %w", ErrRequest)
		}
	}
	return nil
}

// certifiesBits looks for keyCertSign (5) and cRLSign (6) in an encoded key usage; what cannot be read is refused too.
func certifiesBits(value []byte) bool {
	var usage asn1.BitString
	rest, err := asn1.Unmarshal(value, &usage)
	return err != nil || len(rest) > 0 || usage.At(5) != 0 || usage.At(6) != 0
}
