package verify_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// after makes the state after held; change makes it what it is.
func (w *world) after(held *verify.Bundle, change func(*verify.Bundle)) *verify.Bundle {
	next := held.Clone()
	next.Version, next.Previous = held.Version.Next(), held.Digest()
	change(next)
	return next
}

func (w *world) signed(b *verify.Bundle, key keystore.Signer) []byte {
	w.t.Helper()
	payload, err := b.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := verify.SignBundle(payload, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// trust is the state in which a further root is trusted.
func (w *world) trust(held *verify.Bundle, generation int) func(*verify.Bundle) {
	return func(b *verify.Bundle) {
		b.Phase, b.From, b.To = verify.Trust, held.Signer, generation
		b.Generations = max(b.Generations, generation)
		b.Roots = append(b.Roots, w.root(generation))
		b.Control[0].Documents = append(b.Control[0].Documents, w.documentCertificate(generation, w.document))
	}
}

// B25, B56, and N1, N4 of the rollover: what a member that holds a state follows, and what it does not.
func TestAdvance(t *testing.T) {
	w := newWorld(t, 2)
	held := w.bundle(1)
	stranger := newKey(t, keystore.P256)
	evil := newWorld(t, 2)
	evil.id = w.id
	evil.roots, evil.bridges = nil, nil
	evil.addRoot(keystore.P256)
	evil.addRoot(keystore.P256)

	trusting := w.parsed(w.after(held, w.trust(held, 2)))
	switched := w.parsed(w.after(trusting, func(b *verify.Bundle) { b.Phase, b.Signer = verify.Switch, 2 }))
	for _, test := range []struct {
		name string
		held *verify.Bundle
		next *verify.Bundle
		key  keystore.Signer
		want error
	}{
		{"nothing but a new number", held, w.after(held, func(*verify.Bundle) {}), w.document, nil},
		{"a further root with its bridge", held, trusting, w.document, nil},
		{"the new root signs", trusting, w.after(trusting, func(b *verify.Bundle) { b.Phase, b.Signer = verify.Switch, 2 }), w.document, nil},
		{"the old root is dropped", switched, w.after(switched, func(b *verify.Bundle) {
			b.Phase, b.Roots, b.Retired = verify.Drop, b.Roots[1:], append(b.Retired, b.Roots[0].Key)
			b.Control[0].Documents = b.Control[0].Documents[1:]
		}), w.document, nil},

		{"the same state", held, held, w.document, verify.ErrNotNext},
		{"a number left out", held, w.after(held, func(b *verify.Bundle) { b.Version = b.Version.Next() }), w.document, verify.ErrNotNext},
		{"another predecessor", held, w.after(held, func(b *verify.Bundle) { b.Previous = verify.Digest{1} }), w.document, verify.ErrNotNext},
		{"a member's key signed", held, w.after(held, func(*verify.Bundle) {}), w.control, verify.ErrSigner},
		{"a stranger signed", held, w.after(held, func(*verify.Bundle) {}), stranger, verify.ErrSigner},
		{"issued in the future", held, w.after(held, func(b *verify.Bundle) {
			b.Issued = b.Issued.Add(time.Hour)
			b.FreshUntil = b.FreshUntil.Add(time.Hour)
		}), w.document, verify.ErrFromFuture},
		{"a thief of the document key adds a root of his own", held, w.after(held, func(b *verify.Bundle) {
			w.trust(held, 2)(b)
			b.Roots[1] = evil.root(2)
			b.Control[0].Documents[1] = evil.documentCertificate(2, w.document)
		}), w.document, verify.ErrUntrustedRoot},
		{"a root without its bridge", held, w.after(held, func(b *verify.Bundle) {
			w.trust(held, 2)(b)
			b.Roots[1].Bridge = nil
		}), w.document, verify.ErrUntrustedRoot},
		{"a root signs before it was trusted", held, w.after(held, func(b *verify.Bundle) {
			w.trust(held, 2)(b)
			b.Phase, b.Signer = verify.Switch, 2
		}), w.document, verify.ErrUntrustedRoot},
		{"dropped before the new root signed", trusting, w.after(trusting, func(b *verify.Bundle) {
			b.Phase, b.Signer, b.Roots, b.Retired = verify.Drop, 2, b.Roots[1:], append(b.Retired, b.Roots[0].Key)
			b.Control[0].Documents = b.Control[0].Documents[1:]
		}), w.document, verify.ErrTakenBack},
		{"a root dropped but not retired", switched, w.after(switched, func(b *verify.Bundle) {
			b.Phase, b.Roots = verify.Drop, b.Roots[1:]
			b.Control[0].Documents = b.Control[0].Documents[1:]
		}), w.document, verify.ErrTakenBack},
	} {
		next, err := verify.Advance(test.held, w.signed(test.next, test.key), w.now)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if err == nil && next.Digest() != test.next.Digest() {
			t.Errorf("%s: another state came out", test.name)
		}
	}

	later := w.bundle(2)
	for name, change := range map[string]func(*verify.Bundle){
		"a retired key forgotten":   func(b *verify.Bundle) { b.Retired = nil },
		"generations counted again": func(b *verify.Bundle) { b.Generations-- },
	} {
		later := later.Clone()
		later.Generations = 3
		later = w.parsed(later)
		if _, err := verify.Advance(later, w.signed(w.after(later, change), w.document), w.now); !errors.Is(err, verify.ErrTakenBack) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := newWorld(t, 1)
	foreign := other.bundle(1)
	if _, err := verify.Advance(held, other.signed(foreign, other.document), w.now); !errors.Is(err, verify.ErrSigner) {
		t.Errorf("a state of another cluster: %v", err)
	}
}

// States that cannot be are refused, whoever signed them.
func TestMalformedBundles(t *testing.T) {
	w := newWorld(t, 2)
	good := w.bundle(1)
	for name, change := range map[string]func(*verify.Bundle){
		"no cluster":                  func(b *verify.Bundle) { b.Cluster.UUID = "" },
		"no number":                   func(b *verify.Bundle) { b.Version = fingerprint.Version{} },
		"no root":                     func(b *verify.Bundle) { b.Roots = nil },
		"two roots while settled":     func(b *verify.Bundle) { b.Roots = append(b.Roots, w.root(2)) },
		"a root twice":                func(b *verify.Bundle) { b.Roots = append(b.Roots, b.Roots[0]) },
		"signer is not trusted":       func(b *verify.Bundle) { b.Signer = 2 },
		"key of another root":         func(b *verify.Bundle) { b.Roots[0].Key = w.roots[1].Key() },
		"root is a leaf":              func(b *verify.Bundle) { b.Roots[0].Certificate = b.Roots[0].Canary },
		"root is retired":             func(b *verify.Bundle) { b.Retired = append(b.Retired, b.Roots[0].Key) },
		"root of another cluster":     func(b *verify.Bundle) { b.Roots[0] = newWorld(t, 1).root(1) },
		"above the generations begun": func(b *verify.Bundle) { b.Generations = 0 },
		"no phase":                    func(b *verify.Bundle) { b.Phase = "" },
		"trust without ends":          func(b *verify.Bundle) { b.Phase = verify.Trust },
		"settled with ends":           func(b *verify.Bundle) { b.From, b.To = 1, 2 },
		"nobody in control":           func(b *verify.Bundle) { b.Control = nil },
		"a node in control":           func(b *verify.Bundle) { b.Control[0].Member.Role = fingerprint.Node },
		"control without documents":   func(b *verify.Bundle) { b.Control[0].Documents = nil },
		"documents of another key":    func(b *verify.Bundle) { b.Control[0].Document = b.Control[0].Current },
		"no rule":                     func(b *verify.Bundle) { b.Rules.Node = "" },
		"never fresh":                 func(b *verify.Bundle) { b.FreshUntil = b.Issued },
		"pending without a label":     func(b *verify.Bundle) { b.Pending = &verify.Intent{Generation: 2} },
	} {
		bad := good.Clone()
		change(bad)
		payload, err := bad.Encode()
		if err != nil {
			continue // it cannot even be written
		}
		if _, err := verify.ParseBundle(payload); !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
	payload, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"a space more":    append([]byte{' '}, payload...),
		"data after it":   append(bytes.Clone(payload), '1'),
		"a field more":    bytes.Replace(payload, []byte(`{"cluster"`), []byte(`{"extra":1,"cluster"`), 1),
		"a field twice":   bytes.Replace(payload, []byte(`{"cluster"`), []byte(`{"signer":2,"cluster"`), 1),
		"in another case": bytes.Replace(payload, []byte(`"signer"`), []byte(`"Signer"`), 1),
		"too large":       make([]byte, 1<<20),
	} {
		if _, err := verify.ParseBundle(bad); !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// A68, B74: a registry is believed when a document key of the held state signed its digest and its lines fit.
func TestRegistry(t *testing.T) {
	w := newWorld(t, 2)
	held := w.bundle(1)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 7}, []fingerprint.Entry{
		{Member: w.member(fingerprint.Node, "a"), Current: keyOf(t, newKey(t, keystore.P256)), Revoked: true}})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(b *verify.Bundle, key keystore.Signer, issued time.Time) []byte {
		return w.registryDocument(b, r, verify.Digest{}, issued, key)
	}
	good := sign(held, w.document, w.now)
	back, err := verify.OpenRegistry(held, nil, good, w.now)
	if err != nil || back.Registry.Version() != r.Version() || back.Registry.Digest() != r.Digest() {
		t.Fatalf("%v", err)
	}
	for _, test := range []struct {
		name string
		held *verify.Bundle
		doc  []byte
		want error
	}{
		{"a stranger signed", held, sign(held, newKey(t, keystore.P256), w.now), verify.ErrSigner},
		{"lines changed", held, bytes.Replace(good, []byte(" - r"), []byte(" - -"), 1), verify.ErrRegistry},
		{"another cluster's", held, sign(newWorld(t, 1).bundle(1), w.document, w.now), verify.ErrRegistry},
		{"issued in the future", held, sign(held, w.document, w.now.Add(time.Hour)), verify.ErrFromFuture},
		{"not JSON", held, []byte("x"), verify.ErrRegistry},
	} {
		if _, err := verify.OpenRegistry(test.held, nil, test.doc, w.now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// B25: a report counts only as what the key that is served has signed.
func TestReport(t *testing.T) {
	w := newWorld(t, 1)
	key := newKey(t, keystore.Ed25519)
	r := &verify.Report{Cluster: w.id, Member: w.member(fingerprint.Node, "a"), Boot: 1, Count: 2, State: fingerprint.Version{Term: 1, Number: 3}, Key: keyOf(t, key)}
	signed, err := verify.SignReport(r, key)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := verify.OpenReport(signed, key.Public()); err != nil || back.State != r.State || back.Member != r.Member {
		t.Errorf("%v", err)
	}
	abroad := *r
	abroad.Member.Domain = "other.example"
	foreign, err := verify.SignReport(&abroad, key)
	if err != nil {
		t.Fatal(err)
	}
	state := w.bundle(1)
	for name, test := range map[string]struct {
		signed []byte
		key    keystore.Signer
	}{
		"another key":            {signed, newKey(t, keystore.Ed25519)},
		"of no member":           {foreign, key},
		"a state, not a report":  {w.signed(state, w.document), w.document},
		"one bit off":            {bytes.Replace(signed, []byte(`"sig":"`), []byte(`"sig":"A`), 1), key},
		"larger than any report": {make([]byte, 1<<20), key},
	} {
		if _, err := verify.OpenReport(test.signed, test.key.Public()); !errors.Is(err, verify.ErrReport) {
			t.Errorf("%s: %v, want ErrReport", name, err)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	w := newWorld(f, 2)
	for _, b := range []*verify.Bundle{w.bundle(1), w.bundle(1, 2)} {
		payload, err := b.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		b, err := verify.ParseBundle(payload)
		if err != nil {
			return
		}
		if again, err := b.Encode(); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%s is written %s", payload, again)
		}
	})
}

func FuzzOpenRegistry(f *testing.F) {
	w := newWorld(f, 1)
	held := w.bundle(1)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(w.registryDocument(held, r, verify.Digest{}, w.now, w.document))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got, err := verify.OpenRegistry(held, nil, doc, w.now); err == nil && got.Registry.Digest() != r.Digest() {
			t.Error("a registry that nobody signed was opened")
		}
	})
}

func FuzzOpenReport(f *testing.F) {
	w := newWorld(f, 1)
	key := newKey(f, keystore.P256)
	signed, err := verify.SignReport(&verify.Report{Cluster: w.id, Member: w.member(fingerprint.Node, "a")}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if r, err := verify.OpenReport(doc, key.Public()); err == nil && r.Member.ID != "a" {
			t.Error("a report that nobody signed was opened")
		}
	})
}
