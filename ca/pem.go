package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clusterca/clusterca/keystore"
)

// The types of PEM elements that hold public things (RFC 7468 §5, §7); older openssl called a request new.
const pemCertificate = "CERTIFICATE"

var pemRequests = []string{"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}

// ParseCertificates reads a PEM file of certificates, at least one: a bundle, or a leaf with its chain, in the order of
// the file. Each element that is broken, or is no certificate, is an error of its own in the one returned, with its
// line, and then there are no certificates: a bundle that lost its second root is another bundle. A private key in the
// file is such an error too: it would be handed out with what is public. Nothing is said of whether the certificates
// are well made, or trusted; package verify judges that. For a file that decides who is trusted, take keystore.ReadFile
// with keystore.Trusted.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	list, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("ca: certificates: %w", err)
	}
	return list, nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	elements, err := keystore.ParsePEM(data)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	var broken []error
	for _, e := range elements {
		c, err := certificate(e)
		if err != nil {
			broken = append(broken, fmt.Errorf("line %d: %w", e.Line, err))
		}
		list = append(list, c)
	}
	if len(broken) > 0 {
		return nil, errors.Join(broken...)
	}
	return list, nil
}

func certificate(e keystore.Element) (*x509.Certificate, error) {
	switch {
	case strings.HasSuffix(e.Type, "PRIVATE KEY"):
		return nil, fmt.Errorf("a %.40q among certificates: keep it in a file of its own, which others cannot read", e.Type)
	case e.Type != pemCertificate:
		return nil, fmt.Errorf("%.40q, want %q", e.Type, pemCertificate)
	}
	return x509.ParseCertificate(e.Bytes)
}

// parseChain reads a file that is to be a chain, which is short.
func parseChain(file []byte) ([]*x509.Certificate, error) {
	if len(file) > maxChainFile {
		return nil, fmt.Errorf("%d bytes of certificates, at most %d: %w", len(file), maxChainFile, ErrChain)
	}
	chain, err := parseCertificates(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChain, err)
	}
	if len(chain) > maxChain {
		return nil, fmt.Errorf("%d certificates, at most %d: %w", len(chain), maxChain, ErrChain)
	}
	return chain, nil
}

func encodeChain(certificates ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certificates {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return b
}

// DecodeRequest reads a PEM file that holds one certification request, and returns it as ParseRequest takes it. The
// error wraps ErrRequest.
func DecodeRequest(data []byte) ([]byte, error) {
	der, err := decodeRequest(data)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return der, nil
}

func decodeRequest(data []byte) ([]byte, error) {
	elements, err := keystore.ParsePEM(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	case !slices.Contains(pemRequests, elements[0].Type):
		return nil, fmt.Errorf("%w: line %d: %.40q, want %q", ErrRequest, elements[0].Line, elements[0].Type, pemRequests[0])
	case len(elements) > 1:
		return nil, fmt.Errorf("%w: line %d: %.40q follows the request: give each a file of its own", ErrRequest, elements[1].Line, elements[1].Type)
	}
	return elements[0].Bytes, nil
}
