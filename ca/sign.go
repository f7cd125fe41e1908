package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
)

// sign makes a certificate in an order that lets nothing out unseen. The draft is encoded with an empty signature and
// parsed in full; the rules of lint.go are held against what was read back; then the very bytes that were read are
// signed; and the signature is checked, because a token that signs with another key, or a fault in its arithmetic, must
// not leave this function. Linting below an empty signature instead of a throw-away key's costs nothing, and no
// certificate that was not meant exists for a moment.
func (d *draft) sign(signer crypto.Signer) (*x509.Certificate, error) {
	d.drawSerial()
	encoded, err := d.encode()
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, fmt.Errorf("what is to be signed does not parse: %w", err)
	}
	if err := d.lint(c); err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, c.RawTBSCertificate, d.by.hash)
	if err != nil {
		return nil, err
	}
	if err := d.seal(c, encoded, signature); err != nil {
		return nil, err
	}
	return c, nil
}

// seal puts the signature into its place and checks it as a stranger would who has the final bytes and nothing else.
func (d *draft) seal(c *x509.Certificate, encoded, signature []byte) error {
	b := der(encoded[:len(encoded)-len(unsigned)])
	b.element(tagBits, func() {
		b = append(b, 0) // no unused bits
		b = append(b, signature...)
	})
	if err := frame(b); err != nil {
		return err
	}
	tbs, signature, err := split(b)
	if err != nil {
		return err
	}
	issuer := d.issuer
	if issuer == nil {
		issuer = c
	}
	if err := issuer.CheckSignature(d.by.name, tbs, signature); err != nil {
		return fmt.Errorf("what was signed does not verify: %w", err)
	}
	c.Raw, c.Signature = b, signature
	return nil
}

// split finds what was signed and the signature in a certificate.
func split(certificate []byte) (tbs, signature []byte, err error) {
	content, _, ok := element(certificate)
	if !ok || remaining(certificate) != 0 {
		return nil, nil, errors.New("the signed certificate is malformed")
	}
	tbs = content[:len(content)-remaining(content)]
	content = content[len(tbs):]
	if _, _, ok = element(content); !ok {
		return nil, nil, errors.New("the signed certificate has no algorithm")
	}
	signature, tag, ok := element(content[len(content)-remaining(content):])
	if !ok || tag != tagBits || len(signature) < 2 {
		return nil, nil, errors.New("the signed certificate has no signature")
	}
	return tbs, signature[1:], nil
}
