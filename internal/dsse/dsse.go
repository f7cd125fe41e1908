// Package dsse answers: who signed this document, and does it say exactly one thing?
//
// It is version 1 of the Dead Simple Signing Envelope: the signature covers the payload's type and bytes, so a document
// of one kind is never taken for another, and nothing is parsed before it was verified. Decode is the strict JSON
// reader for what was verified.
package dsse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Errors of Open and Payload.
var (
	ErrMalformed = errors.New("not a signed document of the expected kind")
	ErrUntrusted = errors.New("signed by nobody who may")
)

type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// encodePAE is the pre-authentication encoding: lengths in front of type and payload leave one way to read it.
func encodePAE(payloadType string, payload []byte) []byte {
	b := fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload))
	return append(b, payload...)
}

// Sign wraps payload in an envelope with a signature of each signer. The algorithm follows from the key: ECDSA with the
// curve's hash, Ed25519, or RSA-PSS with SHA-256.
func Sign(payloadType string, payload []byte, signers ...crypto.Signer) ([]byte, error) {
	if len(signers) == 0 || len(signers) > maxSignatures {
		return nil, fmt.Errorf("dsse: sign %q: %d signers, 1 to %d are allowed", payloadType, len(signers), maxSignatures)
	}
	e := envelope{PayloadType: payloadType, Payload: payload}
	message := encodePAE(payloadType, payload)
	for _, signer := range signers {
		s, err := sign(message, signer)
		if err != nil {
			return nil, fmt.Errorf("dsse: sign %q: %w", payloadType, err)
		}
		if slices.ContainsFunc(e.Signatures, func(other signature) bool { return other.KeyID == s.KeyID }) {
			return nil, fmt.Errorf("dsse: sign %q: one key is to sign twice", payloadType)
		}
		e.Signatures = append(e.Signatures, s)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("dsse: sign %q: %w", payloadType, err)
	}
	if len(data) > maxEnvelope {
		return nil, fmt.Errorf("dsse: sign %q: %d bytes, at most %d", payloadType, len(data), maxEnvelope)
	}
	return data, nil
}

func sign(message []byte, signer crypto.Signer) (signature, error) {
	opts, err := options(signer.Public())
	if err != nil {
		return signature{}, err
	}
	sig, err := crypto.SignMessage(signer, rand.Reader, message, opts)
	if err != nil {
		return signature{}, err
	}
	id, err := keyID(signer.Public())
	return signature{id, sig}, err
}

// Open returns the payload of an envelope of exactly this type, and those of the trusted keys that signed it, each once: at
// least one. Signatures of others are passed over, as the specification wants it. The error wraps ErrMalformed or
// ErrUntrusted. Nothing in the payload was looked at before a signature was good.
func Open(data []byte, payloadType string, trusted []crypto.PublicKey) ([]byte, []crypto.PublicKey, error) {
	e, err := read(data, payloadType)
	if err != nil {
		return nil, nil, err
	}
	message := encodePAE(e.PayloadType, e.Payload)
	signed := make(map[string]bool)
	var keys []crypto.PublicKey
	for _, key := range trusted {
		id, err := keyID(key)
		if err != nil || signed[id] {
			continue
		}
		if signed[id] = e.signedBy(key, id, message); signed[id] {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, nil, fmt.Errorf("dsse: %q: %w", payloadType, ErrUntrusted)
	}
	return e.Payload, keys, nil
}

// signedBy looks for a good signature of key. The key id is a hint and proves nothing; it only spares checks that cannot
// succeed.
func (e *envelope) signedBy(key crypto.PublicKey, id string, message []byte) bool {
	return slices.ContainsFunc(e.Signatures, func(s signature) bool {
		return (s.KeyID == "" || s.KeyID == id) && verify(key, message, s.Sig)
	})
}

// Payload returns the payload of an envelope without looking at its signatures: for one's own copies only. The error
// wraps ErrMalformed.
func Payload(data []byte, payloadType string) ([]byte, error) {
	e, err := read(data, payloadType)
	return e.Payload, err
}

func read(data []byte, payloadType string) (envelope, error) {
	if len(data) > maxEnvelope {
		return envelope{}, fmt.Errorf("dsse: %d bytes, at most %d: %w", len(data), maxEnvelope, ErrMalformed)
	}
	var e envelope
	if err := Decode(data, &e); err != nil {
		return envelope{}, fmt.Errorf("dsse: %w: %w", ErrMalformed, err)
	}
	if e.PayloadType != payloadType {
		return envelope{}, fmt.Errorf("dsse: it is a %q, not a %q: %w", cut(e.PayloadType), payloadType, ErrMalformed)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures {
		return envelope{}, fmt.Errorf("dsse: %d signatures, 1 to %d are allowed: %w", len(e.Signatures), maxSignatures, ErrMalformed)
	}
	return e, nil
}

// cut keeps a stranger's words short in our logs.
func cut(s string) string { return s[:min(len(s), 128)] }

func keyID(public crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("dsse: %w", err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:]), nil
}

func hashOf(k *ecdsa.PublicKey) crypto.Hash {
	if k.Curve.Params().BitSize > 256 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

var pss = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

func options(public crypto.PublicKey) (crypto.SignerOpts, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return hashOf(k), nil
	case ed25519.PublicKey:
		return crypto.Hash(0), nil
	case *rsa.PublicKey:
		return pss, nil
	}
	return nil, fmt.Errorf("dsse: no signature algorithm for %T", public)
}

func verify(public crypto.PublicKey, message, sig []byte) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		h := hashOf(k).New()
		h.Write(message)
		return ecdsa.VerifyASN1(k, h.Sum(nil), sig)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, pss) == nil
	}
	return false
}
