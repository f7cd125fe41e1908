// Package keytest is the conformance suite of keystore.Keys: whoever writes a keeper runs it in a test of theirs.
package keytest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// Run holds the keepers that open makes, each empty, against the promises of keystore.Keys, with keys of the given
// algorithms; none means P-256 alone.
func Run(t *testing.T, open func(t *testing.T) keystore.Keys, algorithms ...keystore.Algorithm) {
	if len(algorithms) == 0 {
		algorithms = []keystore.Algorithm{keystore.P256}
	}
	for _, a := range algorithms {
		t.Run("sign/"+string(a), func(t *testing.T) { signs(t, open(t), a) })
	}
	first := algorithms[0]
	for _, test := range []struct {
		name string
		run  func(*testing.T, keystore.Keys, keystore.Algorithm)
	}{
		{"generate finds what is there", finds},
		{"absent", absent},
		{"labels", labels},
		{"bad labels", badLabels},
		{"unknown algorithm", unknown},
		{"delete", deletes},
		{"concurrent", concurrent},
		{"ended context", ended},
		{"prints nothing secret", silent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), first) })
	}
}

func generate(t *testing.T, k keystore.Keys, label string, a keystore.Algorithm) keystore.Signer {
	t.Helper()
	s, err := k.Generate(context.Background(), label, a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keyOf(t *testing.T, s crypto.Signer) fingerprint.Key {
	t.Helper()
	k, err := fingerprint.OfPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signs: a key is of the algorithm asked for and its signatures verify, opened again too.
func signs(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	s := generate(t, k, "one", a)
	if got, err := keystore.AlgorithmOf(s.Public()); err != nil || got != a {
		t.Errorf("asked for %s, got %s, %v", a, got, err)
	}
	again, err := k.Open(context.Background(), "one")
	if err != nil {
		t.Fatal(err)
	}
	if keyOf(t, s) != keyOf(t, again) || again.Label() != "one" {
		t.Errorf("opened key %q is another", again.Label())
	}
	message := []byte("message")
	opts := crypto.SignerOpts(crypto.SHA256)
	if _, ok := s.Public().(ed25519.PublicKey); ok {
		opts = crypto.Hash(0)
	}
	signature, err := crypto.SignMessage(again, rand.Reader, message, opts)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	if !verifies(s.Public(), message, signature) {
		t.Error("the signature does not verify")
	}
}

func verifies(public crypto.PublicKey, message, signature []byte) bool {
	digest := sha256.Sum256(message)
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// finds: a caller that was killed after Generate calls it again and gets the same key; another algorithm is refused.
func finds(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	first := keyOf(t, generate(t, k, "one", a))
	if keyOf(t, generate(t, k, "one", a)) != first {
		t.Error("the second Generate made another key")
	}
	if keyOf(t, generate(t, k, "two", a)) == first {
		t.Error("two labels share a key")
	}
	for _, other := range keystore.Algorithms() {
		if other == a {
			continue
		}
		if _, err := k.Generate(context.Background(), "one", other); !errors.Is(err, fs.ErrExist) {
			t.Errorf("generate %s over a %s key: %v, want fs.ErrExist", other, a, err)
		}
		break
	}
}

func absent(t *testing.T, k keystore.Keys, _ keystore.Algorithm) {
	if _, err := k.Open(context.Background(), "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v, want fs.ErrNotExist", err)
	}
	if err := k.Delete(context.Background(), "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("delete: %v, want fs.ErrNotExist", err)
	}
}

func labels(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	for _, label := range []string{"b", "a-1", "c"} {
		generate(t, k, label, a)
	}
	got, err := k.Labels(context.Background())
	if want := []string{"a-1", "b", "c"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("labels %q, %v, want %q", got, err, want)
	}
}

func badLabels(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	for _, label := range []string{"", "A", "a/b", "../a", "a.pem", "ä", strings.Repeat("a", 65)} {
		if _, err := k.Generate(context.Background(), label, a); !errors.Is(err, keystore.ErrName) {
			t.Errorf("generate %q: %v, want ErrName", label, err)
		}
		if _, err := k.Open(context.Background(), label); !errors.Is(err, keystore.ErrName) {
			t.Errorf("open %q: %v, want ErrName", label, err)
		}
		if err := k.Delete(context.Background(), label); !errors.Is(err, keystore.ErrName) {
			t.Errorf("delete %q: %v, want ErrName", label, err)
		}
	}
	generate(t, k, strings.Repeat("a", 64), a)
}

func unknown(t *testing.T, k keystore.Keys, _ keystore.Algorithm) {
	if _, err := k.Generate(context.Background(), "one", "p224"); !errors.Is(err, keystore.ErrAlgorithm) {
		t.Errorf("generate p224: %v, want ErrAlgorithm", err)
	}
	if got, err := k.Labels(context.Background()); err != nil || len(got) != 0 {
		t.Errorf("it left %q, %v", got, err)
	}
}

// ended: nothing is made or destroyed for a caller who has gone.
func ended(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.Generate(ctx, "two", a); !errors.Is(err, context.Canceled) {
		t.Errorf("generate: %v", err)
	}
	kept := keyOf(t, generate(t, k, "one", a))
	if err := k.Delete(ctx, "one"); !errors.Is(err, context.Canceled) {
		t.Errorf("delete: %v", err)
	}
	if got, err := k.Labels(context.Background()); err != nil || !slices.Equal(got, []string{"one"}) {
		t.Errorf("labels %q, %v", got, err)
	}
	if keyOf(t, generate(t, k, "one", a)) != kept {
		t.Error("the key is another")
	}
}

func deletes(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	old := keyOf(t, generate(t, k, "one", a))
	if err := k.Delete(context.Background(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(context.Background(), "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open after delete: %v", err)
	}
	if keyOf(t, generate(t, k, "one", a)) == old {
		t.Error("the key came back")
	}
}

// concurrent: many who make one label get one key.
func concurrent(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	var group sync.WaitGroup
	keys := make([]fingerprint.Key, 8)
	for i := range keys {
		group.Go(func() {
			s, err := k.Generate(context.Background(), "one", a)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i], _ = fingerprint.OfPublicKey(s.Public())
		})
	}
	group.Wait()
	if n := len(slices.Compact(keys)); n != 1 {
		t.Errorf("%d different keys under one label", n)
	}
}

// silent: A54. However a signer is printed, no part of a private key shows; a big number or byte list would.
func silent(t *testing.T, k keystore.Keys, a keystore.Algorithm) {
	s := generate(t, k, "one", a)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if text := fmt.Sprintf(verb, s); len(text) > 100 {
			t.Errorf("%s prints %d bytes: a key may be in there", verb, len(text))
		}
	}
}
