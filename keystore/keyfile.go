package keystore

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const pemType = "PRIVATE KEY"

// errKey is all that is said of what a key file holds: a parser's error may quote it.
var errKey = errors.New("not a whole PKCS#8 private key of a kind that signs, with nothing after it")

// parseKey reads exactly one PKCS#8 key in PEM (RFC 7468 §10). Its errors say what was found, never what it holds.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("no PEM block: it is empty, cut off, or not PEM")
	case block.Type != pemType:
		return nil, fmt.Errorf("PEM block %.40q, want one %q (openssl pkcs8 -topk8 -nocrypt makes it)", block.Type, pemType)
	case len(block.Headers) > 0:
		return nil, errors.New("headers in the PEM block, which PKCS#8 has none of")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%d bytes follow the key", len(rest))
	case bytes.Count(data, []byte("-----BEGIN ")) > 1 || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")):
		// pem.Decode passes over what it cannot read.
		return nil, errors.New("something stands before the key")
	}
	defer clear(block.Bytes)
	return parsePKCS8(block.Bytes)
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

// misnamed looks for a file that somebody may have meant as this key, which is missing: another case, another extension,
// one letter off. Taking no notice would make a new key, and the old one's certificates useless.
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
