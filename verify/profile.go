package verify

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

// The extensions that are read here (RFC 5280 §4.2).
var (
	subjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	keyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	subjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	basicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	nameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	authorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	extendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

	understood = []asn1.ObjectIdentifier{
		subjectKeyID, keyUsage, subjectAltName, basicConstraints, nameConstraints, authorityKeyID, extendedKeyUsage,
	}
)

// place is where in a chain a certificate stands.
type place int

const (
	atLeaf place = iota
	between
	atRoot
)

func placeOf(i int, root bool) place {
	switch {
	case i == 0:
		return atLeaf
	case root:
		return atRoot
	}
	return between
}

// rule is one sentence that a certificate must keep; broken says whether it does not.
type rule struct {
	field, detail string
	broken        func(c *x509.Certificate, at place) bool
}

// profile is what RFC 5280 wants and x509.Verify does not look at. Not here, since valid certificates break it and
// x509 obeys the extension in any case: that policy constraints and an intermediate's basic constraints are critical.
var profile = []rule{
	// A root that is known by its key may be called by any number: that of a root in every browser is zero.
	{"serial number", "it is zero or over 20 octets (RFC 5280 §4.1.2.2)",
		func(c *x509.Certificate, at place) bool {
			return at != atRoot && c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > maxSerialBits
		}},
	{"issuer", "it is empty (RFC 5280 §4.1.2.4)",
		func(c *x509.Certificate, _ place) bool { return emptyName(c.RawIssuer) }},
	{"subject", "a CA must have one (RFC 5280 §4.1.2.6)", func(c *x509.Certificate, at place) bool {
		return (at != atLeaf || c.IsCA) && emptyName(c.RawSubject)
	}},
	{"subject alternative name", "it must be critical where the subject is empty (RFC 5280 §4.2.1.6)",
		func(c *x509.Certificate, _ place) bool {
			e := extensionOf(c, subjectAltName)
			return e != nil && !e.Critical && emptyName(c.RawSubject)
		}},
	{"subject alternative name", "a DNS name has an underscore, which no host name has (RFC 5280 §4.2.1.6)",
		func(c *x509.Certificate, _ place) bool {
			return strings.Contains(strings.Join(c.DNSNames, " "), "_")
		}},
	{"authority key identifier", "it is missing (RFC 5280 §4.2.1.1)", func(c *x509.Certificate, at place) bool {
		return len(c.AuthorityKeyId) == 0 && !(at == atRoot && selfIssued(c)) && !selfSigned(c)
	}},
	{"authority key identifier", "it is not the subject key identifier of a self-signed certificate (RFC 5280 §4.2.1.1)",
		func(c *x509.Certificate, at place) bool {
			return at == atRoot && selfIssued(c) && len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId)
		}},
	{"subject key identifier", "a CA must have one (RFC 5280 §4.2.1.2)", func(c *x509.Certificate, at place) bool {
		return at != atLeaf && len(c.SubjectKeyId) == 0
	}},
	{"basic constraints", "a root's must be critical (RFC 5280 §4.2.1.9)",
		func(c *x509.Certificate, at place) bool {
			return at == atRoot && !critical(c, basicConstraints)
		}},
	{"key usage", "a CA's must have keyCertSign (RFC 5280 §4.2.1.3)", func(c *x509.Certificate, at place) bool {
		return c.IsCA && extensionOf(c, keyUsage) != nil && c.KeyUsage&x509.KeyUsageCertSign == 0
	}},
	{"key usage", "keyCertSign is for CAs (RFC 5280 §4.2.1.3)", func(c *x509.Certificate, _ place) bool {
		return !c.IsCA && c.KeyUsage&x509.KeyUsageCertSign != 0
	}},
	{"extended key usage", "it is empty (RFC 5280 §4.2.1.12)", func(c *x509.Certificate, _ place) bool {
		return extensionOf(c, extendedKeyUsage) != nil && len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0
	}},
	{"name constraints", "they are for CAs (RFC 5280 §4.2.1.10)", func(c *x509.Certificate, _ place) bool {
		return !c.IsCA && extensionOf(c, nameConstraints) != nil
	}},
	{"name constraints", "a DNS constraint begins with a dot (RFC 5280 §4.2.1.10)",
		func(c *x509.Certificate, _ place) bool {
			return leadingDot(c.PermittedDNSDomains) || leadingDot(c.ExcludedDNSDomains)
		}},
}

// criticalConstraints is the rule in which the two profiles differ: the public web allows what RFC 5280 forbids.
var criticalConstraints = rule{"name constraints", "they must be critical (RFC 5280 §4.2.1.10); the public web's rules allow others",
	func(c *x509.Certificate, _ place) bool {
		e := extensionOf(c, nameConstraints)
		return e != nil && !e.Critical
	}}

// profileFlaw is the first rule that a certificate breaks.
func profileFlaw(c *x509.Certificate, at place, web bool) *flaw {
	for i := range profile {
		if r := &profile[i]; r.broken(c, at) {
			return &flaw{r.field, r.detail}
		}
	}
	if r := &criticalConstraints; !web && r.broken(c, at) {
		return &flaw{r.field, r.detail}
	}
	return nil
}

func extensionOf(c *x509.Certificate, id asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(id) {
			return &c.Extensions[i]
		}
	}
	return nil
}

func critical(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	e := extensionOf(c, id)
	return e != nil && e.Critical
}

// emptyName reports whether a distinguished name is a sequence of nothing.
func emptyName(raw []byte) bool { return len(raw) <= 2 }

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// selfSigned asks for the signature too: a CA may change its key and certify the new one under its own name. Of a root
// nobody asks: that it is trusted needs no proof, and a signature costs as much as all else together.
func selfSigned(c *x509.Certificate) bool {
	return selfIssued(c) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func leadingDot(domains []string) bool {
	for _, d := range domains {
		if strings.HasPrefix(d, ".") {
			return true
		}
	}
	return false
}
