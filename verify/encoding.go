package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// flaw is what is wrong with one certificate.
type flaw struct{ field, detail string }

// encodingFlaw looks for what is in a certificate and x509.ParseCertificate reads past. Whoever can hide a part of a
// signed certificate from one reader can make two readers see two certificates.
func encodingFlaw(c *x509.Certificate) *flaw {
	outer, ok := elements(c.Raw)
	if !ok || len(outer) != 3 {
		return &flaw{"encoding", "a certificate is body, algorithm and signature, and nothing else (RFC 5280 §4.1)"}
	}
	body, ok := elements(outer[0].FullBytes)
	if len(body) > 0 && body[0].Class == asn1.ClassContextSpecific {
		body = body[1:] // the version
	}
	if !ok || len(body) < 6 {
		return &flaw{"encoding", "its body is not that of a certificate (RFC 5280 §4.1)"}
	}
	if !wholeTimes(body[3]) {
		return &flaw{"validity", "dates are UTCTime or GeneralizedTime with seconds, in UTC (RFC 5280 §4.1.2.5)"}
	}
	return tailFlaw(c, body[6:])
}

// tailFlaw looks at what follows the key: two identifiers, and extensions, in this order.
func tailFlaw(c *x509.Certificate, tail []asn1.RawValue) *flaw {
	last := 0
	for _, e := range tail {
		if e.Class != asn1.ClassContextSpecific || e.Tag <= last || e.Tag > 3 {
			return &flaw{"encoding", "something stands behind the key that has no place there (RFC 5280 §4.1)"}
		}
		last = e.Tag
	}
	switch {
	case last == 0:
		return nil
	case c.Version == 1 || last == 3 && c.Version != 3:
		return &flaw{"version", "it has parts that its version does not have (RFC 5280 §4.1.2.1)"}
	case last != 3:
		return nil
	}
	extensions, ok := elements(tail[len(tail)-1].Bytes)
	if !ok || len(extensions) == 0 {
		return &flaw{"extensions", "the list is empty or followed by something (RFC 5280 §4.1)"}
	}
	for _, extension := range extensions {
		if parts, ok := elements(extension.FullBytes); !ok || len(parts) != 2 && (len(parts) != 3 || parts[1].Tag != asn1.TagBoolean) {
			return &flaw{"extensions", "one is more than name, criticality and value (RFC 5280 §4.1)"}
		}
	}
	return valueFlaw(c)
}

// valueFlaw wants each value that we read to be one element. Values that are not ours to read may be anything.
func valueFlaw(c *x509.Certificate) *flaw {
	for _, extension := range c.Extensions {
		if !slices.ContainsFunc(understood, extension.Id.Equal) {
			continue
		}
		var value asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &value); err != nil || len(rest) > 0 {
			return &flaw{"extension " + extension.Id.String(), "something follows its value"}
		}
		if parts, ok := elements(extension.Value); extension.Id.Equal(basicConstraints) && (!ok || len(parts) > 2) {
			return &flaw{"basic constraints", "something follows the path length"}
		}
	}
	return nil
}

// wholeTimes reports whether both dates have seconds and are in UTC.
func wholeTimes(validity asn1.RawValue) bool {
	dates, ok := elements(validity.FullBytes)
	if !ok || len(dates) != 2 {
		return false
	}
	for _, date := range dates {
		want := len("YYMMDDHHMMSSZ")
		if date.Tag == asn1.TagGeneralizedTime {
			want = len("YYYYMMDDHHMMSSZ")
		}
		if len(date.Bytes) != want || date.Bytes[want-1] != 'Z' {
			return false
		}
	}
	return true
}

// elements reads a SEQUENCE that is all of der. (encoding/asn1 ignores what follows the fields of a struct.)
func elements(der []byte) (list []asn1.RawValue, ok bool) {
	rest, err := asn1.Unmarshal(der, &list)
	return list, err == nil && len(rest) == 0
}
