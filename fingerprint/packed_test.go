package fingerprint_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	. "github.com/clusterca/clusterca/fingerprint"
)

// DESIGN §9: a member costs at most 90 bytes, its name and keys and the ways to find them included.
func TestBytesPerEntry(t *testing.T) {
	const n = 30_000
	entries := nodesFrom(0, n)
	before := heap()
	r := registry(t, entries...)
	size := float64(heap()-before) / n
	runtime.KeepAlive(entries)
	if r.Len() != n || size > 90 {
		t.Errorf("%d entries of %.1f bytes", r.Len(), size)
	}
}

// model is a registry as one would write it without a thought for memory.
type model map[Identity]Entry

func (m model) check(who Identity, k Key, rule Rule) Verdict {
	mine, ok := m[who]
	if ok && mine.Revoked {
		return Revoked
	}
	for id, e := range m {
		if id != who && (e.Current == k || !e.Next.IsZero() && e.Next == k) {
			return OthersKey
		}
	}
	switch {
	case rule == Open:
		return Admitted
	case !ok:
		return NotListed
	case mine.Current == k || !k.IsZero() && mine.Next == k:
		return Admitted
	}
	return OtherKey
}

// A69, A70, B69: after any edits, one by one or together, the registry answers as the list of its entries does, and has
// the text and digest that a new registry of them has.
func TestAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var names []Identity
	for i := range 40 {
		names = append(names, Identity{[]string{"a.example", "a-b.example"}[i%2], []Role{Node, User, Control}[i%3],
			[]string{NewUUID(), fmt.Sprint("n", i), fmt.Sprintf("ü%d@x", i), strings.Repeat("x", 255-i)}[i%4]})
	}
	var r *Registry
	m := model{}
	for round := range 120 {
		var batch []Entry
		for range random.IntN(4) + 1 {
			e := Entry{Member: names[random.IntN(len(names))], Current: key(random.IntN(60)), Privileged: random.IntN(3) == 0}
			if old, ok := m[e.Member]; ok {
				e = old
				switch random.IntN(5) {
				case 0:
					e.Next = key(random.IntN(60))
				case 1:
					e.Current, e.Next = e.Next, Key{}
				case 2:
					e.Privileged = !e.Privileged
				case 3:
					e.Revoked = e.Revoked || round > 60 && random.IntN(4) == 0
				}
			}
			batch = append(batch, e)
		}
		next, err := r.Put(batch...)
		if err != nil {
			if next != nil {
				t.Fatalf("round %d: a registry and %v", round, err)
			}
			continue
		}
		r = next
		for _, e := range batch {
			m[e.Member] = e
		}
		agree(t, r, m, names)
	}
	if len(m) < 20 {
		t.Fatalf("only %d members were ever listed", len(m))
	}
}

func agree(t *testing.T, r *Registry, m model, names []Identity) {
	t.Helper()
	all := slices.Collect(r.Entries())
	if len(all) != len(m) || r.Len() != len(m) {
		t.Fatalf("%d entries, want %d", len(all), len(m))
	}
	for _, e := range all {
		if m[e.Member] != e {
			t.Fatalf("%v, want %v", e, m[e.Member])
		}
	}
	whole := registry(t, all...)
	text, _ := r.AppendText(nil)
	if again, _ := whole.AppendText(nil); !bytes.Equal(text, again) || whole.Digest() != r.Digest() {
		t.Fatalf("edited:\n%s\nnew:\n%s", text, again)
	}
	parsed, err := ParseRegistry(r.Version(), text)
	if err != nil || parsed.Digest() != r.Digest() {
		t.Fatalf("%v\n%s", err, text)
	}
	for i, who := range names {
		e, ok := r.Member(who)
		if want, listed := m[who]; ok != listed || e != want {
			t.Fatalf("%v: %v, want %v", who, e, want)
		}
		for n := i % 4; n <= 60; n += 4 { // each member meets another quarter of the keys
			k := key(n)
			if n == 60 {
				k = Key{}
			}
			for _, rule := range []Rule{Open, Listed} {
				want := m.check(who, k, rule)
				if got, again := check(r, who, k, rule), check(parsed, who, k, rule); got != want || again != want {
					t.Fatalf("%v with %s, %s: %s and %s when parsed, want %s", who, k.Short(), rule, got, again, want)
				}
			}
		}
	}
}

// A UUID is kept as 16 bytes; a member whose id is those very bytes is another one.
func TestBytesOfAUUID(t *testing.T) {
	const text = "30313233-3435-3637-3839-616263646566"
	uuid, raw := Entry{Member: node(text), Current: key(1)}, Entry{Member: node("0123456789abcdef"), Current: key(1)}
	one, other := registry(t, uuid), registry(t, raw)
	if e, ok := one.Member(raw.Member); ok {
		t.Errorf("%v was found", e.Member)
	}
	if e, ok := other.Member(uuid.Member); ok {
		t.Errorf("%v was found", e.Member)
	}
	if check(one, raw.Member, key(1), Open) != OthersKey || check(other, uuid.Member, key(1), Open) != OthersKey {
		t.Error("one has the other's key")
	}
	if got, err := one.Apply(Version{1, 2}, Difference(one, other), other.Digest()); err != nil || got.Digest() != other.Digest() {
		t.Errorf("they do not differ: %v", err)
	}
	raw.Current = key(2)
	if both, err := one.Add(raw); err != nil || both.Len() != 2 {
		t.Errorf("both: %v", err)
	}
}

// A70: ten thousand edits are one, or none when one of them is refused.
func TestPut(t *testing.T) {
	r := registry(t, Entry{Member: control("c"), Current: key(1)}, Entry{Member: node("a"), Current: key(2)}, Entry{Member: node("gone"), Current: key(3), Revoked: true})
	many := nodesFrom(100, 10_000)
	next, err := r.Put(append(many, Entry{Member: node("a"), Current: key(2), Next: key(4)})...)
	if err != nil || next.Len() != r.Len()+len(many) || next.Version() != r.Version().Next() {
		t.Fatalf("%v", err)
	}
	for _, e := range many {
		if check(next, e.Member, e.Current, Listed) != Admitted {
			t.Fatalf("%v is refused", e.Member)
		}
	}
	for name, test := range map[string]struct {
		bad  []Entry
		want error
	}{
		"a member twice":               {[]Entry{many[0], many[0]}, ErrDuplicate},
		"one key for two":              {[]Entry{many[0], {Member: node("b"), Current: many[0].Current}}, ErrDuplicate},
		"current and next are one":     {[]Entry{{Member: node("b"), Current: key(7), Next: key(7)}}, ErrDuplicate},
		"another key without a next":   {[]Entry{{Member: node("a"), Current: key(5)}}, ErrKeyOrder},
		"revoked under another key":    {[]Entry{{Member: node("a"), Current: key(2), Next: key(5), Revoked: true}}, ErrKeyOrder},
		"a tombstone that lives again": {[]Entry{{Member: node("gone"), Current: key(3)}}, ErrNotListed},
		"nobody":                       {[]Entry{{Current: key(5)}}, ErrIdentity},
		"the last control member":      {[]Entry{{Member: control("c"), Current: key(1), Revoked: true}}, ErrLockout},
	} {
		if got, err := r.Put(append(test.bad, many[1:]...)...); !errors.Is(err, test.want) || got != nil {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, err := r.Put(Entry{Member: node("b")}); err == nil {
		t.Error("no current key")
	}
	// The control member may go when another one comes at the same moment.
	if _, err := r.Put(Entry{Member: control("c"), Current: key(1), Revoked: true}, Entry{Member: control("d"), Current: key(9)}); err != nil {
		t.Error(err)
	}
	if same, err := r.Put(); err != nil || same.Digest() != r.Digest() {
		t.Errorf("no edit at all: %v", err)
	}
}
