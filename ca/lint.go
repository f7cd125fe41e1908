package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// ErrNotAsked is wrapped when a certificate is not what was asked for, or not what a careful verifier takes; it is
// never signed.
var ErrNotAsked = errors.New("certificate is not what was asked for")

// rule is one thing that holds for every certificate we sign. It reads the certificate as a verifier would, and the
// draft only for what was asked.
type rule struct {
	name  string
	holds func(c *x509.Certificate, d *draft) bool
}

// rules are RFC 5280's and CA/B's that a cluster needs, and what verifiers in the field stumble over.
var rules = []rule{
	{"version is not 3 (RFC 5280 §4.1.2.1)", func(c *x509.Certificate, _ *draft) bool { return c.Version == 3 }},
	{"serial number is not the one drawn, or not positive and of at most 20 octets (§4.1.2.2)", serialIsGood},
	{"signature algorithm is not the issuer's (§4.1.2.3)", func(c *x509.Certificate, d *draft) bool { return c.SignatureAlgorithm == d.by.name }},
	{"issuer name is not the issuer's subject (§4.1.2.4)", issuerIsGood},
	{"dates are not those asked for, or in the wrong order (§4.1.2.5)", datesAreGood},
	{"it lives longer than its profile allows", lifetimeIsGood},
	{"it begins before its issuer or outlives it", withinIssuer},
	{"subject is empty, not the one asked for, or does not name the cluster (§4.1.2.6)", subjectIsGood},
	{"public key is not the one asked for, or weak (§4.1.2.7)", keyIsGood},
	{"key is its issuer's", keyIsItsOwn},
	{"critical extensions are not exactly those of the profile (§4.2)", criticalsAreGood},
	{"key usage is not the profile's (§4.2.1.3)", func(c *x509.Certificate, d *draft) bool { return c.KeyUsage == d.keyUsage }},
	{"extended key usage is not the profile's (§4.2.1.12)", purposesAreGood},
	{"basic constraints are not the profile's, or the issuer may have no such CA below it (§4.2.1.9)", basicConstraintsAreGood},
	{"subject key identifier is not the key's (§4.2.1.2)", func(c *x509.Certificate, d *draft) bool { return bytes.Equal(c.SubjectKeyId, d.key.identifier()) }},
	{"authority key identifier is not the issuer's (§4.2.1.1)", authorityKeyIsGood},
	{"names are not exactly those asked for (§4.2.1.6)", namesAreGood},
	{"URI is not the one asked for, byte for byte (X.509-SVID §2)", uriIsGood},
	{"name constraints are not the trust domain's, or on a leaf (§4.2.1.10)", constraintsAreGood},
}

// lint holds every rule against a certificate that is about to be signed.
func (d *draft) lint(c *x509.Certificate) error {
	for _, r := range rules {
		if !r.holds(c, d) {
			return fmt.Errorf("%s: %s: %w", d.name, r.name, ErrNotAsked)
		}
	}
	return nil
}

func serialIsGood(c *x509.Certificate, d *draft) bool {
	var b [16]byte
	return c.SerialNumber.Sign() > 0 && c.SerialNumber.BitLen() < 128 && [16]byte(c.SerialNumber.FillBytes(b[:])) == d.serial
}

func issuerIsGood(c *x509.Certificate, d *draft) bool {
	if d.issuer == nil {
		return bytes.Equal(c.RawIssuer, c.RawSubject)
	}
	return bytes.Equal(c.RawIssuer, d.issuer.RawSubject) && !bytes.Equal(c.RawIssuer, c.RawSubject)
}

func datesAreGood(c *x509.Certificate, d *draft) bool {
	return c.NotBefore.Equal(d.notBefore) && c.NotAfter.Equal(d.notAfter) && c.NotAfter.After(c.NotBefore)
}

func lifetimeIsGood(c *x509.Certificate, d *draft) bool {
	return c.NotAfter.Sub(c.NotBefore) <= d.most+maxBackdate
}

func withinIssuer(c *x509.Certificate, d *draft) bool {
	return d.issuer == nil || !c.NotBefore.Before(d.issuer.NotBefore) && !c.NotAfter.After(d.issuer.NotAfter)
}

func subjectIsGood(c *x509.Certificate, d *draft) bool {
	return bytes.Equal(c.RawSubject, d.subject) && c.Subject.CommonName != "" && len(c.Subject.Organization) == 1 && c.Subject.Organization[0] != "" &&
		c.Subject.SerialNumber == d.cluster && d.cluster != ""
}

func keyIsGood(c *x509.Certificate, d *draft) bool {
	_, err := keystore.AlgorithmOf(c.PublicKey)
	return err == nil && bytes.Equal(c.RawSubjectPublicKeyInfo, d.key.spki)
}

func keyIsItsOwn(c *x509.Certificate, d *draft) bool {
	return d.issuer == nil || !bytes.Equal(c.RawSubjectPublicKeyInfo, d.issuer.RawSubjectPublicKeyInfo)
}

var (
	keyUsageID         = asn1.ObjectIdentifier{2, 5, 29, 15}
	basicConstraintsID = asn1.ObjectIdentifier{2, 5, 29, 19}
	nameConstraintsID  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

func criticalsAreGood(c *x509.Certificate, d *draft) bool {
	critical := 0
	for _, e := range c.Extensions {
		if !e.Critical {
			continue
		}
		critical++
		if !e.Id.Equal(keyUsageID) && !e.Id.Equal(basicConstraintsID) && !(d.isCA && e.Id.Equal(nameConstraintsID)) {
			return false
		}
	}
	want := 2
	if d.isCA {
		want = 3
	}
	return critical == want && len(c.UnhandledCriticalExtensions) == 0
}

func purposesAreGood(c *x509.Certificate, d *draft) bool {
	for _, p := range d.purposes {
		if p.id == nil && !slices.Contains(c.ExtKeyUsage, p.known) || p.id != nil && !slices.ContainsFunc(c.UnknownExtKeyUsage, p.id.Equal) {
			return false
		}
	}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == len(d.purposes)
}

func basicConstraintsAreGood(c *x509.Certificate, d *draft) bool {
	if !d.isCA {
		return c.BasicConstraintsValid && !c.IsCA && c.MaxPathLen == -1
	}
	room := d.issuer == nil || d.issuer.MaxPathLen < 0 || d.issuer.MaxPathLen > d.pathLength
	return c.BasicConstraintsValid && c.IsCA && c.MaxPathLen == d.pathLength && room
}

func authorityKeyIsGood(c *x509.Certificate, d *draft) bool {
	if d.issuer == nil {
		return len(c.AuthorityKeyId) == 0
	}
	return len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, d.issuer.SubjectKeyId)
}

func namesAreGood(c *x509.Certificate, d *draft) bool {
	if !slices.Equal(c.DNSNames, d.dns) || len(c.IPAddresses) != len(d.addresses) || len(c.EmailAddresses) > 0 {
		return false
	}
	for i, address := range c.IPAddresses {
		if !bytes.Equal(address, d.addresses[i]) {
			return false
		}
	}
	return true
}

// uriIsGood reads the raw string, as every verifier of ours does, and reads identities as identities.
func uriIsGood(c *x509.Certificate, d *draft) bool {
	uri, count, ok := uriOf(c.Extensions)
	if !ok || string(uri) != d.uri {
		return false
	}
	switch {
	case d.uri == "":
		return count == 0
	case d.isCA:
		return count == 1 && d.uri == fingerprint.ClusterID{Domain: d.domain}.URI()
	}
	id, err := fingerprint.ParseIdentity(string(uri))
	return count == 1 && err == nil && leafProfiles[id.Role] != nil && slices.EqualFunc(leafProfiles[id.Role].purposes, d.purposes, samePurpose)
}

func samePurpose(a, b purpose) bool { return bytes.Equal(a.encoded, b.encoded) }

func constraintsAreGood(c *x509.Certificate, d *draft) bool {
	others := len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains) + len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) +
		len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) + len(c.ExcludedURIDomains)
	if !d.isCA {
		return others+len(c.PermittedURIDomains) == 0
	}
	return others == 0 && d.domain != "" && slices.Equal(c.PermittedURIDomains, []string{d.domain})
}
