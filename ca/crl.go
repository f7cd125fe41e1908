package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// CRLRequest says which of an authority's certificates are taken back. A list names all of them, not what is new.
type CRLRequest struct {
	Number   uint64                     // from 1, higher than that of every list before (RFC 5280 §5.2.3)
	Revoked  []x509.RevocationListEntry // serial number, date, reason code; extensions are not taken over
	Lifetime time.Duration              // 0: 1 day; at most 30. It ends with the authority at the latest
	Now      time.Time                  // zero: the present
}

// ErrCRL is wrapped when what is to stand in a CRL cannot.
var ErrCRL = errors.New("certificate revocation list refused")

// reasons are the CRLReasons that a full list may give (RFC 5280 §5.3.1): 7 is not used, 8 is for lists of changes.
var reasons = []int{0, 1, 2, 3, 4, 5, 6, 9, 10}

// CRL signs the list of the authority's certificates that are taken back: version 2, with the authority's key identifier
// and a number, begun Backdate before now since clocks differ. It is parsed again and compared with what was asked for
// before it is released. The error wraps ErrCRL or ErrLifetime when the request is not allowed. Safe for concurrent use
// when the signer is.
func (a *Authority) CRL(r CRLRequest) (*x509.RevocationList, error) {
	list, err := a.crl(r)
	if err != nil {
		return nil, fmt.Errorf("ca: CRL %d of %q: %w", r.Number, a.certificate.Subject.CommonName, err)
	}
	return list, nil
}

func (a *Authority) crl(r CRLRequest) (*x509.RevocationList, error) {
	life, err := revocationProfile.lifetime(r.Lifetime)
	if err != nil {
		return nil, err
	}
	v, err := span(r.Now, 0, life)
	if err != nil {
		return nil, err
	}
	if v, err = v.within(a.span(), true); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	template := &x509.RevocationList{Number: new(big.Int).SetUint64(r.Number), ThisUpdate: v.notBefore, NextUpdate: v.notAfter}
	for _, e := range r.Revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.certificate, a.signer)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("what was signed does not parse: %w", err)
	}
	if err := a.sameList(list, template); err != nil {
		return nil, err
	}
	return list, nil
}

// check refuses what verifiers would read differently.
func (r *CRLRequest) check() error {
	switch {
	case r.Number == 0:
		return fmt.Errorf("lists count from 1: %w", ErrCRL)
	case len(r.Revoked) > maxRevoked:
		return fmt.Errorf("%d entries, at most %d: %w", len(r.Revoked), maxRevoked, ErrCRL)
	}
	now := r.Now
	if now.IsZero() {
		now = time.Now()
	}
	seen := make(map[string]bool, len(r.Revoked))
	for i, e := range r.Revoked {
		why := ""
		switch {
		case e.SerialNumber == nil || e.SerialNumber.Sign() <= 0 || e.SerialNumber.BitLen() > maxSerialBits:
			why = "its serial number is missing, not positive or over 20 octets"
		case seen[string(e.SerialNumber.Bytes())]:
			why = fmt.Sprintf("serial number %x stands twice", e.SerialNumber)
		case e.RevocationTime.IsZero() || e.RevocationTime.After(now):
			why = "its date is missing or yet to come"
		case !slices.Contains(reasons, e.ReasonCode):
			why = fmt.Sprintf("reason %d has no place in a full list", e.ReasonCode)
		}
		if why != "" {
			return fmt.Errorf("entry %d: %s: %w", i+1, why, ErrCRL)
		}
		seen[string(e.SerialNumber.Bytes())] = true
	}
	return nil
}

// sameList compares a list with its template, and its signature with the authority's certificate: a token that signs
// with another key than it had must not be heard.
func (a *Authority) sameList(list, want *x509.RevocationList) error {
	for _, field := range []struct {
		name string
		same bool
	}{
		{"issuer", bytes.Equal(list.RawIssuer, a.certificate.RawSubject)},
		{"authority key id", bytes.Equal(list.AuthorityKeyId, a.certificate.SubjectKeyId)},
		{"number", list.Number != nil && list.Number.Cmp(want.Number) == 0},
		{"this update", list.ThisUpdate.Equal(want.ThisUpdate)},
		{"next update", list.NextUpdate.Equal(want.NextUpdate)},
		{"entries", slices.EqualFunc(list.RevokedCertificateEntries, want.RevokedCertificateEntries, sameEntry)},
	} {
		if !field.same {
			return fmt.Errorf("%s: %w", field.name, ErrNotAsked)
		}
	}
	if err := list.CheckSignatureFrom(a.certificate); err != nil {
		return fmt.Errorf("what was signed does not verify: %w", err)
	}
	return nil
}

func sameEntry(e, want x509.RevocationListEntry) bool {
	return e.SerialNumber.Cmp(want.SerialNumber) == 0 && e.ReasonCode == want.ReasonCode &&
		e.RevocationTime.Equal(want.RevocationTime.Truncate(time.Second))
}
