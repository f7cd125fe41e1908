package keystore

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The types of PEM elements in key files.
const (
	pemType      = "PRIVATE KEY"           // PKCS#8 (RFC 7468 §10)
	pemEncrypted = "ENCRYPTED PRIVATE KEY" // RFC 7468 §11
	pemPublic    = "PUBLIC KEY"            // RFC 7468 §13
)

// errKey is all that is said of what a key file holds: a parser's error may quote it.
var errKey = errors.New("not a whole PKCS#8 private key of a kind that signs, with nothing after it")

// parseKey reads a key file that holds one key and nothing else: in the clear when passphrase is nil, else encrypted,
// with its public half before it. Which of the two it must be is never left to the file: an encrypted key is not
// silently replaced by one in the clear. Its errors say what was found, never what it holds.
func parseKey(data []byte, passphrase func() ([]byte, error)) (crypto.Signer, error) {
	elements, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	defer wipe(elements)
	if e := elements[0]; strings.TrimSpace(e.Text) != "" {
		return nil, fmt.Errorf("something stands before line %d: a key file holds the key alone", e.Line)
	}
	private, err := privateElement(elements, passphrase != nil)
	if err != nil {
		return nil, err
	}
	if passphrase == nil {
		return parsePKCS8(private.Bytes)
	}
	if _, err := parseEncrypted(private.Bytes); err != nil {
		return nil, err // before anybody is asked
	}
	secret, err := passphrase()
	defer clear(secret)
	if err != nil {
		return nil, err
	}
	return openEncrypted(private.Bytes, elements[0].Bytes, secret)
}

func wipe(elements []Element) {
	for _, e := range elements {
		clear(e.Bytes)
	}
}

// privateElement finds the one private key among a file's elements, or says what stands in its place.
func privateElement(elements []Element, encrypted bool) (Element, error) {
	want := []string{pemType}
	if encrypted {
		want = []string{pemPublic, pemEncrypted}
	}
	var types []string
	for _, e := range elements {
		types = append(types, e.Type)
	}
	first, n := elements[0], len(want)
	switch {
	case slices.Equal(types, want):
		return elements[n-1], nil
	case len(types) > n && slices.Equal(types[:n], want):
		return Element{}, fmt.Errorf("%s follows the key: a key file holds one key alone", elements[n].place())
	case !encrypted && slices.Contains(types, pemEncrypted):
		return Element{}, fmt.Errorf("it holds an %q, and no passphrase is configured", pemEncrypted)
	case encrypted && types[0] == pemType:
		return Element{}, fmt.Errorf("%s is in the clear, and a passphrase is configured: encrypt it, or configure none", first.place())
	case encrypted && types[0] == pemEncrypted:
		return Element{}, fmt.Errorf("%s without a %q before it, by which a decrypted key is known: openssl pkey -pubout makes it", first.place(), pemPublic)
	case encrypted && len(types) == 1 && types[0] == pemPublic:
		return Element{}, fmt.Errorf("%s alone is half a pair: its %q is missing", first.place(), pemEncrypted)
	}
	return Element{}, fmt.Errorf("%s, want one %q (openssl pkcs8 -topk8 makes it)", first.place(), want[n-1])
}

// parsePKCS8 looks at the frame itself (RFC 5958 §2), since x509 lets data pass after the structure and within it.
func parsePKCS8(der []byte) (crypto.Signer, error) {
	outer := elements(der)
	if len(outer) != 1 || !frame(elements(outer[0].Bytes)) {
		return nil, errKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errKey
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errKey
	}
	return key, nil
}

// frame reports whether these are version, algorithm, exactly one key, and at most the attributes and the public key.
func frame(fields []asn1.RawValue) bool {
	if len(fields) < 3 || len(elements(fields[2].Bytes)) != 1 {
		return false
	}
	last := -1
	for _, extra := range fields[3:] {
		if extra.Class != asn1.ClassContextSpecific || extra.Tag > 1 || extra.Tag <= last {
			return false
		}
		last = extra.Tag
	}
	return true
}

// elements splits DER into its elements; nil when something is left over.
func elements(der []byte) []asn1.RawValue {
	var list []asn1.RawValue
	for len(der) > 0 {
		var element asn1.RawValue
		rest, err := asn1.Unmarshal(der, &element)
		if err != nil {
			return nil
		}
		list, der = append(list, element), rest
	}
	return list
}

// misnamed looks for a file that somebody may have meant as this key, which is missing: another case, another
// extension, one letter off. Taking no notice would make a new key, and the old one's certificates useless.
func (d *Dir) misnamed(label string) error {
	entries, err := d.entries(keysDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := keyLabel(e.Name()); !ok && mistaken(e.Name(), label) {
			return fmt.Errorf("%s is missing, but there is %s/%.300s: rename it, or move it away", keyFile(label), keysDir, e.Name())
		}
	}
	return nil
}

// mistaken reports whether a file that is no key by its name can be meant as the key of that label.
func mistaken(name, label string) bool {
	name = strings.ToLower(name)
	stem, _, _ := strings.Cut(name, ".")
	return stem == label || oneEdit(name, label+keySuffix)
}

// oneEdit reports whether one letter put in, left out or replaced, or two exchanged, make a into b.
func oneEdit(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	exchanged := len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
	return len(a) <= 1 && len(b) <= 1 || exchanged
}
