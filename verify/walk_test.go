package verify_test

import (
	"crypto"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// The steps of a rollover, as edits of the state before.

func switchTo(b *verify.Bundle) { b.Phase, b.Signer = verify.Switch, b.To }

func rollBack(b *verify.Bundle) {
	b.From, b.To = b.To, b.From
	switchTo(b)
}

func drop(b *verify.Bundle) {
	keep := slices.IndexFunc(b.Roots, func(r verify.Root) bool { return r.Generation == b.To })
	b.Retired = append(b.Retired, b.Roots[1-keep].Key)
	b.Roots, b.Phase = b.Roots[keep:keep+1], verify.Drop
	for i := range b.Control {
		b.Control[i].Documents = b.Control[i].Documents[keep : keep+1]
	}
}

func settle(b *verify.Bundle) { b.Phase, b.From, b.To = verify.Settled, 0, 0 }

// follow takes held along steps, each signed and each checked against the one before, as a member does at now.
func (w *world) follow(held *verify.Bundle, now time.Time, steps ...func(*verify.Bundle)) *verify.Bundle {
	w.t.Helper()
	for i, step := range steps {
		next, err := verify.Advance(held, w.signed(w.after(held, step), w.document), now)
		if err != nil {
			w.t.Fatalf("step %d: %v", i+1, err)
		}
		held = next
	}
	return held
}

// B30: a member that slept over two rollovers and longer than any root or bridge lives walks the chain of states from
// the one that it holds; a rollback lies on the way. What it ends with refuses both roots that were retired.
func TestSleeperWalks(t *testing.T) {
	w := newWorld(t, 4)
	slept := w.now.Add(20 * 365 * 24 * time.Hour)
	held := w.bundle(1)
	for generation := 2; generation <= 3; generation++ {
		held = w.follow(held, slept, w.trust(held, generation), switchTo, drop, settle)
	}
	held = w.follow(held, slept, w.trust(held, 4), switchTo, rollBack, drop, settle)
	if held.Signer != 3 || len(held.Roots) != 1 || len(held.Retired) != 3 {
		t.Fatalf("signer g%d, %d roots, %d retired", held.Signer, len(held.Roots), len(held.Retired))
	}
	v := w.verifier(held, nil)
	for generation, want := range map[int]verify.Reason{1: verify.RetiredIssuer, 2: verify.RetiredIssuer, 3: "accepted", 4: verify.RetiredIssuer} {
		leaf := w.issue(generation, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)
		if _, err := v.Peer([]*x509.Certificate{leaf}, verify.Client, anyone, w.now); reason(err) != want {
			t.Errorf("g%d: %v, want %s", generation, err, want)
		}
	}
}

// After a rollback the way forward begins at trust again.
func TestForwardAgain(t *testing.T) {
	w := newWorld(t, 2)
	held := w.bundle(1)
	w.follow(held, w.now, w.trust(held, 2), rollBack, func(b *verify.Bundle) {
		b.From, b.To = b.To, b.From
		b.Phase, b.Signer = verify.Trust, b.From
	}, switchTo, drop, settle)
}

// N4, I4: one stolen key is not enough, whichever it is, and what was final stays so. Each row is one step that the
// holder of the key named would like members to take.
func TestAdvanceAgainstThieves(t *testing.T) {
	w := newWorld(t, 3)
	settled := w.bundle(1)
	trusting := w.follow(settled, w.now, w.trust(settled, 2))
	during := w.follow(trusting, w.now, switchTo)
	third := w.bundle(3).Clone()
	third.Retired = nil // as if g2 had never been trusted
	third = w.parsed(third)
	thief := newWorld(t, 2) // roots of the thief's own, made to look like ours
	thief.id, thief.roots, thief.bridges, thief.keys = w.id, nil, nil, nil
	thief.addRoot(keystore.P256)
	thief.addRoot(keystore.P256)

	for _, row := range []struct {
		name string
		held *verify.Bundle
		edit func(*verify.Bundle)
		key  crypto.Signer
		want error
	}{
		{"root key alone", settled, func(*verify.Bundle) {}, w.keys[0], verify.ErrSigner},
		{"the document key of a member that only the new state names", settled, func(b *verify.Bundle) {
			b.Control = append(b.Control, verify.Controller{Member: w.member(fingerprint.Control, "ca-2"), Current: keyOf(t, w.keys[1]),
				Document: keyOf(t, w.keys[2]), Documents: [][]byte{w.documentCertificate(1, w.keys[2])}})
		}, w.keys[2], verify.ErrSigner},
		{"document key without a certificate of the root that signs", trusting, func(b *verify.Bundle) {
			switchTo(b)
			b.Control[0].Documents[1] = w.forgedDocument(trusting, thief, w.now)
		}, w.document, verify.ErrSigner},
		{"document key whose certificate has ended", settled, func(b *verify.Bundle) {
			b.Control[0].Documents[0] = w.forgedDocument(settled, w, w.now.Add(-time.Hour))
		}, w.document, verify.ErrSigner},
		{"document key and a date at which its certificate was good", settled, func(b *verify.Bundle) {
			b.Control[0].Documents[0] = w.forgedDocument(settled, w, w.now.Add(-time.Hour))
			b.Issued = w.now.Add(-2 * time.Hour)
		}, w.document, verify.ErrTakenBack},
		{"document key and a root of the thief's own, bridged by itself", settled, func(b *verify.Bundle) {
			w.trust(settled, 2)(b)
			b.Roots[1] = thief.root(2)
			b.Control[0].Documents[1] = thief.documentCertificate(2, w.document)
		}, w.document, verify.ErrUntrustedRoot},
		{"document key and the bridge of another root", settled, func(b *verify.Bundle) {
			w.trust(settled, 3)(b) // g3 was certified by g2, which is not trusted
			b.Control[0].Documents[1] = w.documentCertificate(3, w.document)
		}, w.document, verify.ErrUntrustedRoot},
		{"document key and a bridge in the name of the root that signs", settled, func(b *verify.Bundle) {
			w.trust(settled, 2)(b)
			b.Roots[1] = thief.root(2)
			b.Roots[1].Bridge = w.forgedBridge(thief.roots[1].Certificate(), w.roots[0].Certificate(), thief.keys[0])
			b.Control[0].Documents[1] = thief.documentCertificate(2, w.document)
		}, w.document, verify.ErrUntrustedRoot},
		{"a bridge in another name than the root's that signed it", settled, func(b *verify.Bundle) {
			w.trust(settled, 2)(b)
			b.Roots[1].Bridge = w.forgedBridge(w.roots[1].Certificate(), thief.roots[0].Certificate(), w.keys[0])
		}, w.document, verify.ErrUntrustedRoot},
		{"a number used before for a new root", third, func(b *verify.Bundle) {
			again := w.root(2)
			again.Bridge = w.forgedBridge(w.roots[1].Certificate(), w.roots[2].Certificate(), w.keys[2])
			b.Roots = []verify.Root{again, b.Roots[0]}
			b.Control[0].Documents = [][]byte{w.documentCertificate(2, w.document), b.Control[0].Documents[0]}
			b.Phase, b.From, b.To = verify.Trust, 3, 2
		}, w.document, verify.ErrUntrustedRoot},
		{"the trusted root issued again, for longer", settled, func(b *verify.Bundle) { b.Roots[0].Certificate = w.reissued(1, "") }, w.document, nil},
		{"the trusted root issued again, under another name", settled, func(b *verify.Bundle) { b.Roots[0].Certificate = w.reissued(1, "Other") }, w.document, verify.ErrUntrustedRoot},
		{"document key whose certificate has not begun", settled, func(b *verify.Bundle) {
			b.Issued = settled.Issued
			b.Control[0].Documents[0] = w.forgedDocument(settled, w, w.now.Add(-4*time.Hour))
		}, w.document, verify.ErrSigner},
		{"a trusted root under another number", settled, func(b *verify.Bundle) {
			b.Roots[0].Generation, b.Signer = 2, 2
		}, w.document, verify.ErrUntrustedRoot},
		{"back to settled without switch and drop", trusting, func(b *verify.Bundle) {
			drop(b)
			b.Signer = b.To
			settle(b)
		}, w.document, verify.ErrTakenBack},
		{"the signing root dropped in phase trust", trusting, func(b *verify.Bundle) {
			rollBack(b)
			drop(b)
		}, w.document, verify.ErrTakenBack},
		{"back to settled without drop", during, func(b *verify.Bundle) {
			drop(b)
			settle(b)
		}, w.document, verify.ErrTakenBack},
		{"trust again in the retired root", w.follow(during, w.now, drop), func(b *verify.Bundle) {
			b.Retired = nil
			b.Roots = during.Roots
			b.Control = during.Control
			b.Phase = verify.Switch
		}, w.document, verify.ErrUntrustedRoot},
		{"just within the skew", settled, func(b *verify.Bundle) { b.Issued = w.now.Add(verify.MaxSkew) }, w.document, nil},
		{"just beyond the skew", settled, func(b *verify.Bundle) { b.Issued = w.now.Add(verify.MaxSkew + time.Nanosecond) }, w.document, verify.ErrFromFuture},
	} {
		payload, err := w.after(row.held, row.edit).Encode()
		if err != nil {
			t.Fatal(err)
		}
		signed, err := verify.SignBundle(payload, row.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.Advance(row.held, signed, w.now); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
}

// forgedDocument is a certificate of the document key that looks like one of the last root that b trusts, but was signed
// by signer's root of that generation, and ends at end when that is past.
func (w *world) forgedDocument(b *verify.Bundle, signer *world, end time.Time) []byte {
	w.t.Helper()
	last := b.Roots[len(b.Roots)-1]
	template := w.template(w.document.Public())
	template.URIs, template.ExtKeyUsage = nil, nil
	template.UnknownExtKeyUsage = append(template.UnknownExtKeyUsage, ca.DocumentSigning)
	template.NotBefore = w.now.Add(-3 * time.Hour)
	switch {
	case end.Before(template.NotBefore): // not even begun
		template.NotBefore = w.now.Add(time.Minute)
	case end.Before(w.now):
		template.NotAfter = end
	}
	issuer, err := b.RootCertificate(last.Generation)
	if err != nil {
		w.t.Fatal(err)
	}
	dressed := *issuer
	dressed.PublicKey = signer.keys[last.Generation-1].Public()
	return sign(w.t, template, &dressed, signer.keys[last.Generation-1]).Raw
}

// forgedBridge certifies a root's key in the name of issuer, with whatever key signs.
func (w *world) forgedBridge(to, issuer *x509.Certificate, key crypto.Signer) []byte {
	w.t.Helper()
	template := w.template(to.PublicKey)
	template.RawSubject, template.SubjectKeyId = to.RawSubject, to.SubjectKeyId
	template.IsCA, template.KeyUsage, template.ExtKeyUsage, template.URIs = true, x509.KeyUsageCertSign, nil, nil
	dressed := *issuer
	dressed.PublicKey = key.Public()
	return sign(w.t, template, &dressed, key).Raw
}

// reissued is a generation's certificate made again with its own key.
func (w *world) reissued(generation int, name string) []byte {
	w.t.Helper()
	root, err := ca.CreateRoot(w.keys[generation-1], ca.RootRequest{Cluster: w.id, Generation: generation, Name: name, Lifetime: 6 * 365 * 24 * time.Hour, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	return root.Certificate().Raw
}

// B74: from switch on a registry counts only when its signer holds a certificate of the root that signs now, and one
// that is good now.
func TestRegistryFollowsTheSigningRoot(t *testing.T) {
	w := newWorld(t, 2)
	settled := w.bundle(1)
	during := w.follow(settled, w.now, w.trust(settled, 2), switchTo)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	doc := w.registryDocument(during, r, verify.Digest{}, w.now, w.document)
	thief := newWorld(t, 2)
	without := during.Clone()
	without.Control[0].Documents[1] = w.forgedDocument(during, thief, w.now)
	for _, row := range []struct {
		name string
		held *verify.Bundle
		now  time.Time
		want error
	}{
		{"good", during, w.now, nil},
		{"certified by the old root alone", w.parsed(without), w.now, verify.ErrSigner},
		{"certificate has ended", during, w.now.Add(3 * 365 * 24 * time.Hour), verify.ErrSigner},
	} {
		if _, err := verify.OpenRegistry(row.held, nil, doc, row.now); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	if _, err := verify.SignRegistry(during, r, verify.Digest{}, w.now, w.now, w.document); !errors.Is(err, verify.ErrRegistry) {
		t.Errorf("a registry that is fresh for no time was signed: %v", err)
	}
}

// A state has one payload, whatever the zone of the clock that it was made by, and one name before and after it is read.
func TestOneStateOnePayload(t *testing.T) {
	w := newWorld(t, 1)
	b := w.bundle(1)
	abroad := b.Clone()
	zone := time.FixedZone("elsewhere", 5*3600)
	abroad.Issued, abroad.FreshUntil = b.Issued.In(zone), b.FreshUntil.In(zone)
	if abroad.Digest() != b.Digest() || b.Digest() == (verify.Digest{}) {
		t.Errorf("%s and %s", abroad.Digest(), b.Digest())
	}
	edited := b.Clone()
	edited.Generations++
	if edited.Digest() == b.Digest() {
		t.Error("an edited copy kept the name of what it was copied from")
	}
}

// More states that cannot be: names and keys that stand twice, or have two uses.
func TestDoubtfulBundles(t *testing.T) {
	w := newWorld(t, 3)
	second := verify.Controller{Member: w.member(fingerprint.Control, "ca-2"), Current: keyOf(t, newKey(t, keystore.P256))}
	key := newKey(t, keystore.P256)
	second.Document, second.Documents = keyOf(t, key), [][]byte{w.documentCertificate(3, key)}
	waiver := verify.Waiver{Member: w.member(fingerprint.Node, "a"), Operator: "anna", Reason: "broken", Until: w.now.Add(time.Hour)}
	for name, edit := range map[string]func(*verify.Bundle){
		"good": func(b *verify.Bundle) {
			b.Control, b.Waivers, b.Debts = append(b.Control, second), []verify.Waiver{waiver}, []fingerprint.Identity{waiver.Member}
		},
		"a retired key twice":     func(b *verify.Bundle) { b.Retired = append(b.Retired, b.Retired[0]) },
		"nobody's key is retired": func(b *verify.Bundle) { b.Retired = append(b.Retired, fingerprint.Key{}) },
		"a control member twice":  func(b *verify.Bundle) { b.Control = append(b.Control, second, second) },
		"without a served key":    func(b *verify.Bundle) { b.Control[0].Current = fingerprint.Key{} },
		"serves the root's key":   func(b *verify.Bundle) { b.Control[0].Current = b.Roots[0].Key },
		"serves a retired key":    func(b *verify.Bundle) { b.Control[0].Next = b.Retired[0] },
		"two members, one key": func(b *verify.Bundle) {
			b.Control = append(b.Control, second)
			b.Control[1].Next = b.Control[0].Current
		},
		"next is current": func(b *verify.Bundle) { b.Control[0].Next = b.Control[0].Current },
		"too many documents": func(b *verify.Bundle) {
			b.Control[0].Documents = append(b.Control[0].Documents, b.Control[0].Documents[0])
		},
		"document of another root": func(b *verify.Bundle) { b.Control[0].Documents[0] = w.documentCertificate(2, w.document) },
		"a leaf as a document's": func(b *verify.Bundle) {
			b.Control[0].Documents[0] = w.issue(3, w.member(fingerprint.Node, "a"), w.document, w.now).Raw
		},
		"a bridge for another root": func(b *verify.Bundle) { b.Roots[0].Bridge = w.bridges[0].Raw },
		"a leaf as a bridge":        func(b *verify.Bundle) { b.Roots[0].Bridge = b.Roots[0].Canary },
		"a bridge as the root":      func(b *verify.Bundle) { b.Roots[0].Certificate = b.Roots[0].Bridge },
		"the root's key without a CA": func(b *verify.Bundle) {
			template := w.template(w.keys[2].Public())
			template.URIs[0] = uri(t, w.id.URI())
			template.SubjectKeyId = w.roots[2].Certificate().SubjectKeyId
			template.Subject = w.roots[2].Certificate().Subject
			b.Roots[0].Certificate = sign(t, template, w.roots[2].Certificate(), w.keys[2]).Raw
			b.Roots[0].Bridge = nil
		},
		"a waiver twice":          func(b *verify.Bundle) { b.Waivers = []verify.Waiver{waiver, waiver} },
		"a waiver without an end": func(b *verify.Bundle) { b.Waivers = []verify.Waiver{{Member: waiver.Member}} },
		"a debt twice":            func(b *verify.Bundle) { b.Debts = []fingerprint.Identity{waiver.Member, waiver.Member} },
		"a debt of nobody":        func(b *verify.Bundle) { b.Debts = []fingerprint.Identity{{}} },
		"pending is what is there": func(b *verify.Bundle) {
			b.Pending = &verify.Intent{Generation: 3, Algorithm: keystore.P256, Label: "root-3"}
		},
		"dropped for nothing": func(b *verify.Bundle) { b.Phase, b.From, b.To = verify.Drop, 9, 3 },
	} {
		b := w.bundle(3).Clone()
		edit(b)
		payload, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.ParseBundle(payload); (err == nil) != (name == "good") || err != nil && !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The nearest trusted root counts, as in a verifier: in phase switch a leaf of the new root is presented with its
// bridge, and is still the new root's.
func TestIssuerOf(t *testing.T) {
	w := newWorld(t, 3)
	leaf := w.issue(2, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now).Raw
	bridge := w.bridges[0].Raw
	for _, row := range []struct {
		name  string
		state *verify.Bundle
		chain [][]byte
		want  fingerprint.Key
	}{
		{"its root", w.bundle(2), [][]byte{leaf}, w.roots[1].Key()},
		{"its root, with the bridge, while both are trusted", w.bundle(1, 2), [][]byte{leaf, bridge}, w.roots[1].Key()},
		{"over the bridge", w.bundle(1), [][]byte{leaf, bridge}, w.roots[0].Key()},
		{"no bridge", w.bundle(1), [][]byte{leaf}, fingerprint.Key{}},
		{"a bridge that leads elsewhere", w.bundle(1), [][]byte{leaf, w.bridges[1].Raw}, fingerprint.Key{}},
		{"retired", w.bundle(3), [][]byte{leaf, bridge}, fingerprint.Key{}},
		{"a bridge that did not sign the leaf", w.bundle(1), [][]byte{w.issue(3, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now).Raw, bridge}, fingerprint.Key{}},
		{"nothing", w.bundle(1), nil, fingerprint.Key{}},
		{"no certificate", w.bundle(1), [][]byte{{1, 2, 3}}, fingerprint.Key{}},
	} {
		got, err := row.state.IssuerOf(row.chain)
		if got != row.want || (err == nil) == row.want.IsZero() {
			t.Errorf("%s: %s, %v, want %s", row.name, got.Short(), err, row.want.Short())
		}
	}
}

// A verifier does not grow without bound, and forgets one at a time.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	v.Fill(verify.MaxRemembered + 100)
	if n := v.Remembered(); n != verify.MaxRemembered {
		t.Errorf("remembers %d, want %d", n, verify.MaxRemembered)
	}
}

// Peers are judged before they have shown that they hold the leaf's key, so what anybody can present is not kept:
// somebody's leaf with junk behind it is accepted, since the leaf is good, and forgotten.
func TestJunkIsNotRemembered(t *testing.T) {
	w := newWorld(t, 2)
	v := w.verifier(w.bundle(1), nil)
	id := w.member(fingerprint.Node, "a")
	leaf := w.issue(1, id, newKey(t, keystore.P256), w.now)
	for _, row := range []struct {
		chain []*x509.Certificate
		want  int
	}{
		{[]*x509.Certificate{leaf, w.issue(1, w.member(fingerprint.Node, "b"), newKey(t, keystore.P256), w.now)}, 0},
		{[]*x509.Certificate{leaf, w.roots[1].Certificate()}, 0},
		{[]*x509.Certificate{leaf}, 1},
		{[]*x509.Certificate{w.issue(2, id, newKey(t, keystore.P256), w.now), w.bridges[0]}, 2},
	} {
		if _, err := v.Peer(row.chain, verify.Client, verify.Member(id), w.now); err != nil {
			t.Fatal(err)
		}
		if n := v.Remembered(); n != row.want {
			t.Errorf("%d certificates: remembers %d, want %d", len(row.chain), n, row.want)
		}
	}
}

// DESIGN §9: a peer that was seen before is authorised without an allocation, with a bridge beside its leaf too.
func TestSeenPeerAllocatesNothing(t *testing.T) {
	w := newWorld(t, 2)
	v := w.verifier(w.bundle(1), nil)
	id := w.member(fingerprint.Node, "a")
	chain := []*x509.Certificate{w.issue(2, id, newKey(t, keystore.P256), w.now), w.bridges[0]}
	expect := verify.Member(id)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Peer(chain, verify.Client, expect, w.now); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A verifier is not made of a state that cannot be judged by.
func TestNewVerifierRefuses(t *testing.T) {
	w := newWorld(t, 2)
	for name, edit := range map[string]func(*verify.Bundle){
		"root that is retired":     func(b *verify.Bundle) { b.Retired = []fingerprint.Key{b.Roots[0].Key} },
		"root under another's key": func(b *verify.Bundle) { b.Roots[0].Key = w.roots[1].Key() },
		"root that does not parse": func(b *verify.Bundle) { b.Roots[0].Certificate = []byte{1} },
		"state without a payload":  func(b *verify.Bundle) { b.Debts = []fingerprint.Identity{{Domain: "!"}} },
	} {
		b := w.bundle(1).Clone()
		edit(b)
		if _, err := verify.NewVerifier(b, nil); !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// No decision rests on the hash by which accepted peers are found.
func TestMemoryComparesBytes(t *testing.T) {
	w := newWorld(t, 3)
	v := w.verifier(w.bundle(1), nil)
	leaf := w.issue(2, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)
	good := []*x509.Certificate{leaf, w.bridges[0]}
	if _, err := v.Peer(good, verify.Client, anyone, w.now); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]*x509.Certificate{{leaf}, {leaf, w.bridges[1]}, {w.issue(2, w.member(fingerprint.Node, "b"), newKey(t, keystore.P256), w.now)}} {
		v.Collide(good, bad)
		if _, err := v.Peer(bad, verify.Client, anyone, w.now); reason(err) != verify.UnknownIssuer {
			t.Errorf("%d certificates: %v", len(bad), err)
		}
	}
}
