package rotation

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// history is a rollover told step by step: members by letter, roots by number.
type history struct {
	t       *testing.T
	state   *verify.Bundle
	members []Member
	now     time.Time
}

func newHistory(t *testing.T, names string) *history {
	h := &history{t: t, now: epoch}
	h.state = stamp(&verify.Bundle{
		Phase: verify.Settled, Signer: 1, Generations: 1, Roots: []verify.Root{{Generation: 1, Key: rootKey(1)}},
		Rules: verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
	}, nil, epoch)
	for i := range names {
		h.members = append(h.members, Member{Identity: identities[names[i]-'a'], Current: fingerprint.Key{9, names[i]}})
		h.report(names[i], 1)
	}
	return h
}

func (h *history) view() View {
	return View{State: h.state, Digest: h.state.Digest(), Members: h.members}
}

// report records what a member says of itself: it holds the state in force and serves a leaf of the root.
func (h *history) report(name byte, leaf int, edit ...func(*verify.Report)) {
	h.t.Helper()
	i := slices.IndexFunc(h.members, func(m Member) bool { return m.Identity == identities[name-'a'] })
	r := verify.Report{Member: identities[name-'a'], Serving: true, State: h.state.Version, Digest: h.state.Digest(), Issuer: rootKey(leaf), Algorithms: known, Count: 1}
	if old := h.members[i].Report; old != nil {
		r.Count = old.Count + 1
	}
	for _, root := range h.state.Roots {
		r.Proven = append(r.Proven, root.Key)
	}
	for _, e := range edit {
		e(&r)
	}
	m, err := observe(h.members[i], &r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.members[i] = m
}

// take commits what the machine allows; it fails when somebody blocks.
func (h *history) take(want verify.Phase) {
	h.t.Helper()
	d := Next(h.view(), h.now)
	next := d.Commit
	if d.Make != nil {
		var err error
		if next, err = prepared(h.state, verify.Root{Generation: d.Make.Generation, Key: rootKey(d.Make.Generation)}, nil); err != nil {
			h.t.Fatal(err)
		}
	}
	if next == nil {
		h.t.Fatalf("%s: nothing may be done: %+v", want, d.Blockers)
	}
	h.state = stamp(next, h.state, h.now)
	if h.state.Phase != want {
		h.t.Fatalf("phase %s, want %s", h.state.Phase, want)
	}
}

// blocked says who blocks and with which code, as "a:behind".
func (h *history) blocked(want ...string) {
	h.t.Helper()
	var got []string
	for _, b := range Next(h.view(), h.now).Blockers {
		got = append(got, b.Member.ID+":"+string(b.Code))
		if !strings.HasPrefix(b.Reason, b.Member.ID+" ") || b.Remedy == "" {
			h.t.Errorf("blocker %+v names nobody or says nothing to do", b)
		}
	}
	if !slices.Equal(got, want) {
		h.t.Fatalf("blocked by %v, want %v", got, want)
	}
}

func (h *history) change(next *verify.Bundle, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	h.state = stamp(next, h.state, h.now)
}

// A7, B24, B28, B38: each step of a rollover, and what keeps it waiting: the old root goes when nobody that counts serves a
// leaf of it.
func TestHistory(t *testing.T) {
	h := newHistory(t, "ab")
	h.change(requested(h.state, keystore.Ed25519))
	h.report('a', 1, func(r *verify.Report) { r.Algorithms = []keystore.Algorithm{keystore.P256} })
	h.blocked("a:algorithm")
	h.report('a', 1)
	h.take(verify.Trust)
	h.blocked("a:behind", "b:behind")
	h.report('a', 1)
	h.report('b', 1, func(r *verify.Report) { r.Proven = r.Proven[:1] })
	h.blocked("b:unproven")
	h.report('b', 1, func(r *verify.Report) { r.Digest[0] ^= 1 }) // another state of that number
	h.blocked("b:behind")
	h.report('b', 1)
	h.take(verify.Switch)
	if h.state.Signer != 2 || len(h.state.Roots) != 2 {
		t.Errorf("signer g%d, %d roots", h.state.Signer, len(h.state.Roots))
	}
	h.report('a', 2)
	h.report('b', 1)
	h.blocked("b:old-leaf")
	h.report('b', 2, func(r *verify.Report) {
		r.Refusals = []verify.Refused{{Peer: identities[0], Reason: verify.UnknownIssuer}}
	})
	h.blocked("b:refusing")
	h.report('b', 2, func(r *verify.Report) {
		r.Refusals = []verify.Refused{
			{Peer: identities[0], Reason: verify.WrongMember},                                     // a wrong number dialled
			{Peer: identities[3], Reason: verify.UnknownIssuer},                                   // nobody that counts
			{Peer: identities[0], Reason: verify.UnknownIssuer, Leaf: fingerprint.Certificate{7}}, // a stranger under its name
		}
	})
	h.take(verify.Drop)
	if len(h.state.Roots) != 1 || !slices.Equal(h.state.Retired, []fingerprint.Key{rootKey(1)}) {
		t.Errorf("%d roots, retired %v", len(h.state.Roots), h.state.Retired)
	}
	h.report('a', 2)
	h.blocked("b:behind")
	h.report('b', 2)
	h.take(verify.Settled)
	h.blocked()
	if d := Next(h.view(), h.now); d.Commit != nil || d.Make != nil {
		t.Errorf("settled, and yet there is something to do: %+v", d)
	}
}

// B32: what a waiver must say, and what it does not do.
func TestWithWaiver(t *testing.T) {
	h := newHistory(t, "ab")
	good := verify.Waiver{Member: identities[1], Operator: "anna", Reason: "its disk is away", Until: h.now.Add(time.Hour)}
	if _, err := withWaiver(h.state, good, h.now); !errors.Is(err, ErrIdle) {
		t.Errorf("in advance: %v", err)
	}
	h.change(requested(h.state, keystore.P256))
	h.take(verify.Trust)
	for name, edit := range map[string]func(*verify.Waiver){
		"nobody's":        func(w *verify.Waiver) { w.Operator = "" },
		"without reason":  func(w *verify.Waiver) { w.Reason = "" },
		"a long story":    func(w *verify.Waiver) { w.Reason = strings.Repeat("x", maxReason) },
		"over already":    func(w *verify.Waiver) { w.Until = h.now },
		"without end":     func(w *verify.Waiver) { w.Until = time.Time{} },
		"over for a year": func(w *verify.Waiver) { w.Until = h.now.AddDate(-1, 0, 0) },
	} {
		w := good
		edit(&w)
		if _, err := withWaiver(h.state, w, h.now); err == nil {
			t.Errorf("%s: given", name)
		}
	}
	held := h.state
	h.change(withWaiver(held, good, h.now))
	good.Until = good.Until.Add(time.Hour)
	h.change(withWaiver(h.state, good, h.now))
	if len(held.Waivers) != 0 || !slices.Equal(h.state.Waivers, []verify.Waiver{good}) {
		t.Errorf("held %+v, now %+v", held.Waivers, h.state.Waivers)
	}
	if _, err := withoutWaiver(h.state, identities[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a waiver that was never given was taken back: %v", err)
	}
	h.change(withoutWaiver(h.state, identities[1]))
	if h.report('a', 1); len(h.state.Waivers) != 0 {
		t.Errorf("still %+v", h.state.Waivers)
	}
	h.blocked("b:behind")
}

// Members that were removed, or never served, are not waited for; one that is away is.
func TestCounted(t *testing.T) {
	h := newHistory(t, "abc")
	h.members[1].Revoked = &Revocation{}
	h.members[2].Report = nil
	h.change(requested(h.state, keystore.P256))
	h.take(verify.Trust)
	h.blocked("a:behind")
	h.report('a', 1)
	h.take(verify.Switch)
}

// Every commit takes the next number, names the state before it, and lets no clock take time back.
func TestStamp(t *testing.T) {
	first := stamp(newHistory(t, "a").state, nil, epoch.Add(time.Millisecond))
	if first.Version != (fingerprint.Version{Term: 1, Number: 1}) || first.Previous != (verify.Digest{}) || !first.Issued.Equal(epoch) {
		t.Errorf("first: %v after %v, issued %v", first.Version, first.Previous, first.Issued)
	}
	first.Version.Term = 3
	for name, test := range map[string]struct{ now, issued time.Time }{
		"later":                {epoch.Add(time.Hour), epoch.Add(time.Hour)},
		"a clock was set back": {epoch.Add(-time.Hour), epoch},
	} {
		next := stamp(first, first, test.now)
		if next.Version != (fingerprint.Version{Term: 3, Number: 2}) || next.Previous != first.Digest() ||
			!next.Issued.Equal(test.issued) || next.FreshUntil.Sub(next.Issued) != stateFresh {
			t.Errorf("%s: %v after %v, issued %v, fresh until %v", name, next.Version, next.Previous, next.Issued, next.FreshUntil)
		}
	}
	if first.Version.Number != 1 {
		t.Error("the state held was changed")
	}
}

// A state that waits in the middle of a rollover is issued again in time too, so that it is not stale when whoever is
// waited for comes back.
func TestUpkeepInEachPhase(t *testing.T) {
	for _, phase := range []verify.Phase{verify.Settled, verify.Trust, verify.Switch, verify.Drop} {
		for age, want := range map[time.Duration]bool{time.Hour: false, stateFresh/2 + time.Hour: true} {
			s := newHistory(t, "a").state.Clone()
			s.Phase, s.Issued = phase, time.Now().Add(-age)
			s.FreshUntil = s.Issued.Add(stateFresh)
			next, err := new(Cluster).upkeep(t.Context(), View{State: s})
			if err != nil || (next != nil) != want {
				t.Errorf("%s, issued %s ago: %v, %v", phase, age, next != nil, err)
			}
		}
	}
}

// While two roots are trusted a document signer has a certificate of each; after the drop, of the one that stays.
func TestDroppedDocuments(t *testing.T) {
	for _, test := range []struct {
		name     string
		turn     bool
		document string
	}{{"forward", false, "of g2"}, {"rolled back", true, "of g1"}} {
		s := &verify.Bundle{
			Phase: verify.Switch, Signer: 2, From: 1, To: 2, Generations: 2,
			Roots:   []verify.Root{{Generation: 1, Key: rootKey(1)}, {Generation: 2, Key: rootKey(2)}},
			Control: []verify.Controller{{Documents: [][]byte{[]byte("of g1"), []byte("of g2")}}, {Documents: [][]byte{[]byte("of g1"), []byte("of g2")}}},
		}
		if test.turn {
			var err error
			if s, err = rolledBack(s); err != nil {
				t.Fatal(err)
			}
		}
		next := s.Clone()
		dropped(next)
		for _, x := range next.Control {
			if len(x.Documents) != 1 || string(x.Documents[0]) != test.document {
				t.Errorf("%s: %q", test.name, x.Documents)
			}
		}
		if len(s.Control[0].Documents) != 2 || len(s.Roots) != 2 {
			t.Errorf("%s: the state held was changed", test.name)
		}
	}
}

// B33, B36: when a rollover may be turned, and how many may wait.
func TestTurns(t *testing.T) {
	h := newHistory(t, "a")
	h.change(requested(h.state, keystore.P256))
	if _, err := requested(h.state, keystore.P256); !errors.Is(err, ErrPending) {
		t.Errorf("two requests: %v", err)
	}
	if _, err := requested(h.state, "dsa"); err == nil {
		t.Error("an algorithm that nobody makes was asked for")
	}
	if _, err := rolledBack(h.state); !errors.Is(err, ErrIdle) {
		t.Errorf("rollback while settled: %v", err)
	}
	h.take(verify.Trust)
	if _, err := forwarded(h.state); !errors.Is(err, ErrTurned) {
		t.Errorf("forward while going forward: %v", err)
	}
	h.change(rolledBack(h.state))
	if h.state.Phase != verify.Switch || h.state.Signer != 1 {
		t.Errorf("rolled back to %s, g%d", h.state.Phase, h.state.Signer)
	}
	if _, err := rolledBack(h.state); !errors.Is(err, ErrTurned) {
		t.Errorf("rollback twice: %v", err)
	}
	h.change(forwarded(h.state))
	if h.state.Phase != verify.Trust || h.state.Signer != 1 || h.state.To != 2 {
		t.Errorf("forward at %s, g%d", h.state.Phase, h.state.Signer)
	}
	h.report('a', 1)
	h.take(verify.Switch)
	h.report('a', 2)
	h.take(verify.Drop)
	for _, turn := range []func(*verify.Bundle) (*verify.Bundle, error){rolledBack, forwarded} {
		if _, err := turn(h.state); !errors.Is(err, ErrDropped) {
			t.Errorf("after the drop: %v", err)
		}
	}
}

// B25, B71: which reports count, and what they do to the record.
func TestObserve(t *testing.T) {
	v := fingerprint.Version{Term: 1, Number: 5}
	report := func(boot, count uint64) *verify.Report {
		return &verify.Report{Member: identities[0], Boot: boot, Count: count, State: v, Digest: verify.Digest{1}, Serving: true, Key: fingerprint.Key{1}}
	}
	base := Member{Identity: identities[0], Current: fingerprint.Key{1}, Report: report(2, 5)}
	for _, test := range []struct {
		name      string
		boot      uint64
		count     uint64
		confirms  bool
		nextCount uint64
	}{
		{"the next one", 2, 6, true, 6},
		{"after a boot", 3, 1, true, 1},
		{"the same again", 2, 5, true, 5},
		{"a late one of this boot", 2, 4, false, 4},
		{"from before the boot, or an old disk image", 1, 9, false, 9},
	} {
		m, err := observe(base, report(test.boot, test.count))
		if err != nil {
			t.Fatal(err)
		}
		if got := !m.Report.State.IsZero(); got != test.confirms || m.Report.Count != test.nextCount || !m.Report.Serving {
			t.Errorf("%s: confirms %t, %+v", test.name, got, m.Report)
		}
	}
	other := report(2, 6)
	other.Member = identities[1]
	if m, err := observe(base, other); err == nil || m.Report.Count != 5 {
		t.Errorf("a report that speaks for another member: %v, %+v", err, m.Report)
	}
	away := report(2, 4)
	away.Serving = false
	if m, _ := observe(base, away); !m.Report.Serving {
		t.Error("a report from before made a member that serves one that does not count")
	}
	rekeyed := base
	rekeyed.Next = fingerprint.Key{2}
	if m, _ := observe(rekeyed, report(2, 6)); m.Current != base.Current || m.Next != rekeyed.Next {
		t.Error("a next key was promoted without proof")
	}
	proof := report(2, 6)
	proof.Key = rekeyed.Next
	if m, _ := observe(rekeyed, proof); m.Current != rekeyed.Next || !m.Next.IsZero() {
		t.Error("a next key that is served was not promoted")
	}
}

// The request of a next key: none replaces another that is under way, and none is heard twice.
func TestRequestNext(t *testing.T) {
	m := Member{Identity: identities[0], Current: fingerprint.Key{1}, Requests: 3}
	if _, err := requestNext(m, fingerprint.Key{2}, 3); !errors.Is(err, ErrReplayed) {
		t.Errorf("an old counter: %v", err)
	}
	next, err := requestNext(m, fingerprint.Key{2}, 4)
	if err != nil || next.Next != (fingerprint.Key{2}) {
		t.Fatal(err)
	}
	if _, err := requestNext(next, fingerprint.Key{3}, 5); !errors.Is(err, ErrUnderWay) {
		t.Errorf("a second one: %v", err)
	}
	if again, err := requestNext(next, fingerprint.Key{2}, 4); err != nil || again.Requests != 4 || again.Next != next.Next {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if again, err := requestNext(m, m.Current, 9); err != nil || !again.Next.IsZero() {
		t.Errorf("a key that was promoted meanwhile: %+v, %v", again, err)
	}
}

// The serve rule of the registry: everybody who counts knows the key, or the role is open.
func TestServeNext(t *testing.T) {
	h := newHistory(t, "abc")
	m := h.members[0]
	m.Next, m.Listed = fingerprint.Key{2}, fingerprint.Version{Term: 1, Number: 7}
	if b := serveNext(h.view(), m); len(b) != 0 {
		t.Errorf("open: %+v", b)
	}
	h.state = h.state.Clone()
	h.state.Rules.Node = fingerprint.Listed
	h.report('b', 1, func(r *verify.Report) { r.Registry = fingerprint.Version{Term: 1, Number: 7} })
	b := serveNext(h.view(), m)
	if len(b) != 1 || b[0].Member != identities[2] || b[0].Code != Unlisted {
		t.Errorf("listed: %+v", b)
	}
	h.report('c', 1, func(r *verify.Report) { r.Registry = fingerprint.Version{Term: 1, Number: 8} })
	if b := serveNext(h.view(), m); len(b) != 0 {
		t.Errorf("all know it: %+v", b)
	}
	m.Listed = fingerprint.Version{}
	if len(serveNext(h.view(), m)) != 2 {
		t.Error("a key that no registry names is served")
	}
}

// Store keys of members are of the store's grammar and never the same for two ids.
func TestMemberKey(t *testing.T) {
	seen := make(map[string]string)
	store := keystore.NewMemory()
	for _, id := range []string{"a", "A", "a-b", "a--b", "-a", "a-", "-", "--", "a.b", "a_b", "--41", "--x", "ä", "anna@example.org",
		strings.Repeat("a", 200), strings.Repeat("a", 201), fingerprint.NewUUID(), "5-3a", "a--2d", "a-2d"} {
		key := memberKey(fingerprint.Identity{Domain: "x", Role: fingerprint.Node, ID: id})
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q share %q", id, other, key)
		}
		seen[key] = id
		if _, err := store.Replace(t.Context(), key, 0, nil); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if got := memberKey(fingerprint.Identity{Role: fingerprint.Node, ID: "7f0e-a1"}); got != "members/node/7f0e-a1" {
		t.Errorf("a plain id is written %q", got)
	}
}

// A record that nobody here wrote is not read: a field that another program would read otherwise is a fault of the store.
func TestDecodeMember(t *testing.T) {
	good, err := Member{Identity: identities[0], Current: fingerprint.Key{1}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := decodeMember(good); err != nil || m.Identity != identities[0] || m.Current != (fingerprint.Key{1}) {
		t.Fatalf("%+v, %v", m, err)
	}
	edit := func(old, new string) string {
		t.Helper()
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	key := fingerprint.Key{1}.String()
	for name, value := range map[string]string{
		"nothing":             "",
		"another type":        "[]",
		"cut":                 string(good[:len(good)-1]),
		"two values":          string(good) + "{}",
		"a field twice":       edit(`"requests":0`, `"requests":0,"Requests":7`),
		"in another case":     edit(`"current"`, `"Current"`),
		"a field of nobody's": edit(`"requests":0`, `"requests":0,"admin":true`),
		"spaces":              edit(`"requests":0`, `"requests": 0`),
		"a number too large":  edit(`"requests":0`, `"requests":18446744073709551616`),
		"no key":              edit(key, ""),
		"half a key":          edit(key, key[:32]),
		"a key twice":         edit(`"requests":0`, `"next":"`+key+`","requests":0`),
		"no member":           edit(identities[0].String(), ""),
		"another member":      edit("/node/a", "/node/a/b"),
		"a long reason":       edit(`"requests":0`, `"requests":0,"revoked":{"at":"2026-01-01T00:00:00Z","reason":"`+strings.Repeat("x", maxReason+1)+`"}`),
	} {
		if m, err := decodeMember([]byte(value)); err == nil {
			t.Errorf("%s: %s was read as %+v", name, value, m)
		}
	}
}

func FuzzDecodeMember(f *testing.F) {
	full := Member{
		Identity: identities[0], Hosts: []string{"a.example", "192.0.2.1"}, Current: fingerprint.Key{1}, Next: fingerprint.Key{2},
		Listed: fingerprint.Version{Term: 1, Number: 2}, Requests: 3, Leaf: fingerprint.Certificate{4}, Issuer: fingerprint.Key{5},
		NotAfter: epoch.UTC(), Renew: []fingerprint.Certificate{{4}},
		Report: &verify.Report{
			Member: identities[0], Count: 1, Serving: true, Algorithms: known, Proven: []fingerprint.Key{{5}},
			Refusals: []verify.Refused{{Peer: identities[1], Reason: verify.UnknownIssuer}}, Clock: epoch.UTC(),
		},
		Revoked: &Revocation{At: epoch.UTC(), Reason: "stolen"},
	}
	for _, m := range []Member{full, {Identity: identities[0], Current: fingerprint.Key{1}}} {
		value, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Add([]byte(`{"identity":"spiffe://x/node/a","current":"","requests":0}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := decodeMember(value)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, value) {
			t.Errorf("%s is written %s: %v", value, again, err)
		}
	})
}
