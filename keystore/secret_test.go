package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// secret returns the private number or seed of a key.
func secret(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		raw, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	case ed25519.PrivateKey:
		return k.Seed()
	case *rsa.PrivateKey:
		return k.D.Bytes()
	}
	t.Fatalf("%T", key)
	return nil
}

// shows reports whether text has a run of a secret in it, in any of the forms in which Go prints bytes and numbers.
func shows(text string, secret []byte) bool {
	number := fmt.Sprint(secret[:8])
	for _, form := range []string{
		string(secret[:8]), hex.EncodeToString(secret[:8]), strings.ToUpper(hex.EncodeToString(secret[:8])),
		base64.StdEncoding.EncodeToString(secret[:9]), number[1 : len(number)-1], strings.ReplaceAll(number[1:len(number)-1], " ", ","),
		strings.TrimSuffix(fmt.Sprintf("%#v", secret[:4])[len("[]byte{"):], "}"),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// A54: however a signer is printed, wrapped or logged, it shows its label and algorithm and nothing of the key.
func TestSignersPrintNothingSecret(t *testing.T) {
	for _, a := range []Algorithm{P256, Ed25519, RSA2048} {
		key, err := a.generate()
		if err != nil {
			t.Fatal(err)
		}
		hidden := secret(t, key)
		if !shows(fmt.Sprintf("%x", hidden), hidden) || !shows(fmt.Sprint(hidden), hidden) || !shows(fmt.Sprintf("%#v", hidden), hidden) {
			t.Fatal("the test sees nothing")
		}
		var s Signer = &softwareKey{key: key, label: "root-1", algorithm: a}
		var logged bytes.Buffer
		slog.New(slog.NewTextHandler(&logged, nil)).Info("made", "key", s)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "key", s, "pair", struct{ Key Signer }{s})
		encoded, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		texts := []string{logged.String(), string(encoded), fmt.Errorf("sign with %w", fmt.Errorf("%v", s)).Error()}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%U", "%z"} {
			texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, struct{ Key Signer }{s}), fmt.Sprintf(verb, []Signer{s}))
		}
		for _, text := range texts {
			if shows(text, hidden) {
				t.Errorf("%s: %.200s", a, text)
			}
		}
		if got := fmt.Sprint(s); got != `key "root-1" (`+string(a)+")" {
			t.Errorf("printed as %s", got)
		}
	}
}

// A54: a keeper that is printed shows none of its keys, and neither does its refusal of another algorithm.
func TestKeepersPrintNothingSecret(t *testing.T) {
	m := NewMemory()
	s, err := m.Generate(context.Background(), "k", Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	hidden := secret(t, s.(*softwareKey).key)
	_, err = m.Generate(context.Background(), "k", P256)
	for _, text := range []string{fmt.Sprintf("%+v", m), fmt.Sprintf("%#v", m.keys), fmt.Sprint(err)} {
		if shows(text, hidden) {
			t.Errorf("%.200s", text)
		}
	}
}
