package verify_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// chain makes n registries, each after the one before, that differ by one member each, with the heads that say so.
func (w *world) chain(b *verify.Bundle, n int) []*verify.SignedRegistry {
	w.t.Helper()
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var list []*verify.SignedRegistry
	for i := range n {
		previous := verify.Digest(r.Digest())
		if r, err = r.Add(fingerprint.Entry{Member: w.member(fingerprint.Node, fmt.Sprint("n", i)), Current: fingerprint.OfKey(fmt.Append(nil, i))}); err != nil {
			w.t.Fatal(err)
		}
		s, err := verify.SignRegistry(b, r, previous, w.now, w.now.Add(time.Hour), w.document)
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func document(t testing.TB, s *verify.SignedRegistry, since *fingerprint.Registry) []byte {
	t.Helper()
	doc, err := s.Document(since)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// B74, A68: a member follows by differences, never goes back, and notices when it is told two things.
func TestRegistryDifferences(t *testing.T) {
	w := newWorld(t, 1)
	held := w.bundle(1)
	list := w.chain(held, 6)
	first, third, last := list[0], list[2], list[5]
	have, err := verify.OpenRegistry(held, nil, document(t, first, nil), w.now)
	if err != nil {
		t.Fatal(err)
	}
	step, err := verify.OpenRegistry(held, have, document(t, third, first.Registry), w.now)
	if err != nil || step.Registry.Digest() != third.Registry.Digest() || step.Registry.Version() != third.Registry.Version() {
		t.Fatalf("%v", err)
	}
	if doc := document(t, last, third.Registry); bytes.Contains(doc, []byte("node/n0 ")) || !bytes.Contains(doc, []byte("+spiffe://prod.example/node/n5 ")) {
		t.Errorf("the difference has what did not change, or lacks what did: %s", doc)
	}
	if doc := document(t, first, last.Registry); bytes.Contains(doc, []byte("difference")) {
		t.Errorf("a difference is sent that is longer than the registry: %s", doc)
	}
	sign := func(r *fingerprint.Registry, previous verify.Digest, issued time.Time) []byte {
		return w.registryDocument(held, r, previous, issued, w.document)
	}
	other := func(v fingerprint.Version) *fingerprint.Registry {
		r, err := fingerprint.NewRegistry(v, []fingerprint.Entry{{Member: w.member(fingerprint.Node, "evil"), Current: fingerprint.Key{1}}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	v := third.Registry.Version()
	for _, test := range []struct {
		name string
		have *verify.SignedRegistry
		doc  []byte
		want error
	}{
		{"the next one", step, document(t, list[3], third.Registry), nil},
		{"the next one, whole", step, document(t, list[3], nil), nil},
		{"a later one", step, document(t, last, third.Registry), nil},
		{"the same one", step, document(t, third, nil), nil},
		{"the same one, signed later", step, sign(third.Registry, verify.Digest{1}, w.now.Add(time.Minute)), nil},
		{"another term", step, sign(other(fingerprint.Version{Term: 2, Number: 1}), verify.Digest{1}, w.now), nil},
		{"an older one", step, document(t, list[1], nil), verify.ErrTakenBack},
		{"an older one as a difference", step, document(t, list[1], first.Registry), verify.ErrTakenBack},
		{"another of this number", step, sign(other(v), verify.Digest(list[1].Registry.Digest()), w.now), verify.ErrEquivocation},
		{"one after another of this number", step, sign(other(v.Next()), verify.Digest{1}, w.now), verify.ErrEquivocation},
		{"one after none", step, sign(other(v.Next()), verify.Digest{}, w.now), verify.ErrEquivocation},
		{"a difference from another one", step, document(t, last, list[3].Registry), fingerprint.ErrDifference},
		{"a difference for who has nothing", nil, document(t, last, third.Registry), fingerprint.ErrDifference},
		{"the lines of another", step, append(bytes.Clone(last.Head), document(t, list[3], nil)[len(list[3].Head):]...), verify.ErrRegistry},
		{"a difference with a line more", step, append(document(t, last, third.Registry), "+"+w.member(fingerprint.Node, "z").String()+" "+fingerprint.Key{1}.String()+" - -\n"...), fingerprint.ErrDifference},
		{"a head alone", step, last.Head, verify.ErrRegistry},
		{"no text", step, append(bytes.Clone(last.Head), '\n'), verify.ErrRegistry},
	} {
		got, err := verify.OpenRegistry(held, test.have, test.doc, w.now)
		if !errors.Is(err, test.want) || (got == nil) != (err != nil) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	kept, err := verify.PeekRegistry(document(t, step, nil))
	if err != nil || kept.Registry.Digest() != step.Registry.Digest() || !bytes.Equal(kept.Head, step.Head) || !kept.FreshUntil.Equal(step.FreshUntil) {
		t.Errorf("from disk: %v", err)
	}
	if _, err := verify.PeekRegistry(document(t, last, third.Registry)); !errors.Is(err, verify.ErrRegistry) {
		t.Errorf("a difference from disk: %v", err)
	}
}

// DESIGN §5: whoever gives one number to two states, or signs a branch, is found out; the same state again is no news.
func TestBundleEquivocation(t *testing.T) {
	w := newWorld(t, 1)
	held := w.bundle(1)
	next := w.after(held, func(*verify.Bundle) {})
	twin := w.after(held, func(b *verify.Bundle) { b.Rules.User = fingerprint.Listed })
	branch := w.after(twin, func(*verify.Bundle) {})
	for name, test := range map[string]struct {
		held, doc *verify.Bundle
		want      bool
	}{
		"another of this number": {next, twin, true},
		"after another":          {next, branch, true},
		"the same":               {next, next, false},
		"older":                  {next, held, false},
	} {
		_, err := verify.Advance(test.held, w.signed(test.doc, w.document), w.now)
		if errors.Is(err, verify.ErrEquivocation) != test.want || !errors.Is(err, verify.ErrNotNext) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := verify.Advance(next, w.signed(twin, w.keys[0]), w.now); errors.Is(err, verify.ErrEquivocation) {
		t.Error("a stranger can accuse somebody")
	}
}

// DESIGN §5: a document counts when one of those who signed it may, whoever else did; the only document signer can be
// replaced by a state that it signs itself, after which its own signature counts no more.
func TestDocumentSigners(t *testing.T) {
	w := newWorld(t, 2)
	settled := w.bundle(1)
	young, stranger, foreign := newKey(t, keystore.P256), newKey(t, keystore.Ed25519), newWorld(t, 1)
	forger := *w
	forger.document = young
	to := func(key crypto.Signer, certificate []byte) func(*verify.Bundle) {
		return func(b *verify.Bundle) {
			b.Control[0].Document, b.Control[0].Documents = keyOf(t, key), [][]byte{certificate}
		}
	}
	replaced := w.after(settled, to(young, w.documentCertificate(1, young)))
	second := func(b *verify.Bundle) {
		id := w.member(fingerprint.Control, "ca-2")
		leaf, err := w.roots[0].IssueDocumentSigner(ca.DocumentRequest{Cluster: w.id, Member: id, PublicKey: young.Public(), Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		b.Control = append(b.Control, verify.Controller{Member: id, Current: keyOf(t, w.keys[1]), Document: keyOf(t, young), Documents: [][]byte{leaf.Certificate.Raw}})
	}
	two := w.after(settled, second)
	ended := w.after(two, func(b *verify.Bundle) { b.Control[0].Documents[0] = w.forgedDocument(two, w, w.now.Add(-time.Hour)) })
	for _, test := range []struct {
		name       string
		held, next *verify.Bundle
		keys       []crypto.Signer
		want       error
	}{
		{"replaced by its own signature", settled, replaced, []crypto.Signer{w.document}, nil},
		{"replaced by the new one's", settled, replaced, []crypto.Signer{young}, verify.ErrSigner},
		{"replaced by both", settled, replaced, []crypto.Signer{young, w.document}, nil},
		{"the old one after that", replaced, w.after(replaced, func(*verify.Bundle) {}), []crypto.Signer{w.document}, verify.ErrSigner},
		{"the new one after that", replaced, w.after(replaced, func(*verify.Bundle) {}), []crypto.Signer{young}, nil},
		{"both and a stranger after that", replaced, w.after(replaced, func(*verify.Bundle) {}), []crypto.Signer{stranger, w.document, young}, nil},
		{"a new key that another cluster's root certified", settled, w.after(settled, to(young, forger.forgedDocument(settled, foreign, w.now))), []crypto.Signer{w.document}, verify.ErrSigner},
		{"a second one is named", settled, two, []crypto.Signer{w.document}, nil},
		{"the one whose certificate has ended", two, ended, []crypto.Signer{w.document}, verify.ErrSigner},
		{"with one whose certificate has not", two, ended, []crypto.Signer{w.document, young}, nil},
	} {
		payload, err := test.next.Encode()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := verify.SignBundle(payload, test.keys...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.Advance(test.held, signed, w.now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// DESIGN §5: a clock that is set back does not let a document signer sign whose certificate has ended, and a document from
// further ahead than clocks may differ is refused, not obeyed.
func TestFreshness(t *testing.T) {
	w := newWorld(t, 1)
	settled := w.bundle(1)
	end := w.now.Add(-time.Hour)
	ended := settled.Clone()
	ended.Control[0].Documents[0] = w.forgedDocument(settled, w, end)
	ended.Issued = end.Add(-30 * time.Minute)
	held := w.parsed(ended)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	back := end.Add(-10 * time.Minute) // what the clock says after it was set back
	doc := w.registryDocument(held, r, verify.Digest{}, back, w.document)
	have, err := verify.OpenRegistry(held, nil, doc, back)
	if err != nil {
		t.Fatal(err)
	}
	later := *have
	later.Issued = end.Add(time.Minute)
	if _, err := verify.OpenRegistry(held, &later, doc, back); !errors.Is(err, verify.ErrSigner) {
		t.Errorf("by a clock that was set back: %v", err)
	}
	if have.Stale(have.FreshUntil) || !have.Stale(have.FreshUntil.Add(1)) {
		t.Error("it is not stale after fresh-until, or before")
	}
	for ahead, want := range map[time.Duration]error{verify.MaxSkew: nil, verify.MaxSkew + time.Second: verify.ErrFromFuture} {
		future := w.registryDocument(settled, r, verify.Digest{}, w.now.Add(ahead), w.document)
		if _, err := verify.OpenRegistry(settled, nil, future, w.now); !errors.Is(err, want) {
			t.Errorf("%s ahead: %v, want %v", ahead, err, want)
		}
	}
}

// FuzzRegistryDifference: whatever bytes come after a good head, what is opened is what was signed.
func FuzzRegistryDifference(f *testing.F) {
	w := newWorld(f, 1)
	held := w.bundle(1)
	list := w.chain(held, 4)
	have, last := list[1], list[3]
	f.Add(document(f, last, have.Registry)[len(last.Head)+1:])
	f.Add(document(f, last, nil)[len(last.Head)+1:])
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := verify.OpenRegistry(held, have, append(append(bytes.Clone(last.Head), '\n'), text...), w.now)
		if err == nil && got.Registry.Digest() != last.Registry.Digest() {
			t.Errorf("%q was opened", text)
		}
	})
}
