package keystore

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
)

// What is taken for a key is one PKCS#8 block that, written by us, reads as the same key again.
func FuzzParseKey(f *testing.F) {
	for _, a := range []Algorithm{P256, Ed25519, RSA2048} {
		key, err := a.generate()
		if err != nil {
			f.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	}
	f.Add(testKey("p224"))
	f.Add(testKey("x25519"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAUCAQAwAA==\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, a, err := readKey(data, nil)
		if err != nil {
			return
		}
		if bytes.Count(data, []byte("-----BEGIN ")) != 1 {
			t.Error("not exactly one block was taken for a key")
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		again, b, err := readKey(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil)
		if err != nil || a != b {
			t.Fatalf("%s, then %s, %v", a, b, err)
		}
		if one, two := marshalPublic(t, key.Public()), marshalPublic(t, again.Public()); !bytes.Equal(one, two) {
			t.Error("another key")
		}
	})
}

// Whatever parameters are taken are in the bounds, and written again they are the same bytes; what decrypts is a whole key.
func FuzzParseEncrypted(f *testing.F) {
	key, err := P256.generate()
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := encryptPKCS8(der, []byte("horse"), minRounds)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	e, err := parseEncrypted(seed)
	if err != nil {
		f.Fatal(err)
	}
	for _, e.rounds = range []int{0, rounds, maxRounds + 1} {
		seed, err := e.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEncrypted(data)
		if err != nil {
			return
		}
		if e.rounds < minRounds || e.rounds > maxRounds || len(e.salt) < minSalt || len(e.salt) > maxSalt {
			t.Errorf("%+v", e)
		}
		again, err := e.marshal()
		if err != nil {
			t.Fatal(err)
		}
		// The key length and the PRF's NULL are optional.
		if second, err := parseEncrypted(again); err != nil || !bytes.Equal(second.sealed, e.sealed) || second.rounds != e.rounds {
			t.Errorf("%x is written as %x: %v", data, again, err)
		}
		if e.rounds > 2*minRounds {
			return
		}
		if plain, err := e.decrypt([]byte("horse")); err == nil && len(plain) >= len(e.sealed) {
			t.Error("no padding was taken off")
		}
	})
}

func marshalPublic(t *testing.T, public any) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// What is taken for a record is exactly what is written for it.
func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{"revision 1\nvalue", "revision 1\n", "removed 7\n", "removed 7\nvalue", "revision 01\n", "revision -1\n",
		"revision 9223372036854775808\n", "revision 1", "revision 0\n", "removed\n", "revision +1\n", "\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord("k", data)
		if err != nil {
			return
		}
		if r.Revision == 0 || r.Removed && r.Value != nil || !r.Removed && r.Value == nil || len(r.Value) > MaxValue {
			t.Errorf("%+v", r)
		}
		if again := encodeRecord(r); !bytes.Equal(again, data) {
			t.Errorf("%q is written as %q", data, again)
		}
	})
}

// What is taken for a counter is exactly what is written for it; anything may stand in the file after a power cut.
func FuzzParseCounter(f *testing.F) {
	f.Add(counter{}.encode())
	f.Add(counter{41, 42}.encode())
	f.Add(counter{43, 42}.encode())
	f.Add(make([]byte, 62))
	f.Add([]byte("committed 1\nbegun 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ok := parseCounter(data)
		if ok && (c.committed > c.begun || !bytes.Equal(c.encode(), data)) {
			t.Errorf("%q is %+v", data, c)
		}
	})
}

// The list of changes names only keys, and as many as there can be.
func FuzzParseChanges(f *testing.F) {
	f.Add([]byte("7 b\n8 a\n9 b\n10 c/d\n"), uint64(7), uint64(10))
	f.Add([]byte("7 ../b\n"), uint64(6), uint64(7))
	f.Add([]byte("7 b"), uint64(6), uint64(7))
	f.Add([]byte(""), uint64(0), uint64(1<<63))
	f.Fuzz(func(t *testing.T, data []byte, after, now uint64) {
		keys, ok := parseChanges(data, Revision(after), Revision(now))
		if ok && now > after && uint64(len(keys)) > now-after {
			t.Errorf("%d keys in (%d, %d]", len(keys), after, now)
		}
		for _, key := range keys {
			if validKey(key) != nil {
				t.Errorf("%q is no key", key)
			}
		}
	})
}

// A name that is taken is a path that stays inside, and no two names are one file.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", "a/../b", "/a", "a//b", "a.record", "a/.", "CON", "a\x00", "ä", "", "a/b/", strings.Repeat("a", 201)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if validLabel(s) == nil {
			if label, ok := keyLabel(filepath.Base(keyFile(s))); !ok || label != s {
				t.Errorf("label %q is found as %q", s, label)
			}
		}
		if validKey(s) != nil {
			if _, err := NewMemory().Replace(context.Background(), s, 0, nil); err == nil {
				t.Errorf("%q was taken", s)
			}
			return
		}
		name := recordFile(s)
		if filepath.ToSlash(filepath.Clean(name)) != name || !filepath.IsLocal(name) || strings.ToLower(name) != name {
			t.Errorf("%q is the file %q", s, name)
		}
		if validPrefix(s+"/") != nil {
			t.Errorf("%q is no prefix", s+"/")
		}
	})
}

// A file that is meant as a key is found, whatever its name: no name brings oneEdit down, and it is symmetric.
func FuzzMistaken(f *testing.F) {
	f.Add("k.pme", "k")
	f.Add("", "")
	f.Add("aa", "a")
	f.Fuzz(func(t *testing.T, name, label string) {
		if oneEdit(name, label) != oneEdit(label, name) {
			t.Errorf("%q and %q", name, label)
		}
		if label != "" && !oneEdit(label[1:], label) {
			t.Errorf("%q without its first letter", label)
		}
		mistaken(name, label)
	})
}
