package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/clusterca/clusterca/fingerprint"
)

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// uriTag is uniformResourceIdentifier [6] of GeneralName (RFC 5280 §4.2.1.6).
const uriTag = 0x80 | 6

// IdentityOf reads the identity that a leaf names: exactly one URI SAN, taken as the raw string and never through a
// URL parser, which would see one identity where the bytes say another. The error wraps fingerprint.ErrIdentity.
func IdentityOf(c *x509.Certificate) (fingerprint.Identity, error) {
	uri, count, ok := uriOf(c.Extensions)
	if !ok {
		return fingerprint.Identity{}, fmt.Errorf("ca: subject alternative name is malformed: %w", fingerprint.ErrIdentity)
	}
	if count != 1 {
		return fingerprint.Identity{}, fmt.Errorf("ca: %d URI names, want exactly one: %w", count, fingerprint.ErrIdentity)
	}
	return fingerprint.ParseIdentity(string(uri))
}

// uriOf finds the URIs among the alternative names: the last one, and how many there are.
func uriOf(extensions []pkix.Extension) (uri []byte, count int, ok bool) {
	for _, extension := range extensions {
		if !extension.Id.Equal(subjectAltName) {
			continue
		}
		rest, _, ok := element(extension.Value)
		for ok && len(rest) > 0 {
			var tag byte
			var value []byte
			value, tag, ok = element(rest)
			if !ok {
				break
			}
			if tag == uriTag {
				count++
				uri = value
			}
			rest = rest[len(rest)-remaining(rest):]
		}
		if !ok {
			return nil, 0, false
		}
	}
	return uri, count, true
}

// element returns content and tag of the first DER element of b: single-byte tags and lengths up to four bytes, which
// is all that a subject alternative name has.
func element(b []byte) (content []byte, tag byte, ok bool) {
	head, size, ok := header(b)
	if !ok {
		return nil, 0, false
	}
	return b[head : head+size], b[0], true
}

// remaining is how many bytes of b follow its first element, which was read before.
func remaining(b []byte) int {
	head, size, _ := header(b)
	return len(b) - head - size
}

func header(b []byte) (head, size int, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, 0, false
	}
	head, size = 2, int(b[1])
	if size >= 0x80 {
		n := size & 0x7f
		if n == 0 || n > 4 || len(b) < 2+n {
			return 0, 0, false
		}
		size = 0
		for _, c := range b[2 : 2+n] {
			size = size<<8 | int(c)
		}
		head += n
	}
	return head, size, size >= 0 && size <= len(b)-head
}

// ClusterUUIDOf reads the UUID of the cluster that a certificate belongs to.
func ClusterUUIDOf(c *x509.Certificate) string { return c.Subject.SerialNumber }

// KeyOf is the fingerprint of a certificate's public key.
func KeyOf(c *x509.Certificate) fingerprint.Key { return fingerprint.OfKey(c.RawSubjectPublicKeyInfo) }
