package verify

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// revocation asks of every link below the root whether its issuer took it back.
func (j *chainJudgement) revocation(v *Validated) *Refusal {
	for i, c := range v.Chain[:len(v.Chain)-1] {
		until, refusal := j.revoked(c, v.Chain[i+1], linkName(i))
		switch {
		case refusal == nil:
			v.until(until)
		case refusal.Reason == CertificateRevoked || !j.AcceptUnchecked:
			return refusal
		default:
			v.Unchecked = append(v.Unchecked, j.complete(refusal))
		}
	}
	return nil
}

// revoked looks a certificate up in the newest CRL of its issuer and says until when the answer is good. A stale CRL
// still revokes: nothing that time does to it takes a revocation back.
func (j *chainJudgement) revoked(c, issuer *x509.Certificate, which string) (until time.Time, r *Refusal) {
	crl, r := j.newest(c, issuer)
	if crl == nil {
		if r == nil {
			r = &Refusal{Reason: NoCRL, Detail: fmt.Sprintf("there is none of %s", nameOf(issuer.Subject, issuer.RawSubject)),
				Remedy: "give the issuer's CRL, or accept unchecked certificates"}
		}
		r.Certificate, r.Field = which, "CRL"
		return time.Time{}, r
	}
	for i := range crl.RevokedCertificateEntries {
		if e := &crl.RevokedCertificateEntries[i]; e.SerialNumber.Cmp(c.SerialNumber) == 0 {
			return time.Time{}, &Refusal{Reason: CertificateRevoked, Certificate: which, Field: "serial number",
				Detail: fmt.Sprintf("its issuer took it back at %s (reason %d, CRL %v)", e.RevocationTime.UTC().Format(time.RFC3339), e.ReasonCode, crl.Number),
				Remedy: "find out why, and issue a new one for a new key"}
		}
	}
	if j.now.After(crl.NextUpdate) {
		return time.Time{}, &Refusal{Reason: StaleCRL, Certificate: which, Field: "CRL",
			Detail: fmt.Sprintf("CRL %v of %s ended %s", crl.Number, nameOf(issuer.Subject, issuer.RawSubject), crl.NextUpdate.UTC().Format(time.RFC3339)),
			Remedy: "get the issuer's newer CRL"}
	}
	return crl.NextUpdate, nil
}

// newest is the issuer's latest good CRL that covers c, or why the last bad one is none.
func (j *chainJudgement) newest(c, issuer *x509.Certificate) (best *x509.RevocationList, bad *Refusal) {
	for _, crl := range j.CRLs {
		if crl == nil || !bytes.Equal(crl.RawIssuer, c.RawIssuer) || len(crl.AuthorityKeyId) > 0 && !bytes.Equal(crl.AuthorityKeyId, issuer.SubjectKeyId) {
			continue
		}
		if found := j.crlFlaw(crl, issuer); found != nil {
			bad = &Refusal{Reason: MalformedCRL, Detail: fmt.Sprintf("%s: %s", found.field, found.detail), Remedy: "let the issuer make its CRL again"}
			continue
		}
		if best == nil || crl.ThisUpdate.After(best.ThisUpdate) || crl.ThisUpdate.Equal(best.ThisUpdate) && crl.Number.Cmp(best.Number) > 0 {
			best = crl
		}
	}
	return best, bad
}

// crlFlaw says why a CRL of the issuer's name proves nothing. No extension that is read here is ever critical (RFC 5280
// §5.2.1, §5.2.3); those that are say that the list does not mean what it seems to: indirect, partial and delta CRLs.
func (j *chainJudgement) crlFlaw(crl *x509.RevocationList, issuer *x509.Certificate) *flaw {
	switch {
	case len(crl.AuthorityKeyId) == 0:
		return &flaw{"authority key identifier", "it is missing (RFC 5280 §5.2.1)"}
	case crl.Number == nil || crl.Number.Sign() < 0 || crl.Number.BitLen() > maxSerialBits:
		return &flaw{"CRL number", "it is missing, negative or over 20 octets (RFC 5280 §5.2.3)"}
	case crl.NextUpdate.IsZero() || !crl.NextUpdate.After(crl.ThisUpdate):
		return &flaw{"next update", "it is missing, or not after this update (RFC 5280 §5.1.2.5)"}
	case crl.ThisUpdate.After(j.now):
		return &flaw{"this update", fmt.Sprintf("it begins %s, now is %s", crl.ThisUpdate.UTC().Format(time.RFC3339), j.now.UTC().Format(time.RFC3339))}
	case crl.SignatureAlgorithm == x509.SHA1WithRSA || crl.SignatureAlgorithm == x509.ECDSAWithSHA1:
		return &flaw{"signature", "it is over SHA-1"} // x509 refuses that in certificates only
	}
	for _, e := range crl.Extensions {
		if e.Critical {
			return &flaw{"extension " + clip(e.Id.String()), "it is critical: the list is not a full one, or not by this issuer alone"}
		}
	}
	for i := range crl.RevokedCertificateEntries {
		for _, e := range crl.RevokedCertificateEntries[i].Extensions {
			if e.Critical {
				return &flaw{"extension " + clip(e.Id.String()) + " of an entry", "it is critical and not understood"}
			}
		}
	}
	if err := crl.CheckSignatureFrom(issuer); err != nil {
		return &flaw{"signature", err.Error()}
	}
	return nil
}
