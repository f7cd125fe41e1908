package dsse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
)

const kind = "application/vnd.clusterca.test.v1+json"

// The example of the specification (DSSE v1.0.2, protocol.md, "Test Vectors").
const (
	specType    = "http://example.com/HelloWorld"
	specPayload = "hello world"
	specPAE     = "DSSEv1 29 http://example.com/HelloWorld 11 hello world"
	specSig     = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
)

func specKey(t *testing.T) *ecdsa.PublicKey {
	x, ok1 := new(big.Int).SetString("46950820868899156662930047687818585632848591499744589407958293238635476079160", 10)
	y, ok2 := new(big.Int).SetString("5640078356564379163099075877009565129882514886557779369047442380624545832820", 10)
	if !ok1 || !ok2 {
		t.Fatal("the specification's key")
	}
	point := append([]byte{4}, append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...)...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSpecificationExample(t *testing.T) {
	if got := string(encodePAE(specType, []byte(specPayload))); got != specPAE {
		t.Errorf("PAE %q, want %q", got, specPAE)
	}
	// The specification gives r and s side by side; envelopes of ours carry them in DER.
	raw, err := base64.StdEncoding.DecodeString(specSig)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(specPAE))
	if !ecdsa.Verify(specKey(t), digest[:], new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])) {
		t.Error("the specification's own signature does not verify over our encoding")
	}
}

// Nothing in one field can pass for the beginning of the next.
func TestPAEHasOneReading(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range [][2]string{{"a", "b 1 c"}, {"a 3 b", "1 c"}, {"", "a"}, {"a", ""}, {"a 0 ", ""}, {"1", "1"}} {
		pae := string(encodePAE(c[0], []byte(c[1])))
		if seen[pae] {
			t.Errorf("%q has the encoding of another pair", c)
		}
		seen[pae] = true
	}
}

func signers(t testing.TB) map[string]crypto.Signer {
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	rsa2048, err4 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"p256": p256, "p384": p384, "ed25519": ed, "rsa2048": rsa2048}
}

func TestSignAndOpen(t *testing.T) {
	all := signers(t)
	for name, signer := range all {
		t.Run(name, func(t *testing.T) {
			data, err := Sign(kind, []byte(`{"a":1}`), signer)
			if err != nil {
				t.Fatal(err)
			}
			var trusted []crypto.PublicKey
			for _, s := range all {
				trusted = append(trusted, s.Public())
			}
			payload, keys, err := Open(data, kind, trusted)
			if err != nil || string(payload) != `{"a":1}` {
				t.Fatalf("payload %q, error %v", payload, err)
			}
			if len(keys) != 1 || !same(keys[0], signer.Public()) {
				t.Error("another key is said to have signed")
			}
			if again, err := Payload(data, kind); err != nil || string(again) != string(payload) {
				t.Errorf("Payload: %q, %v", again, err)
			}
		})
	}
}

func same(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

// Each trusted key that signed counts once, however often it signed, is trusted, or hides its id; a stranger's signature
// neither counts nor hurts.
func TestSeveralSignatures(t *testing.T) {
	all := signers(t)
	a, b, stranger := all["p256"], all["ed25519"], all["p384"]
	data, err := Sign(kind, []byte(`{"a":1}`), stranger, a, b)
	if err != nil {
		t.Fatal(err)
	}
	twice := reseal(t, data, func(e *envelope) {
		e.Signatures = append(e.Signatures[1:2], e.Signatures[1], e.Signatures[1])
		e.Signatures[1].KeyID = ""
	})
	for _, row := range []struct {
		name    string
		data    []byte
		trusted []crypto.PublicKey
		want    []crypto.Signer
	}{
		{"both", data, []crypto.PublicKey{a.Public(), b.Public()}, []crypto.Signer{a, b}},
		{"one is trusted", data, []crypto.PublicKey{b.Public()}, []crypto.Signer{b}},
		{"trusted twice", data, []crypto.PublicKey{b.Public(), b.Public()}, []crypto.Signer{b}},
		{"signed twice", twice, []crypto.PublicKey{a.Public(), b.Public()}, []crypto.Signer{a}},
		{"nobody", data, []crypto.PublicKey{all["rsa2048"].Public()}, nil},
		{"nobody is trusted", data, nil, nil},
		{"a key of no known type", data, []crypto.PublicKey{"odd", a.Public()}, []crypto.Signer{a}},
	} {
		_, keys, err := Open(row.data, kind, row.trusted)
		if (err == nil) != (row.want != nil) || len(keys) != len(row.want) {
			t.Errorf("%s: %d keys, %v", row.name, len(keys), err)
			continue
		}
		for i, s := range row.want {
			if !same(keys[i], s.Public()) {
				t.Errorf("%s: key %d is another", row.name, i)
			}
		}
	}
	for name, signers := range map[string][]crypto.Signer{
		"nobody": nil, "one key twice": {a, b, a}, "too many": {a, a, a, a, a, a, a, a, a},
	} {
		if data, err := Sign(kind, nil, signers...); err == nil || data != nil {
			t.Errorf("%s signed", name)
		}
	}
}

func reseal(t *testing.T, data []byte, edit func(*envelope)) []byte {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	edit(&e)
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOpenRefuses(t *testing.T) {
	all := signers(t)
	signer, stranger := all["p256"], all["ed25519"]
	good, err := Sign(kind, []byte(`{"a":1}`), signer)
	if err != nil {
		t.Fatal(err)
	}
	strangers, err := Sign(kind, []byte(`{"a":1}`), stranger)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(edit func(*envelope)) []byte { return reseal(t, good, edit) }
	for _, row := range []struct {
		name string
		data []byte
		want error
	}{
		{"signed by a stranger", strangers, ErrUntrusted},
		{"a stranger's signature under the trusted key's id", edited(func(e *envelope) {
			var s envelope
			_ = json.Unmarshal(strangers, &s)
			e.Signatures[0].Sig = s.Signatures[0].Sig
		}), ErrUntrusted},
		{"payload changed", edited(func(e *envelope) { e.Payload = []byte(`{"a":2}`) }), ErrUntrusted},
		{"type changed and asked for", edited(func(e *envelope) { e.PayloadType = "other" }), ErrMalformed},
		{"no signature", edited(func(e *envelope) { e.Signatures = nil }), ErrMalformed},
		{"more signatures than we look at", edited(func(e *envelope) {
			for range maxSignatures {
				e.Signatures = append(e.Signatures, e.Signatures[0])
			}
		}), ErrMalformed},
		{"empty signature", edited(func(e *envelope) { e.Signatures[0].Sig = nil }), ErrUntrusted},
		{"data after the envelope", append(append([]byte{}, good...), "{}"...), ErrMalformed},
		{"payload twice", []byte(strings.Replace(string(good), `"payload"`, `"Payload":"e30=","payload"`, 1)), ErrMalformed},
		{"unknown field", []byte(strings.Replace(string(good), `"payload"`, `"note":"","payload"`, 1)), ErrMalformed},
		{"too large", append(make([]byte, maxEnvelope), good...), ErrMalformed},
		{"nothing", nil, ErrMalformed},
		{"null", []byte("null"), ErrMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			payload, keys, err := Open(row.data, kind, []crypto.PublicKey{signer.Public()})
			if !errors.Is(err, row.want) || payload != nil || keys != nil {
				t.Errorf("payload %q, keys %v, error %v, want %v", payload, keys, err, row.want)
			}
		})
	}
}

// A signature of one kind of document is none of another, even when the bytes of the payload are the same.
func TestTypesAreApart(t *testing.T) {
	signer := signers(t)["p256"]
	data, err := Sign(kind, []byte(`{}`), signer)
	if err != nil {
		t.Fatal(err)
	}
	other := reseal(t, data, func(e *envelope) { e.PayloadType = kind + ".other" })
	if _, _, err := Open(other, kind+".other", []crypto.PublicKey{signer.Public()}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("error %v, want %v", err, ErrUntrusted)
	}
}

// The key id is a hint: an envelope without one is opened, one with a wrong one costs no check.
func TestKeyIDIsAHint(t *testing.T) {
	signer := signers(t)["p256"]
	data, err := Sign(kind, []byte(`{}`), signer)
	if err != nil {
		t.Fatal(err)
	}
	without := reseal(t, data, func(e *envelope) { e.Signatures[0].KeyID = "" })
	if _, _, err := Open(without, kind, []crypto.PublicKey{signer.Public()}); err != nil {
		t.Errorf("without a key id: %v", err)
	}
}

func TestSignRefusesUnknownKeys(t *testing.T) {
	if _, err := Sign(kind, nil, oddSigner{}); err == nil {
		t.Error("signed with a key of an unknown type")
	}
	if _, err := Sign(kind, make([]byte, maxEnvelope), signers(t)["ed25519"]); err == nil {
		t.Error("signed what nobody would open")
	}
}

type oddSigner struct{ crypto.Signer }

func (oddSigner) Public() crypto.PublicKey { return "odd" }

func TestDecode(t *testing.T) {
	type document struct {
		State string   `json:"state"`
		Kind  string   `json:"kind"`
		List  []string `json:"list"`
	}
	for _, row := range []struct {
		name, data string
		good       bool
	}{
		{"plain", `{"state":"a","kind":"b","list":["c"]}`, true},
		{"space around it", " {\"state\":\"a\"}\n", true},
		{"key twice", `{"state":"a","state":"b"}`, false},
		{"key twice in another case", `{"state":"a","STATE":"b"}`, false},
		{"key twice, once with a long s", "{\"state\":\"a\",\"\u017ftate\":\"b\"}", false},
		{"key twice, once with a Kelvin sign", "{\"kind\":\"a\",\"\u212aind\":\"b\"}", false},
		{"key twice, once escaped", `{"state":"a","\u0073tate":"b"}`, false},
		{"unknown field", `{"state":"a","more":1}`, false},
		{"data after it", `{"state":"a"} {}`, false},
		{"cut off", `{"state":"a"`, false},
		{"empty", ``, false},
		{"deeply nested", `{"list":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`, false},
		{"another type", `{"list":"c"}`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			var d document
			if err := Decode([]byte(row.data), &d); (err == nil) != row.good {
				t.Errorf("error %v, want good: %v", err, row.good)
			}
		})
	}
}

// FuzzOpen: whatever opens was signed, byte for byte.
func FuzzOpen(f *testing.F) {
	signer := signers(f)["ed25519"]
	data, err := Sign(kind, []byte(`{"a":1}`), signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"payloadType":"` + kind + `","payload":"e30=","signatures":[{"keyid":"","sig":"AA=="}]}`))
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, _, err := Open(data, kind, []crypto.PublicKey{signer.Public()})
		if err == nil && string(payload) != `{"a":1}` {
			t.Errorf("%q opened to %q, which nobody signed", data, payload)
		}
	})
}

// FuzzDecode: what is read and written again reads as the same, so that it said one thing.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"payloadType":"a","payload":"e30=","signatures":[{"keyid":"b","sig":"AA=="}]}`))
	f.Add([]byte("{\"payload\":\"\",\"\u017fignatures\":[],\"signatures\":null}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e envelope
		if Decode(data, &e) != nil {
			return
		}
		once, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again envelope
		if err := Decode(once, &again); err != nil {
			t.Fatalf("%s does not read again: %v", once, err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(once) {
			t.Errorf("%s and %s", once, twice)
		}
	})
}
