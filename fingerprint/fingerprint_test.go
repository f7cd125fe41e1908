package fingerprint_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/clusterca/clusterca/fingerprint"
)

func key(n int) Key { return OfKey(fmt.Append(nil, n)) }

func node(id string) Identity { return Identity{Domain: "prod.example", Role: Node, ID: id} }

func control(id string) Identity { return Identity{Domain: "prod.example", Role: Control, ID: id} }

// A26, B6: each id has one spelling, and the spelling gives the id back.
func TestIdentityText(t *testing.T) {
	for id, segment := range map[string]string{
		"octopus":                "octopus",
		"Octo.Pus-1":             "Octo.Pus-1",
		"a_b":                    "a_5fb",
		"anna@example.org":       "anna_40example.org",
		"a/b":                    "a_2fb",
		"50%":                    "50_25",
		"ä":                      "_c3_a4",
		"...":                    "...",
		strings.Repeat("x", 255): strings.Repeat("x", 255),
	} {
		i := node(id)
		uri := "spiffe://prod.example/node/" + segment
		if i.String() != uri {
			t.Errorf("%q is written %s, want %s", id, i, uri)
		}
		if back, err := ParseIdentity(uri); err != nil || back != i {
			t.Errorf("%s reads as %q, %v", uri, back.ID, err)
		}
	}
}

func TestIdentityRefused(t *testing.T) {
	for _, uri := range []string{
		"", "spiffe://prod.example", "spiffe://prod.example/node", "spiffe://prod.example/node/", "spiffe://prod.example/node/a/b",
		"spiffe://prod.example/nodes/a", "spiffe://prod.example//a", "SPIFFE://prod.example/node/a", "spiffe://Prod.example/node/a",
		"spiffe://prod_example/node/a", "spiffe://prod..example/node/a", "spiffe://-prod.example/node/a", "spiffe://10.0.0.1/node/a",
		"spiffe://prod.example:1/node/a", "spiffe://u@prod.example/node/a", "spiffe:///node/a",
		"spiffe://prod.example/node/a_", "spiffe://prod.example/node/a_5", "spiffe://prod.example/node/a_5F", "spiffe://prod.example/node/_41",
		"spiffe://prod.example/node/a%41", "spiffe://prod.example/node/a b", "spiffe://prod.example/node/.", "spiffe://prod.example/node/..",
		"spiffe://prod.example/node/" + strings.Repeat("x", 256), "spiffe://" + strings.Repeat("x", 256) + "/node/a",
		strings.Repeat("x", 2000),
	} {
		if i, err := ParseIdentity(uri); !errors.Is(err, ErrIdentity) {
			t.Errorf("%q reads as %v, %v", uri, i, err)
		}
	}
}

// A2: two clusters of one name have different UUIDs.
func TestCluster(t *testing.T) {
	a, err := NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := NewCluster("prod.example"); a == b {
		t.Error("two clusters are one")
	}
	for _, c := range []ClusterID{{}, {Domain: "prod.example"}, {Domain: "prod.example", UUID: strings.ToUpper(a.UUID)}, {Domain: "prod.example", UUID: a.UUID + "0"}} {
		if c.Validate() == nil {
			t.Errorf("%v is valid", c)
		}
	}
}

func TestVersion(t *testing.T) {
	ordered := []Version{{}, {0, 9}, {1, 0}, {1, 1}, {1, 10}, {2, 1}}
	for i, v := range ordered {
		if back, err := ParseVersion(v.String()); err != nil || back != v {
			t.Errorf("%v reads as %v, %v", v, back, err)
		}
		for j, w := range ordered {
			if v.Less(w) != (i < j) {
				t.Errorf("%v before %v: %t", v, w, v.Less(w))
			}
		}
	}
	for _, s := range []string{"", "1", "1.", ".1", "1.1.1", "01.1", "+1.1", "-1.1", "1.99999999999999999999"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("%q reads as %v", s, v)
		}
	}
}

func TestKeyText(t *testing.T) {
	k := key(1)
	var back Key
	if err := back.UnmarshalText([]byte(k.String())); err != nil || back != k {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{"ab", strings.ToUpper(k.String()), strings.Repeat("0", 64), strings.Repeat("g", 64)} {
		if err := back.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func registry(t *testing.T, entries ...Entry) *Registry {
	t.Helper()
	r, err := NewRegistry(Version{1, 1}, entries)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A69, A72, B69, B71, B72: who may be whom, under both rules, with which key.
func TestCheck(t *testing.T) {
	r := registry(t,
		Entry{Member: node("a"), Current: key(1), Next: key(2)},
		Entry{Member: node("gone"), Current: key(3), Next: key(4), Revoked: true},
		Entry{Member: control("c"), Current: key(5)},
	)
	for _, test := range []struct {
		who          Identity
		key          Key
		open, listed Verdict
	}{
		{node("a"), key(1), Admitted, Admitted},
		{node("a"), key(2), Admitted, Admitted},
		{node("a"), key(9), Admitted, OtherKey},
		{node("a"), Key{}, Admitted, OtherKey},
		{node("a"), key(5), OthersKey, OthersKey},
		{node("a"), key(3), OthersKey, OthersKey},
		{node("b"), key(9), Admitted, NotListed},
		{node("b"), key(2), OthersKey, OthersKey},
		{node("b"), key(4), OthersKey, OthersKey},
		{node("gone"), key(3), Revoked, Revoked},
		{node("gone"), key(9), Revoked, Revoked},
		{node("c"), key(5), OthersKey, OthersKey},
		{control("c"), key(5), Admitted, Admitted},
	} {
		if got := r.Check(test.who, test.key, Open); got != test.open {
			t.Errorf("open: %v with %s: %s, want %s", test.who, test.key.Short(), got, test.open)
		}
		if got := r.Check(test.who, test.key, Listed); got != test.listed {
			t.Errorf("listed: %v with %s: %s, want %s", test.who, test.key.Short(), got, test.listed)
		}
	}
	var none *Registry
	if none.Check(node("a"), key(1), Open) != Admitted || none.Check(node("a"), key(1), Listed) != NotListed {
		t.Error("an empty registry admits by chain alone, and lists nobody")
	}
}

// A70, B73: edits are pure and do not lock everybody out.
func TestEdits(t *testing.T) {
	r := registry(t, Entry{Member: control("c"), Current: key(1)}, Entry{Member: node("a"), Current: key(2)})
	before, _ := r.AppendText(nil)
	if _, err := r.Revoke(control("c")); !errors.Is(err, ErrLockout) {
		t.Errorf("revoke the last control member: %v", err)
	}
	if _, err := r.Promote(node("a")); !errors.Is(err, ErrKeyOrder) {
		t.Errorf("promote without a next key: %v", err)
	}
	if _, err := r.Add(Entry{Member: node("b"), Current: key(2)}); !errors.Is(err, ErrDuplicate) {
		t.Errorf("add with another's key: %v", err)
	}
	if _, err := r.Revoke(node("nobody")); !errors.Is(err, ErrNotListed) {
		t.Errorf("revoke nobody: %v", err)
	}
	next, err := r.ListNext(node("a"), key(3))
	if err != nil || next.Version() != (Version{1, 2}) || next.Check(node("a"), key(3), Listed) != Admitted || next.Check(node("a"), key(2), Listed) != Admitted {
		t.Fatalf("both keys are admitted while one follows the other: %v", err)
	}
	if _, err := next.ListNext(node("a"), key(4)); !errors.Is(err, ErrKeyOrder) {
		t.Errorf("a second next key: %v", err)
	}
	promoted, err := next.Promote(node("a"))
	if err != nil || promoted.Check(node("a"), key(2), Listed) != OtherKey || promoted.Check(node("a"), key(3), Listed) != Admitted {
		t.Errorf("promoted: %v", err)
	}
	gone, err := promoted.Revoke(node("a"))
	if err != nil || gone.Check(node("a"), key(3), Open) != Revoked {
		t.Errorf("revoked: %v", err)
	}
	marked, err := r.SetPrivileged(node("a"), true)
	if e, _ := marked.Member(node("a")); err != nil || !e.Privileged || marked.Digest() == r.Digest() {
		t.Errorf("privileged: %v", err)
	}
	if after, _ := r.AppendText(nil); !bytes.Equal(before, after) {
		t.Error("an edit changed the registry that it was made from")
	}
}

// A68: the text form is canonical and refuses everything else.
func TestRegistryText(t *testing.T) {
	r := registry(t, Entry{Member: node("b"), Current: key(2), Privileged: true}, Entry{Member: node("a"), Current: key(1), Next: key(3), Revoked: true})
	text, err := r.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseRegistry(r.Version(), text)
	if err != nil || back.Digest() != r.Digest() || back.Len() != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	if again := registry(t, Entry{Member: node("a"), Current: key(1), Next: key(3), Revoked: true}, Entry{Member: node("b"), Current: key(2), Privileged: true}); again.Digest() != r.Digest() {
		t.Error("the digest depends on the order in which entries came")
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, bad := range map[string]string{
		"order":         lines[1] + lines[0],
		"twice":         lines[0] + lines[0],
		"no newline":    strings.TrimSuffix(string(text), "\n"),
		"empty line":    string(text) + "\n",
		"flags":         strings.Replace(lines[1], " p", " pp", 1),
		"double space":  strings.Replace(lines[0], " ", "  ", 1),
		"upper case":    strings.ToUpper(lines[0]),
		"missing field": node("x").String() + " " + key(7).String() + "\n",
		"no key":        node("x").String() + " - - -\n",
	} {
		if _, err := ParseRegistry(Version{1, 1}, []byte(bad)); err == nil {
			t.Errorf("%s: accepted\n%s", name, bad)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"spiffe://prod.example/node/a", "spiffe://prod.example/user/anna_40example.org", "spiffe://a/control/_5f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if i, err := ParseIdentity(s); err == nil && i.String() != s {
			t.Errorf("%q is written %q", s, i)
		}
	})
}

func FuzzParseRegistry(f *testing.F) {
	r, err := NewRegistry(Version{1, 1}, []Entry{{Member: node("a"), Current: key(1), Next: key(2)}, {Member: node("b"), Current: key(3), Revoked: true}})
	if err != nil {
		f.Fatal(err)
	}
	text, _ := r.AppendText(nil)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRegistry(Version{1, 1}, text)
		if err != nil {
			return
		}
		if again, _ := r.AppendText(nil); !bytes.Equal(again, text) || r.Digest() != sha256.Sum256(text) {
			t.Errorf("%q is written %q", text, again)
		}
	})
}

// DESIGN §9: authorised by registry, against the SHA-256 of a P-256 key, which is the least that it can cost.
func BenchmarkCheck(b *testing.B) {
	entries := make([]Entry, 10_000)
	for i := range entries {
		entries[i] = Entry{Member: node(fmt.Sprint(i)), Current: key(i)}
	}
	r, err := NewRegistry(Version{1, 1}, entries)
	if err != nil {
		b.Fatal(err)
	}
	spki := make([]byte, 91)
	who, k := node("4711"), key(4711)
	var ours, limit time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range 100 {
			sink = OfKey(spki)
		}
		middle := time.Now()
		for range 100 {
			if r.Check(who, k, Listed) != Admitted {
				b.Fatal("refused")
			}
		}
		limit += middle.Sub(start)
		ours += time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(100*b.N), "ns/check")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
}

var sink Key
