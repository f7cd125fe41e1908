package fingerprint_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
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
	if a.UUID[14] != '4' || !strings.ContainsRune("89ab", rune(a.UUID[19])) {
		t.Errorf("%s is not a random UUID (RFC 9562 §5.4)", a.UUID)
	}
	for _, domain := range []string{"", "Prod", "prod_1", "prod.", "10.0.0.1", "::1", strings.Repeat("x", 256)} {
		if c, err := NewCluster(domain); !errors.Is(err, ErrIdentity) || c != (ClusterID{}) {
			t.Errorf("%q: %v, %v", domain, c, err)
		}
	}
	if c, err := NewCluster(strings.Repeat("x", 255)); err != nil || len(c.URI()) != 255+len("spiffe://") {
		t.Errorf("the longest trust domain: %v", err)
	}
	for _, c := range []ClusterID{{}, {Domain: "prod.example"}, {Domain: "prod.example", UUID: strings.ToUpper(a.UUID)}, {Domain: "prod.example", UUID: a.UUID + "0"},
		{Domain: "prod.example", UUID: strings.Replace(a.UUID, "-", "0", 1)}, {Domain: "prod.example", UUID: "g" + a.UUID[1:]}} {
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

// check is Check where the leaf does not matter.
func check(r *Registry, member Identity, key Key, rule Rule) Verdict {
	return r.Check(Presented{Member: member, Key: key}, rule)
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
		{control("c"), key(1), OthersKey, OthersKey},
		{control("c"), Key{}, Admitted, OtherKey}, // nobody's key is not the next key that it lacks
		{Identity{Domain: "dev.example", Role: Node, ID: "a"}, key(1), OthersKey, OthersKey},
	} {
		if got := check(r, test.who, test.key, Open); got != test.open {
			t.Errorf("open: %v with %s: %s, want %s", test.who, test.key.Short(), got, test.open)
		}
		if got := check(r, test.who, test.key, Listed); got != test.listed {
			t.Errorf("listed: %v with %s: %s, want %s", test.who, test.key.Short(), got, test.listed)
		}
		if got := check(r, test.who, test.key, "no such rule"); got != test.listed {
			t.Errorf("an unknown rule is not the strict one: %v with %s: %s, want %s", test.who, test.key.Short(), got, test.listed)
		}
		if n := testing.AllocsPerRun(10, func() { check(r, test.who, test.key, Listed) }); n != 0 {
			t.Errorf("%v with %s: %v allocations in every handshake", test.who, test.key.Short(), n)
		}
	}
	var none *Registry
	if check(none, node("a"), key(1), Open) != Admitted || check(none, node("a"), key(1), Listed) != NotListed {
		t.Error("an empty registry admits by chain alone, and lists nobody")
	}
}

// A67, A70, B73: edits are pure and do not lock everybody out.
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
	if err != nil || next.Version() != (Version{1, 2}) || check(next, node("a"), key(3), Listed) != Admitted || check(next, node("a"), key(2), Listed) != Admitted {
		t.Fatalf("both keys are admitted while one follows the other: %v", err)
	}
	if _, err := next.ListNext(node("a"), key(4)); !errors.Is(err, ErrKeyOrder) {
		t.Errorf("a second next key: %v", err)
	}
	promoted, err := next.Promote(node("a"))
	if err != nil || check(promoted, node("a"), key(2), Listed) != OtherKey || check(promoted, node("a"), key(3), Listed) != Admitted {
		t.Errorf("promoted: %v", err)
	}
	gone, err := promoted.Revoke(node("a"))
	if err != nil || check(gone, node("a"), key(3), Open) != Revoked {
		t.Errorf("revoked: %v", err)
	}
	marked, err := r.SetPrivileged(node("a"), true)
	if e, _ := marked.Member(node("a")); err != nil || !e.Privileged || marked.Digest() == r.Digest() {
		t.Errorf("privileged: %v", err)
	}
	if _, err := r.ListNext(node("a"), key(1)); !errors.Is(err, ErrDuplicate) {
		t.Errorf("re-key to another member's key: %v", err)
	}
	if _, err := r.ListNext(node("a"), Key{}); !errors.Is(err, ErrKeyOrder) {
		t.Errorf("re-key to no key: %v", err)
	}
	if after, _ := r.AppendText(nil); !bytes.Equal(before, after) {
		t.Error("an edit changed the registry that it was made from")
	}
}

// B69, B71: a tombstone forgets nothing, or the key of a removed member would be free again.
func TestTombstone(t *testing.T) {
	r := registry(t, Entry{Member: control("c"), Current: key(1)}, Entry{Member: node("gone"), Current: key(2), Next: key(3), Revoked: true})
	for name, edit := range map[string]func() (*Registry, error){
		"promote":       func() (*Registry, error) { return r.Promote(node("gone")) },
		"list next":     func() (*Registry, error) { return r.ListNext(node("gone"), key(3)) },
		"privilege":     func() (*Registry, error) { return r.SetPrivileged(node("gone"), true) },
		"lose the mark": func() (*Registry, error) { return r.SetPrivileged(node("gone"), false) },
	} {
		if _, err := edit(); !errors.Is(err, ErrNotListed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, e := range []Entry{{Member: node("gone"), Current: key(9)}, {Member: node("new"), Current: key(2)}, {Member: node("new"), Current: key(9), Next: key(3)}} {
		if _, err := r.Add(e); !errors.Is(err, ErrDuplicate) {
			t.Errorf("%v is back with %s: %v", e.Member, e.Current.Short(), err)
		}
	}
	if again, err := r.Revoke(node("gone")); err != nil || again.Digest() != r.Digest() {
		t.Errorf("revoked once more: %v", err)
	}
}

// B73: the guard counts control members that can still act, and is none where there never was one.
func TestLockout(t *testing.T) {
	two := registry(t, Entry{Member: control("c"), Current: key(1)}, Entry{Member: control("d"), Current: key(2)}, Entry{Member: control("e"), Current: key(3), Revoked: true})
	one, err := two.Revoke(control("c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Revoke(control("d")); !errors.Is(err, ErrLockout) {
		t.Errorf("two tombstones are taken for control members: %v", err)
	}
	if _, err := registry(t, Entry{Member: node("a"), Current: key(1)}).Revoke(node("a")); err != nil {
		t.Errorf("a registry of nodes alone: %v", err)
	}
}

// A67: an entry in JSON is what an operator reads and writes; what is not set is left out.
func TestEntryJSON(t *testing.T) {
	e := Entry{Member: node("a"), Current: key(1), Privileged: true}
	text, err := json.Marshal(e)
	if want := `{"member":"spiffe://prod.example/node/a","current":"` + key(1).String() + `","privileged":true}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	var back Entry
	if err := json.Unmarshal(text, &back); err != nil || back != e {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{
		`{"member":"spiffe://prod.example/node/%61"}`, `{"current":"AB"}`, `{"next":"` + strings.Repeat("0", 64) + `"}`,
	} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s was read as %v", bad, back)
		}
	}
	if back != e {
		t.Errorf("a refused text changed the value to %v", back)
	}
}

// Zero values are written as nothing and read back; so a record may leave out who or which key.
func TestZeroText(t *testing.T) {
	type record struct {
		Who  Identity
		Key  Key
		Leaf Certificate
		At   Version
	}
	text, err := json.Marshal(record{})
	if want := `{"Who":"","Key":"","Leaf":"","At":"0.0"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	full := record{node("a"), key(1), OfCertificate([]byte("der")), Version{1, 7}}
	zero := full
	if err := json.Unmarshal(text, &zero); err != nil || zero != (record{}) || !zero.Who.IsZero() || !zero.Key.IsZero() || !zero.Leaf.IsZero() || !zero.At.IsZero() {
		t.Errorf("%v, %v", zero, err)
	}
	var back record
	if text, err = json.Marshal(full); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &back); err != nil || back != full {
		t.Errorf("%s: %v, %v", text, back, err)
	}
	if _, err := json.Marshal(Identity{Domain: "Prod", Role: Node, ID: "a"}); !errors.Is(err, ErrIdentity) {
		t.Errorf("an identity that nobody could read back was written: %v", err)
	}
	if zero.Key.Short() != "none" || zero.Leaf.Short() != "none" {
		t.Error("nobody's key is shown as somebody's")
	}
}

// SPIFFE-ID §2.2 allows letters, digits, '.', '-' and '_' in a path segment, and nothing in percent-encoding.
func TestEveryByteInAnID(t *testing.T) {
	seen := map[string]bool{}
	for n := range 256 {
		i := node("x" + string([]byte{byte(n)}))
		segment := strings.TrimPrefix(i.String(), "spiffe://prod.example/node/")
		if strings.Trim(segment, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" || seen[segment] {
			t.Errorf("byte %#02x is written %q", n, segment)
		}
		seen[segment] = true
		if back, err := ParseIdentity(i.String()); err != nil || back != i {
			t.Errorf("byte %#02x reads back as %q, %v", n, back.ID, err)
		}
	}
	// 85 escaped bytes are 255 as written, which is the most.
	if err := node(strings.Repeat("_", 85)).Validate(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"", ".", "..", strings.Repeat("_", 86)} {
		if i, err := (ClusterID{Domain: "prod.example"}).Member(Node, id); !errors.Is(err, ErrIdentity) || !i.IsZero() {
			t.Errorf("id %q: %v, %v", id, i, err)
		}
	}
	if _, err := (ClusterID{Domain: "prod.example"}).Member("admin", "a"); !errors.Is(err, ErrIdentity) {
		t.Errorf("role admin: %v", err)
	}
}

// The order of identities is the order of their lines, so that sort(1) can check a registry's text.
func TestOrderIsTheTexts(t *testing.T) {
	var all []Identity
	for _, domain := range []string{"a", "a-b", "a.b", "ab", "a0"} {
		for _, role := range []Role{User, Node, Control} {
			for _, id := range []string{"a", "A", "a@b", "aB", "ab", "a_b", "a.b", "a-b", "a0", "a/b", "aäb", "a\x00", "a\xff", "@"} {
				all = append(all, Identity{domain, role, id})
			}
		}
	}
	for _, i := range all {
		for _, j := range all {
			if got, want := i.Compare(j), strings.Compare(i.String()+" ", j.String()+" "); got != want {
				t.Fatalf("%v against %v: %d, the text says %d", i, j, got, want)
			}
		}
	}
	entries := make([]Entry, len(all))
	for n, i := range all {
		entries[n] = Entry{Member: i, Current: key(n)}
	}
	text, _ := registry(t, entries...).AppendText(nil)
	if !slices.IsSorted(slices.Collect(strings.Lines(string(text)))) {
		t.Errorf("not sorted:\n%s", text)
	}
}

// B72: a key's pin outlives the certificate, and is what RFC 7469 and openssl make of it.
func TestKeyIsTheSPKIs(t *testing.T) {
	// openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout; openssl pkey -pubin -outform DER | sha256sum
	block, _ := pem.Decode([]byte(`-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEG4MbeSOthN9rK5/bOmUtFlzmpGek
y46UwazDa8HlzR8fKBx7zeIuDL0aLC6FY9e5hU0Dg1hr+JMFhLqGhcZYAA==
-----END PUBLIC KEY-----
`))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	const want = "69c4b0bb8b4b1178c28bdb8331647e4c5ab12877107ce4452853aea357d21405"
	if k, err := OfPublicKey(public); err != nil || k.String() != want || OfKey(block.Bytes) != k {
		t.Errorf("%s, %v, want %s", k, err, want)
	}
	if c := key(1).Compare(key(2)); c == 0 || c != -key(2).Compare(key(1)) || key(1).Compare(key(1)) != 0 {
		t.Error("keys are not ordered")
	}
	a, b := Certificate{1}, Certificate{2}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
		t.Error("certificates are not ordered")
	}
}

// A nil registry is what a member holds before it got one.
func TestNilRegistry(t *testing.T) {
	var none *Registry
	empty := registry(t)
	if none.Len() != 0 || none.Digest() != empty.Digest() || !none.Version().IsZero() || len(slices.Collect(none.Entries())) != 0 {
		t.Error("nil differs from empty")
	}
	if _, ok := none.Member(node("a")); ok {
		t.Error("somebody is listed in it")
	}
	if _, ok := none.ByKey(Key{}); ok {
		t.Error("a key is listed in it")
	}
	first, err := none.Add(Entry{Member: control("c"), Current: key(1)})
	if err != nil || first.Len() != 1 {
		t.Errorf("the first entry: %v", err)
	}
	if e, ok := first.ByKey(key(1)); !ok || e.Member != control("c") {
		t.Errorf("%v has the key", e.Member)
	}
	if _, ok := first.ByKey(Key{}); ok {
		t.Error("a missing next key is a key")
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
	mine := []Entry{{Member: node("b"), Current: key(1)}, {Member: node("a"), Current: key(2)}}
	kept := registry(t, mine...)
	if mine[0].Member != node("b") {
		t.Error("the caller's slice was sorted")
	}
	mine[0].Revoked = true
	if check(kept, node("b"), key(1), Listed) != Admitted {
		t.Error("the caller's slice is the registry's")
	}
	form, below, _ := strings.Cut(string(text), "\n")
	form += "\n"
	lines := strings.SplitAfter(below, "\n")
	for name, bad := range map[string]string{
		"order":         lines[1] + lines[0],
		"twice":         lines[0] + lines[0],
		"no newline":    strings.TrimSuffix(below, "\n"),
		"empty line":    below + "\n",
		"flags":         strings.Replace(lines[1], " p", " pp", 1),
		"double space":  strings.Replace(lines[0], " ", "  ", 1),
		"upper case":    strings.ToUpper(lines[0]),
		"missing field": node("x").String() + " " + key(7).String() + "\n",
		"no key":        node("x").String() + " - - -\n",
		"empty key":     node("x").String() + "  - -\n",
		"empty next":    node("x").String() + " " + key(7).String() + "  -\n",
		"next of zeros": node("x").String() + " " + key(7).String() + " " + strings.Repeat("0", 64) + " -\n",
		"flags turned":  node("x").String() + " " + key(7).String() + " - rp\n",
		"carriage":      strings.ReplaceAll(below, "\n", "\r\n"),
		"long line":     strings.Repeat("x", 4096) + "\n",
		"dot":           node("-").String() + " " + key(7).String() + " - -\nspiffe://prod.example/node/. " + key(8).String() + " - -\n",
		"two dots":      node("-").String() + " " + key(7).String() + " - -\nspiffe://prod.example/node/.. " + key(8).String() + " - -\n",
		"long id":       node("-").String() + " " + key(7).String() + " - -\nspiffe://prod.example/node/" + strings.Repeat("x", 256) + " " + key(8).String() + " - -\n",
		"upper escape":  node("-").String() + " " + key(7).String() + " - -\nspiffe://prod.example/node/_5F " + key(8).String() + " - -\n",
	} {
		if _, err := ParseRegistry(Version{1, 1}, []byte(form+bad)); !refusedText(err) {
			t.Errorf("%s: %v\n%s", name, err, bad)
		}
	}
	for name, bad := range map[string]string{
		"one key, two members":  node("x").String() + " " + key(7).String() + " - -\n" + node("y").String() + " " + key(7).String() + " - -\n",
		"next is another's":     node("x").String() + " " + key(7).String() + " " + key(8).String() + " -\n" + node("y").String() + " " + key(8).String() + " - -\n",
		"a tombstone's key":     node("x").String() + " " + key(7).String() + " - r\n" + node("y").String() + " " + key(7).String() + " - -\n",
		"next is the current":   node("x").String() + " " + key(7).String() + " " + key(7).String() + " -\n",
		"member with two lines": node("x").String() + " " + key(7).String() + " - -\n" + node("x").String() + " " + key(8).String() + " - -\n",
	} {
		if _, err := ParseRegistry(Version{1, 1}, []byte(form+bad)); !errors.Is(err, ErrDuplicate) {
			t.Errorf("%s: %v\n%s", name, err, bad)
		}
	}
	for name, bad := range map[string]string{
		"nothing":         "",
		"no form":         below,
		"form cut off":    strings.TrimSuffix(form, "\n"),
		"form of another": "clusterca registry 3\n" + below,
		"form twice":      form + string(text),
		"carriage return": strings.ReplaceAll(string(text), "\n", "\r\n"),
	} {
		if _, err := ParseRegistry(Version{1, 1}, []byte(bad)); !errors.Is(err, ErrRegistryText) {
			t.Errorf("%s: %v\n%s", name, err, bad)
		}
	}
}

func refusedText(err error) bool {
	return errors.Is(err, ErrRegistryText) || errors.Is(err, ErrIdentity) || errors.Is(err, ErrDuplicate)
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{
		"spiffe://prod.example/node/a", "spiffe://prod.example/user/anna_40example.org", "spiffe://a/control/_5f",
		"spiffe://a/node/..", "spiffe://a/node/a_", "spiffe://a/node/_2F", "spiffe://10.0.0.1/node/a", "spiffe://a:1/node/a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIdentity(s)
		if err != nil {
			if !errors.Is(err, ErrIdentity) || !i.IsZero() {
				t.Errorf("%q: %v, %v", s, i, err)
			}
			return
		}
		// A strict URI parser must see the same parts, or two verifiers could be told two things.
		u, err := url.Parse(s)
		if i.String() != s || err != nil || u.Host != i.Domain || u.Path != "/"+strings.TrimPrefix(s, "spiffe://"+i.Domain+"/") || u.String() != s {
			t.Errorf("%q is written %q, and a URI parser sees %v, %v", s, i, u, err)
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
	f.Add([]byte{})
	f.Add([]byte(strings.ReplaceAll(string(text), "\n", "\r\n")))
	r, err = NewRegistry(Version{1, 1}, []Entry{
		{Member: node("a"), Current: key(1), VoidBefore: noon, Pin: leaf(1), NextPin: leaf(2)},
		{Member: node(NewUUID()), Current: key(3), Revoked: true, ForgetAfter: noon}}, Cutoff{Node, noon}, Cutoff{User, noon})
	if err != nil {
		f.Fatal(err)
	}
	text, _ = r.AppendText(nil)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRegistry(Version{1, 1}, text)
		if err != nil {
			if !refusedText(err) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for e := range r.Entries() {
			want := Admitted
			if e.Revoked {
				want = Revoked
			}
			if got := r.Check(Presented{e.Member, e.Current, e.Pin, time.Unix(1<<40, 0)}, Listed); got != want {
				t.Errorf("%v with its own key: %s, want %s", e.Member, got, want)
			}
		}
		if whole, err := NewRegistry(r.Version(), slices.Collect(r.Entries()), r.Cutoffs()...); err != nil || whole.Digest() != r.Digest() {
			t.Errorf("%q: its entries make another registry: %v", text, err)
		}
		if again, _ := r.AppendText(nil); !bytes.Equal(again, text) || r.Digest() != sha256.Sum256(text) {
			t.Errorf("%q is written %q", text, again)
		}
	})
}

// DESIGN §9: authorised by registry, against the SHA-256 of a P-256 key, which is the least that it can cost.
func BenchmarkCheck(b *testing.B) {
	entries := nodesFrom(0, 10_000)
	r, err := NewRegistry(Version{1, 1}, entries)
	if err != nil {
		b.Fatal(err)
	}
	compare(b, entries, func(e *Entry) bool { return check(r, e.Member, e.Current, Listed) == Admitted })
}

var sink Key
