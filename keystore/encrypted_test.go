//go:build unix

package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterca/clusterca/internal/outside"
)

// says is where a fixed passphrase comes from.
func says(passphrase string) Passphrase {
	return func(context.Context, string) ([]byte, error) { return []byte(passphrase), nil }
}

// judge runs a tool; what it says goes into the error.
func judge(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(outside.Program(t, name), args...)
	var says bytes.Buffer
	cmd.Stderr = &says
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, &says)
	}
	return out
}

// elementOf finds an element of a PEM file that others wrote.
func elementOf(t *testing.T, data []byte, kind string) []byte {
	t.Helper()
	elements, err := ParsePEM(data)
	must(t, err)
	for _, e := range elements {
		if e.Type == kind {
			return e.Bytes
		}
	}
	t.Fatalf("no %s in %v", kind, elements)
	return nil
}

// A22, B14: openssl reads an encrypted key as it is, and its public half without the passphrase; the parameters are
// those of DESIGN §8. GnuTLS decrypts it too (Ed25519 aside, which certtool 3.7 reads from nobody).
func TestOthersReadEncrypted(t *testing.T) {
	for _, a := range []Algorithm{P256, P384, Ed25519, RSA2048} {
		t.Run(string(a), func(t *testing.T) {
			d, err := DirConfig{Passphrase: says("correct horse")}.Open(filepath.Join(t.TempDir(), "dir"))
			must(t, err)
			defer d.Close()
			written := rounds
			if a != P256 { // the full number takes a second under the race detector
				written = minRounds
				d.SetRounds(written)
			}
			s, err := d.Generate(background, "root-1", a)
			must(t, err)
			public := marshalPublic(t, s.Public())
			file := filepath.Join(d.path, "keys", "root-1.pem")
			for _, args := range [][]string{
				{"pkey", "-pubin", "-in", file, "-pubout"},
				{"pkey", "-in", file, "-passin", "pass:correct horse", "-pubout"},
			} {
				if got := elementOf(t, judge(t, "openssl", args...), pemPublic); !bytes.Equal(got, public) {
					t.Errorf("openssl %q reads another key", args)
				}
			}
			if out, err := exec.Command(outside.Program(t, "openssl"), "pkey", "-in", file, "-passin", "pass:wrong", "-noout").CombinedOutput(); err == nil {
				t.Errorf("openssl opens it with another passphrase: %s", out)
			}
			if a != Ed25519 {
				judge(t, "certtool", "--key-info", "--infile", file, "--password", "correct horse", "--outfile", os.DevNull)
			}
			data, err := os.ReadFile(file)
			must(t, err)
			sealed := filepath.Join(t.TempDir(), "sealed")
			must(t, os.WriteFile(sealed, elementOf(t, data, pemEncrypted), 0o600))
			shape := string(judge(t, "openssl", "asn1parse", "-inform", "DER", "-in", sealed))
			for _, want := range []string{":PBES2", ":PBKDF2", ":hmacWithSHA256", ":aes-256-cbc", fmt.Sprintf(":%X", big.NewInt(int64(written)).Bytes())} {
				if !strings.Contains(shape, want) {
					t.Errorf("no %s in\n%s", want, shape)
				}
			}
			if n := strings.Count(shape, "l=  16 prim: OCTET STRING"); n != 2 {
				t.Errorf("%d strings of 16 bytes, want salt and IV:\n%s", n, shape)
			}
		})
	}
}

// plant puts a file in a directory's keys.
func plant(t *testing.T, d *Dir, label string, data []byte) string {
	t.Helper()
	file := filepath.Join(d.path, "keys", label+".pem")
	must(t, os.WriteFile(file, data, 0o600))
	return file
}

// opensslKey makes a key and its encryption with openssl, as our errors tell an operator to.
func opensslKey(t *testing.T, algorithm string, pkcs8 ...string) []byte {
	t.Helper()
	plain := filepath.Join(t.TempDir(), "plain.pem")
	judge(t, "openssl", append([]string{"genpkey", "-out", plain}, strings.Fields(algorithm)...)...)
	return opensslEncrypt(t, plain, pkcs8...)
}

func opensslEncrypt(t *testing.T, plain string, pkcs8 ...string) []byte {
	t.Helper()
	public := judge(t, "openssl", "pkey", "-in", plain, "-pubout")
	return append(public, judge(t, "openssl", append([]string{"pkcs8", "-topk8", "-in", plain, "-passout", "pass:correct horse"}, pkcs8...)...)...)
}

// A22: what openssl encrypts is read: files of version 3.0 that are kept, and new ones of the openssl that is here,
// with its default of rounds and with ours.
func TestOpensslIsRead(t *testing.T) {
	files := map[string][]byte{}
	for _, a := range []string{"p256", "ed25519", "rsa2048"} {
		data, err := os.ReadFile("testdata/openssl/" + a + ".pem")
		must(t, err)
		files["kept "+a] = data
	}
	for name, algorithm := range map[string]string{
		"p256": "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "p384": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
		"ed25519": "-algorithm ED25519", "rsa2048": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
	} {
		files["default "+name] = opensslKey(t, algorithm)
	}
	advice := strings.TrimSuffix(strings.TrimPrefix(recrypt, "openssl pkcs8 -topk8 "), " converts it")
	files["ours p256"] = opensslKey(t, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", strings.Fields(advice)...)
	d := reopenAs(t, DirConfig{Passphrase: says("correct horse")}, filepath.Join(t.TempDir(), "dir"))
	for name, data := range files {
		plant(t, d, "k", data)
		s, err := d.Open(background, "k")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a, err := AlgorithmOf(s.Public()); err != nil || !strings.HasSuffix(name, string(a)) {
			t.Errorf("%s is %s, %v", name, a, err)
		}
		if !bytes.Equal(marshalPublic(t, s.Public()), elementOf(t, data, pemPublic)) {
			t.Errorf("%s: another key", name)
		}
		signs(t, s)
	}
}

func signs(t *testing.T, s Signer) {
	t.Helper()
	digest := sha256.Sum256(nil)
	opts, message := crypto.SignerOpts(crypto.SHA256), digest[:]
	if a, _ := AlgorithmOf(s.Public()); a == Ed25519 {
		opts = crypto.Hash(0)
	}
	if _, err := s.Sign(rand.Reader, message, opts); err != nil {
		t.Error(err)
	}
}

// A directory in the clear is encrypted with openssl as the errors say, and is then the same keys.
func TestPlainIsEncrypted(t *testing.T) {
	d := newDir(t)
	s, err := d.Generate(background, "k", P256)
	must(t, err)
	file := filepath.Join(d.path, "keys", "k.pem")
	plant(t, d, "k", opensslEncrypt(t, file))
	encrypted := reopenAs(t, DirConfig{Passphrase: says("correct horse")}, d.path)
	again, err := encrypted.Generate(background, "k", P256)
	if err != nil || !bytes.Equal(marshalPublic(t, s.Public()), marshalPublic(t, again.Public())) {
		t.Errorf("another key, %v", err)
	}
}

// A22: each thing that may be wrong with an encrypted key file is refused with an error that says which, wraps
// ErrPassphrase only if another passphrase might help, and shows neither key nor passphrase; nobody is asked for a
// passphrase where the file is at fault; and no new key takes its place.
func TestBadEncrypted(t *testing.T) {
	const algorithm = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
	good := opensslKey(t, algorithm)
	edit := func(change func(der []byte) []byte) []byte {
		elements, err := ParsePEM(good)
		must(t, err)
		return slices.Concat(block(pemPublic, elements[0].Bytes), block(pemEncrypted, change(elements[1].Bytes)))
	}
	for _, test := range []struct {
		name, says string
		data       []byte
		asked      bool // and the error is of the passphrase
	}{
		{"another passphrase", ErrPassphrase.Error(), slices.Concat(bytes.Clone(good)), true},
		{"cut off", "it was cut off", good[:len(good)-60], false},
		{"half of it", "not a whole encrypted PKCS#8", edit(func(der []byte) []byte { return der[:len(der)/2] }), false},
		{"no whole blocks", "no whole blocks", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { return iv, sealed[:100] }), false},
		{"data after it", "not a whole encrypted PKCS#8", edit(func(der []byte) []byte { return append(der, 5, 0) }), false},
		{"too many rounds", "10000001 rounds of PBKDF2, want 1000 to 10000000", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) {
			p.Rounds = 10_000_001
			return iv, sealed
		}), false},
		{"too few rounds", "999 rounds of PBKDF2", opensslKey(t, algorithm, "-iter", "999"), false},
		{"negative rounds", "-1 rounds", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { p.Rounds = -1; return iv, sealed }), false},
		{"a short salt", "a salt of 7 bytes", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { p.Salt = p.Salt[:7]; return iv, sealed }), false},
		{"a long salt", "a salt of 65 bytes", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { p.Salt = make([]byte, 65); return iv, sealed }), false},
		{"a key of another length", "do not fit AES-256", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { p.KeyLength = 16; return iv, sealed }), false},
		{"a short IV", "an initialization vector of 15", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { return iv[:15], sealed }), false},
		{"nothing encrypted", "0 encrypted bytes", opensslParams(t, good, func(p *kdf, iv, sealed []byte) ([]byte, []byte) { return iv, nil }), false},
		{"AES-128", "2.16.840.1.101.3.4.1.2, want AES-256-CBC: openssl pkcs8", opensslKey(t, algorithm, "-v2", "aes-128-cbc"), false},
		{"triple DES", "1.2.840.113549.3.7, want AES-256-CBC", opensslKey(t, algorithm, "-v2", "des3"), false},
		{"PBES1", "1.2.840.113549.1.12.1.3, want PBES2", opensslKey(t, algorithm, "-v1", "PBE-SHA1-3DES"), false},
		{"scrypt", "1.3.6.1.4.1.11591.4.11, want PBKDF2", opensslKey(t, algorithm, "-scrypt"), false},
		{"HMAC-SHA1", "the default, HMAC-SHA1, want HMAC-SHA256", opensslKey(t, algorithm, "-v2prf", "hmacWithSHA1"), false},
		{"HMAC-SHA512", "1.2.840.113549.2.11, want HMAC-SHA256", opensslKey(t, algorithm, "-v2prf", "hmacWithSHA512"), false},
		{"no recorded half", `without a "PUBLIC KEY" before it`, block(pemEncrypted, elementOf(t, good, pemEncrypted)), false},
		{"half a pair", "half a pair", block(pemPublic, elementOf(t, good, pemPublic)), false},
		{"two keys", "line 12: \"PUBLIC KEY\" follows the key", slices.Concat(good, good), false},
		{"in the clear", "is in the clear", block(pemType, []byte{5, 0}), false},
		{"text before", "something stands before line 2", append([]byte("Bag Attributes\n"), good...), false},
		{"a certificate", `"CERTIFICATE", want one "ENCRYPTED PRIVATE KEY"`, block("CERTIFICATE", []byte{5, 0}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := false
			d := reopenAs(t, DirConfig{Passphrase: func(ctx context.Context, label string) ([]byte, error) {
				asked = true
				return []byte("battery staple"), ctx.Err()
			}}, filepath.Join(t.TempDir(), "dir"))
			file := plant(t, d, "k", test.data)
			_, err := d.Open(background, "k")
			if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, ErrPassphrase) != test.asked || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("open: %v, want it to say %q", err, test.says)
			}
			if asked != test.asked {
				t.Errorf("asked for the passphrase: %v", asked)
			}
			if strings.Contains(err.Error(), "battery") {
				t.Errorf("the error shows the passphrase: %v", err)
			}
			if _, err := d.Generate(background, "k", P256); err == nil {
				t.Error("generate took its place")
			}
			if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, test.data) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// opensslParams rewrites the parameters of a file of openssl's.
func opensslParams(t *testing.T, file []byte, change func(p *kdf, iv, sealed []byte) (newIV, newSealed []byte)) []byte {
	t.Helper()
	var outer sealedKey
	var scheme pbes2
	var derive kdf
	var iv []byte
	if !exactly(elementOf(t, file, pemEncrypted), &outer) || !exactly(outer.Algorithm.Parameters.FullBytes, &scheme) ||
		!exactly(scheme.KDF.Parameters.FullBytes, &derive) || !exactly(scheme.Cipher.Parameters.FullBytes, &iv) {
		t.Fatal("not openssl's form")
	}
	iv, outer.Sealed = change(&derive, iv, outer.Sealed)
	pack := func(a *pkix.AlgorithmIdentifier, parameters any) {
		der, err := asn1.Marshal(parameters)
		must(t, err)
		a.Parameters = asn1.RawValue{FullBytes: der}
	}
	pack(&scheme.KDF, derive)
	pack(&scheme.Cipher, iv)
	pack(&outer.Algorithm, scheme)
	der, err := asn1.Marshal(outer)
	must(t, err)
	return slices.Concat(block(pemPublic, elementOf(t, file, pemPublic)), block(pemEncrypted, der))
}

// CBC has no integrity: with any one bit of it turned, an encrypted key opens as itself or not at all, and never as a
// key whose public half is not the recorded one.
func TestTurnedBits(t *testing.T) {
	for _, a := range []Algorithm{P256, Ed25519} {
		key, err := a.generate()
		must(t, err)
		plain, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		sealed, err := encryptPKCS8(plain, []byte("horse"), minRounds)
		must(t, err)
		public := marshalPublic(t, key.Public())
		opened := 0
		for i := range sealed {
			sealed[i] ^= 1 << (i % 8)
			if k, err := openEncrypted(sealed, public, []byte("horse")); err == nil {
				opened++
				if !bytes.Equal(marshalPublic(t, k.Public()), public) {
					t.Errorf("%s: byte %d turned: another key is accepted", a, i)
				}
			}
			sealed[i] ^= 1 << (i % 8)
		}
		if k, err := openEncrypted(sealed, public, []byte("horse")); err != nil || k == nil {
			t.Errorf("%s: unturned: %v", a, err)
		}
		t.Logf("%s: %d of %d places may be turned and the same key opens", a, opened, len(sealed))
	}
	// Two files mixed up: whole, of the right passphrase, and not a pair.
	one, err := P256.generate()
	must(t, err)
	other, err := P256.generate()
	must(t, err)
	file, err := encodeEncrypted(one, []byte("horse"), minRounds)
	must(t, err)
	sealed := elementOf(t, file, pemEncrypted)
	if _, err := openEncrypted(sealed, marshalPublic(t, other.Public()), []byte("horse")); !errors.Is(err, ErrPassphrase) ||
		!strings.Contains(err.Error(), "not the private half") {
		t.Errorf("a key that does not fit: %v", err)
	}
}

// An encrypted key under a Dir without a passphrase is refused, never replaced; a plain one under a Dir with one too.
func TestFormIsNeverLeftToTheFile(t *testing.T) {
	encrypted := reopenAs(t, DirConfig{Passphrase: says("horse")}, filepath.Join(t.TempDir(), "dir"))
	_, err := encrypted.Generate(background, "sealed", P256)
	must(t, err)
	plain := reopen(t, encrypted.path)
	_, err = plain.Generate(background, "clear", P256)
	must(t, err)
	for _, test := range []struct {
		d           *Dir
		label, says string
	}{{plain, "sealed", "no passphrase is configured"}, {encrypted, "clear", "is in the clear"}} {
		for _, err := range []error{second(test.d.Open(background, test.label)), second(test.d.Generate(background, test.label, P256))} {
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", test.label, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// An error of whoever is asked is passed on, save that a missing file of theirs does not read as a missing key.
func TestPassphraseFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	errKMS := errors.New("the KMS is sealed")
	var answer error
	d := reopenAs(t, DirConfig{Passphrase: func(_ context.Context, label string) ([]byte, error) {
		if label != "k" {
			t.Errorf("asked for %q", label)
		}
		return []byte("horse"), answer
	}}, path)
	s, err := d.Generate(background, "k", P256)
	must(t, err)
	for _, answer = range []error{errKMS, fs.ErrNotExist, fs.ErrExist, context.Canceled} {
		for _, err := range []error{second(d.Open(background, "k")), second(d.Generate(background, "k", P256))} {
			if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), answer.Error()) {
				t.Errorf("%v: %v", answer, err)
			}
			if known := answer == errKMS || answer == context.Canceled; errors.Is(err, answer) != known {
				t.Errorf("%v is not passed on: %v", answer, err)
			}
		}
	}
	answer = nil
	again, err := d.Open(background, "k")
	if err != nil || !bytes.Equal(marshalPublic(t, again.Public()), marshalPublic(t, s.Public())) {
		t.Errorf("another key, %v", err)
	}
	for _, length := range []int{0, maxPassphrase + 1} {
		d := reopenAs(t, DirConfig{Passphrase: says(strings.Repeat("x", length))}, path)
		for _, err := range []error{second(d.Open(background, "k")), second(d.Generate(background, "new", P256))} {
			if err == nil || !strings.Contains(err.Error(), "bytes, want 1 to 1024") {
				t.Errorf("%d bytes: %v", length, err)
			}
		}
	}
}

// Whoever is asked may take long and use the directory: it is not locked meanwhile. What it returned is cleared.
func TestPassphraseIsAskedUnlocked(t *testing.T) {
	var d *Dir
	var given [][]byte
	writes := 0
	d = reopenAs(t, DirConfig{Passphrase: func(ctx context.Context, label string) ([]byte, error) {
		writes++
		_, err := d.Replace(ctx, fmt.Sprintf("asked/%d", writes), 0, nil)
		given = append(given, []byte("horse"))
		return given[len(given)-1], err
	}}, filepath.Join(t.TempDir(), "dir"))
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	_, err = d.Open(background, "k")
	must(t, err)
	if len(given) != 2 {
		t.Errorf("asked %d times", len(given))
	}
	for _, g := range given {
		if !bytes.Equal(g, make([]byte, len(g))) {
			t.Errorf("%q was left in memory", g)
		}
	}
}

// A51: at no step of making an encrypted key is there a file with the key in the clear, a temporary one or other.
func TestNoKeyInTheClear(t *testing.T) {
	d := reopenAs(t, DirConfig{Passphrase: says("horse")}, filepath.Join(t.TempDir(), "dir"))
	files := 0
	d.tree.Fault = func(operation string, done bool) error {
		return filepath.WalkDir(d.path, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if bytes.Contains(data, []byte("BEGIN PRIVATE KEY")) {
				t.Errorf("after %s: %s holds a key in the clear", operation, path)
			}
			if bytes.Contains(data, []byte(pemEncrypted)) {
				files++
			}
			return err
		})
	}
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	if files == 0 {
		t.Error("the test saw no key at all")
	}
}

// A54: neither the directory nor its configuration shows a passphrase when printed.
func TestPassphraseIsNotPrinted(t *testing.T) {
	c := DirConfig{Passphrase: says("battery staple")}
	d := reopenAs(t, c, filepath.Join(t.TempDir(), "dir"))
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		for _, text := range []string{fmt.Sprintf(verb, c), fmt.Sprintf(verb, d)} {
			if shows(text, []byte("battery staple")) {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}
