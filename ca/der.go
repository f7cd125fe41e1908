package ca

import (
	"encoding/asn1"
	"time"
)

// der is a buffer to which DER elements are appended (X.690 §8 and §10). Lengths are filled in when an element ends, so
// that a certificate takes one buffer and no second pass.
type der []byte

const (
	tagBoolean    = 0x01
	tagInteger    = 0x02
	tagBits       = 0x03
	tagOctets     = 0x04
	tagUTF8       = 0x0c
	tagPrintable  = 0x13
	tagUTCTime    = 0x17
	tagTime       = 0x18
	tagSequence   = 0x30
	tagSet        = 0x31
	tagContext    = 0x80 // context-specific, primitive
	tagContextSet = 0xa0 // context-specific, constructed
)

// element appends what content appends, as one element.
func (b *der) element(tag byte, content func()) {
	*b = append(*b, tag, 0)
	start := len(*b)
	content()
	n := len(*b) - start
	if n < 0x80 {
		(*b)[start-1] = byte(n)
		return
	}
	more := 1
	for m := n; m > 0xff; m >>= 8 {
		more++
	}
	*b = append(*b, make([]byte, more)...)
	copy((*b)[start+more:], (*b)[start:start+n])
	(*b)[start-1] = 0x80 | byte(more)
	for i := more - 1; i >= 0; i-- {
		(*b)[start+i] = byte(n)
		n >>= 8
	}
}

func (b *der) bytes(tag byte, content []byte) { b.element(tag, func() { *b = append(*b, content...) }) }

func (b *der) text(tag byte, content string) { b.element(tag, func() { *b = append(*b, content...) }) }

// raw appends an element that was encoded before.
func (b *der) raw(encoded []byte) { *b = append(*b, encoded...) }

// integer appends a number that is not negative, given big-endian: no leading zeros but the one that keeps it positive.
func (b *der) integer(magnitude []byte) {
	for len(magnitude) > 1 && magnitude[0] == 0 {
		magnitude = magnitude[1:]
	}
	b.element(tagInteger, func() {
		if len(magnitude) > 0 && magnitude[0]&0x80 != 0 {
			*b = append(*b, 0)
		}
		*b = append(*b, magnitude...)
	})
}

// time appends a date: UTCTime until 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5).
func (b *der) time(t time.Time) {
	tag, layout := byte(tagUTCTime), "060102150405Z"
	if t.Year() < 1950 || t.Year() >= 2050 {
		tag, layout = tagTime, "20060102150405Z"
	}
	b.element(tag, func() { *b = t.UTC().AppendFormat(*b, layout) })
}

// attribute appends one RelativeDistinguishedName: PrintableString where that can say it, and UTF8String (RFC 5280
// §4.1.2.4).
func (b *der) attribute(kind []byte, value string) {
	tag := byte(tagUTF8)
	if printable(value) {
		tag = tagPrintable
	}
	b.element(tagSet, func() {
		b.element(tagSequence, func() {
			b.raw(kind)
			b.text(tag, value)
		})
	})
}

// printable says whether PrintableString has all of s (X.680 §41.4).
func printable(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == ' ' || c >= '\'' && c <= ')' || c >= '+' && c <= '/' || c == ':' || c == '=' || c == '?':
		default:
			return false
		}
	}
	return true
}

// oid is an object identifier, encoded once at the start of the program.
func oid(numbers ...int) []byte {
	encoded, err := asn1.Marshal(asn1.ObjectIdentifier(numbers))
	if err != nil {
		panic(err) // a constant of ours is wrong
	}
	return encoded
}
