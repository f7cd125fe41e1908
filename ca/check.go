package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
)

// ErrNotAsked is wrapped when a certificate is not what was asked for; it is never released.
var ErrNotAsked = errors.New("certificate is not what was asked for")

// matches compares a certificate with its template, field by field.
func matches(c, want *x509.Certificate, public crypto.PublicKey) error {
	key, err := fingerprint.OfPublicKey(public)
	if err != nil {
		return err
	}
	for _, field := range []struct {
		name string
		same bool
	}{
		{"version", c.Version == 3},
		{"serial number", c.SerialNumber.Cmp(want.SerialNumber) == 0 && c.SerialNumber.Sign() > 0},
		{"subject", c.Subject.CommonName == want.Subject.CommonName && c.Subject.SerialNumber == want.Subject.SerialNumber},
		{"not before", c.NotBefore.Equal(want.NotBefore)},
		{"not after", c.NotAfter.Equal(want.NotAfter) && c.NotAfter.After(c.NotBefore)},
		{"public key", KeyOf(c) == key},
		{"subject key id", bytes.Equal(c.SubjectKeyId, want.SubjectKeyId)},
		{"key usage", c.KeyUsage == want.KeyUsage},
		{"extended key usage", slices.Equal(c.ExtKeyUsage, want.ExtKeyUsage) && len(c.UnknownExtKeyUsage) == len(want.UnknownExtKeyUsage)},
		{"basic constraints", c.BasicConstraintsValid && c.IsCA == want.IsCA && (!c.IsCA || c.MaxPathLen == want.MaxPathLen)},
		{"DNS names", slices.Equal(c.DNSNames, want.DNSNames)},
		{"IP addresses", len(c.IPAddresses) == len(want.IPAddresses)},
		{"URIs", len(c.URIs) == len(want.URIs) && (len(c.URIs) == 0 || c.URIs[0].String() == want.URIs[0].String())},
	} {
		if !field.same {
			return fmt.Errorf("%s: %w", field.name, ErrNotAsked)
		}
	}
	return nil
}
