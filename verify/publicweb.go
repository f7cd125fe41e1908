package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"
)

// web is what the CA/Browser Forum's baseline requirements (BR) want of a server's chain beyond RFC 5280, as far as a
// verifier without a list of public suffixes can tell.
var web = []rule{
	{"basic constraints", "a server's certificate is no CA's (BR §7.1.2.7.8)",
		func(c *x509.Certificate, at place) bool {
			return at == atLeaf && c.IsCA
		}},
	{"extended key usage", "a server's has serverAuth, is not critical and not open to any use (BR §7.1.2.7.10)",
		func(c *x509.Certificate, at place) bool {
			return at == atLeaf && (!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) ||
				slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || critical(c, extendedKeyUsage))
		}},
	{"extended key usage", "a root has none (BR §7.1.2.1.2)", func(c *x509.Certificate, at place) bool {
		return at == atRoot && extensionOf(c, extendedKeyUsage) != nil
	}},
	{"authority key identifier", "it has a key identifier and nothing else (BR §7.1.2.11.1)",
		func(c *x509.Certificate, _ place) bool { return !keyIDAlone(c) }},
	{"subject alternative name", "it is critical only where the subject is empty (BR §7.1.2.7.12)",
		func(c *x509.Certificate, at place) bool {
			return at == atLeaf && critical(c, subjectAltName) && !emptyName(c.RawSubject)
		}},
	{"subject alternative name", "a DNS name is no host name, or its wildcard is not the whole leftmost label (BR §7.1.2.7.12)",
		func(c *x509.Certificate, at place) bool {
			return at == atLeaf && slices.ContainsFunc(c.DNSNames, func(s string) bool { return !webName(s) })
		}},
	{"common name", "it must be one of the alternative names, letter by letter (BR §7.1.4.3)",
		func(c *x509.Certificate, at place) bool {
			return at == atLeaf && c.Subject.CommonName != "" && !namedAlso(c)
		}},
}

func webFlaw(c *x509.Certificate, at place) *flaw {
	for i := range web {
		if r := &web[i]; r.broken(c, at) {
			return &flaw{r.field, r.detail}
		}
	}
	return nil
}

// keyIDAlone reports whether an authority key identifier, where there is one, names a key and not a certificate.
func keyIDAlone(c *x509.Certificate) bool {
	e := extensionOf(c, authorityKeyID)
	if e == nil {
		return true
	}
	parts, ok := elements(e.Value)
	return ok && len(parts) == 1 && parts[0].Class == asn1.ClassContextSpecific && parts[0].Tag == 0
}

// webName wants labels of letters, digits and hyphens, at least two of them, the wildcard aside.
func webName(name string) bool {
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	if len(name) > 253 || len(labels) < 2 && strings.HasPrefix(name, "*.") {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notLDH) {
			return false
		}
	}
	return true
}

func notLDH(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
}

// namedAlso reports whether the common name is an alternative name too: a DNS name as it is written there, an address
// as it is usually written (RFC 5952).
func namedAlso(c *x509.Certificate) bool {
	if slices.Contains(c.DNSNames, c.Subject.CommonName) {
		return true
	}
	for _, ip := range c.IPAddresses {
		if address, ok := netip.AddrFromSlice(ip); ok && address.Unmap().String() == c.Subject.CommonName {
			return true
		}
	}
	return false
}
