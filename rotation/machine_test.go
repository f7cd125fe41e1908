package rotation

import (
	"errors"
	"fmt"
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
	r := verify.Report{Serving: true, State: h.state.Version, Digest: h.state.Digest(), Issuer: rootKey(leaf), Algorithms: known, Count: 1}
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

// B23, B24, B28, B38: each step of a rollover, and what keeps it waiting.
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
			{Peer: identities[0], Reason: verify.WrongMember},   // a wrong number dialled
			{Peer: identities[3], Reason: verify.UnknownIssuer}, // nobody that counts
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

// A62, B32: a waiver lets the guards pass a member until it ends; what was passed is a debt, which blocks again without
// a waiver, and which only a confirmation with a leaf of the signer settles.
func TestWaiverAndDebt(t *testing.T) {
	h := newHistory(t, "ab")
	h.change(requested(h.state, keystore.P256))
	h.take(verify.Trust)
	waived := h.state.Clone()
	waived.Waivers = []verify.Waiver{{Member: identities[1], Operator: "anna", Reason: "its disk is away", Until: h.now.Add(time.Hour)}}
	h.change(waived, nil)
	h.report('a', 1)
	h.now = h.now.Add(2 * time.Hour)
	h.blocked("b:behind") // the waiver has ended
	h.now = h.now.Add(-2 * time.Hour)
	h.take(verify.Switch)
	if !slices.Equal(h.state.Debts, []fingerprint.Identity{identities[1]}) {
		t.Fatalf("debts %v", h.state.Debts)
	}
	h.report('a', 2)
	h.take(verify.Drop)
	h.report('a', 2)
	h.take(verify.Settled)
	if len(h.state.Waivers) != 0 || len(h.state.Debts) != 1 {
		t.Errorf("%d waivers, %d debts", len(h.state.Waivers), len(h.state.Debts))
	}
	h.report('b', 1) // heard of, but with an old leaf
	if d := Next(h.view(), h.now); d.Commit != nil {
		t.Error("contact alone settled the debt")
	}
	h.report('b', 2)
	h.take(verify.Settled)
	if len(h.state.Debts) != 0 {
		t.Errorf("debts %v", h.state.Debts)
	}
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
		return &verify.Report{Boot: boot, Count: count, State: v, Digest: verify.Digest{1}, Serving: true, Key: fingerprint.Key{1}}
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

func FuzzDecodeMember(f *testing.F) {
	value, err := Member{Identity: identities[0], Current: fingerprint.Key{1}, Report: &verify.Report{Count: 1}, Revoked: &Revocation{Reason: "x"}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := decodeMember(value)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			return // a reason that is too long cannot be written again
		}
		if n, err := decodeMember(again); err != nil || fmt.Sprint(n.Identity, n.Current) != fmt.Sprint(m.Identity, m.Current) {
			t.Errorf("%s is written %s: %v", value, again, err)
		}
	})
}
