package ca

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/bits"
)

var (
	keyUsageOID          = oid(2, 5, 29, 15)
	extendedKeyUsageOID  = oid(2, 5, 29, 37)
	basicConstraintsOID  = oid(2, 5, 29, 19)
	subjectKeyOID        = oid(2, 5, 29, 14)
	authorityKeyOID      = oid(2, 5, 29, 35)
	subjectAltNameOID    = oid(2, 5, 29, 17)
	nameConstraintsOID   = oid(2, 5, 29, 30)
	encodedTrue          = []byte{tagBoolean, 1, 0xff}
	version3             = []byte{tagContextSet, 3, tagInteger, 1, 2}
	unsigned             = []byte{tagBits, 1, 0} // stands where the signature will
	certificateHead      = 4                     // bytes before the to-be-signed part, see frame
	usualCertificateSize = 1024                  // bytes: the first guess at what a certificate takes
)

const serialSize = 16

// draft is a certificate before it is encoded.
type draft struct {
	*profile
	validity
	serial  [serialSize]byte // 127 random bits, positive: unique without anybody to ask (RFC 5280 §4.1.2.2)
	cluster string           // its UUID, which the subject names
	subject []byte           // encoded
	key     publicKey
	issuer  *x509.Certificate // nil: the certificate is its own issuer
	by      scheme            // how the issuer signs

	uri       string
	dns       []string
	addresses [][]byte // 4 or 16 bytes each
	domain    string   // of the URIs that a CA may certify
}

func (d *draft) drawSerial() {
	for again := true; again; again = d.serial == [16]byte{} {
		rand.Read(d.serial[:]) // never fails
		d.serial[0] &= 0x7f
	}
}

// encode gives the whole certificate with an empty signature: what is linted now and signed next are the same bytes.
func (d *draft) encode() ([]byte, error) {
	b := make(der, certificateHead, usualCertificateSize)
	b.element(tagSequence, func() { d.body(&b) })
	b.raw(d.by.identifier)
	b.raw(unsigned)
	return b, frame(b)
}

// frame writes the outermost tag and length, always of two bytes: no certificate of ours is shorter or longer, and the
// signature can be put in place without moving what was signed.
func frame(b []byte) error {
	n := len(b) - certificateHead
	if n < 0x100 || n > 0xffff {
		return errors.New("the certificate does not fit into 64 KiB: ask for fewer hosts")
	}
	b[0], b[1], b[2], b[3] = tagSequence, 0x82, byte(n>>8), byte(n)
	return nil
}

// body is TBSCertificate (RFC 5280 §4.1).
func (d *draft) body(b *der) {
	b.raw(version3)
	b.integer(d.serial[:])
	b.raw(d.by.identifier)
	if d.issuer == nil {
		b.raw(d.subject)
	} else {
		b.raw(d.issuer.RawSubject)
	}
	b.element(tagSequence, func() {
		b.time(d.notBefore)
		b.time(d.notAfter)
	})
	b.raw(d.subject)
	b.raw(d.key.spki)
	b.element(tagContextSet|3, func() { b.element(tagSequence, func() { d.extensions(b) }) })
}

func (d *draft) extensions(b *der) {
	b.extension(keyUsageOID, true, func() { b.keyUsage(d.keyUsage) })
	if len(d.purposes) > 0 {
		b.extension(extendedKeyUsageOID, false, func() { d.extendedKeyUsage(b) })
	}
	b.extension(basicConstraintsOID, true, func() { d.basicConstraints(b) })
	b.extension(subjectKeyOID, false, func() { b.bytes(tagOctets, d.key.identifier()) })
	if d.issuer != nil {
		b.extension(authorityKeyOID, false, func() {
			b.element(tagSequence, func() { b.bytes(tagContext, d.issuer.SubjectKeyId) })
		})
	}
	if d.uri != "" || len(d.dns)+len(d.addresses) > 0 {
		b.extension(subjectAltNameOID, false, func() { d.names(b) })
	}
	if d.domain != "" {
		b.extension(nameConstraintsOID, true, func() { d.constraints(b) })
	}
}

func (b *der) extension(id []byte, critical bool, value func()) {
	b.element(tagSequence, func() {
		b.raw(id)
		if critical {
			b.raw(encodedTrue)
		}
		b.element(tagOctets, value)
	})
}

// keyUsage is a named bit list: trailing zero bits are left out (RFC 5280 §4.2.1.3, X.690 §11.2.2). The ninth bit,
// decipherOnly, is in no profile.
func (b *der) keyUsage(u x509.KeyUsage) {
	list := bits.Reverse8(byte(u))
	b.bytes(tagBits, []byte{byte(bits.TrailingZeros8(list)), list})
}

func (d *draft) extendedKeyUsage(b *der) {
	b.element(tagSequence, func() {
		for _, p := range d.purposes {
			b.raw(p.encoded)
		}
	})
}

func (d *draft) basicConstraints(b *der) {
	b.element(tagSequence, func() {
		if d.isCA {
			b.raw(encodedTrue)
			b.integer([]byte{byte(d.pathLength)})
		}
	})
}

// names are the subject's alternative names (RFC 5280 §4.2.1.6).
func (d *draft) names(b *der) {
	b.element(tagSequence, func() {
		for _, name := range d.dns {
			b.text(tagContext|2, name)
		}
		for _, address := range d.addresses {
			b.bytes(tagContext|7, address)
		}
		if d.uri != "" {
			b.text(uriTag, d.uri)
		}
	})
}

// constraints permit the URIs of one trust domain (RFC 5280 §4.2.1.10).
func (d *draft) constraints(b *der) {
	b.element(tagSequence, func() {
		b.element(tagContextSet, func() {
			b.element(tagSequence, func() { b.text(uriTag, d.domain) })
		})
	})
}
