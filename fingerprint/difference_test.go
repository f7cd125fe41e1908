package fingerprint_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	. "github.com/clusterca/clusterca/fingerprint"
)

// B74, A68: a change of one entry of many is one line, and leads to what the whole list would have given.
func TestOneLineOfMany(t *testing.T) {
	r, err := NewRegistry(Version{1, 1}, nodesFrom(0, 10_000), Cutoff{Node, noon})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := r.ByKey(key(4711))
	next, err := r.Revoke(e.Member)
	if err != nil {
		t.Fatal(err)
	}
	d := Difference(r, next)
	want := "clusterca registry difference 2\n+" + e.Member.String() + " " + e.Current.String() + " - r\n"
	if string(d) != want {
		t.Fatalf("%.500s\nwant\n%s", d, want)
	}
	got, err := r.Apply(next.Version(), d, next.Digest())
	if err != nil || got.Version() != next.Version() || got.Digest() != next.Digest() || check(got, e.Member, e.Current, Open) != Revoked {
		t.Errorf("%v", err)
	}
	if none := Difference(next, got); string(none) != "clusterca registry difference 2\n" {
		t.Errorf("equal registries differ: %s", none)
	}
}

// Any registry leads to any other, in both directions; from a third one the difference leads nowhere.
func TestDifferenceLeadsThere(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	some := func() *Registry {
		var entries []Entry
		for i := range 20 {
			if random.IntN(3) == 0 {
				continue
			}
			e := Entry{Member: Identity{[]string{"a", "a-b", "a.b"}[i%3], []Role{Node, User, Control}[random.IntN(3)], []string{fmt.Sprint(i), "ü" + fmt.Sprint(i), "0b0e9f4a-3b0d-4d0e-8f0a-00000000000" + fmt.Sprint(i%10)}[i%3]},
				Current: key(random.IntN(3)*100 + i), Privileged: random.IntN(4) == 0}
			if random.IntN(4) == 0 {
				e.Revoked, e.ForgetAfter = true, noon
			}
			if random.IntN(4) == 0 {
				e.Pin, e.VoidBefore = leaf(byte(i+1)), noon.Add(time.Duration(random.IntN(3))*time.Hour)
			}
			entries = append(entries, e)
		}
		var cutoffs []Cutoff
		for _, role := range []Role{Control, Node, User} {
			if random.IntN(2) == 0 {
				cutoffs = append(cutoffs, Cutoff{role, noon.Add(time.Duration(random.IntN(2)) * time.Hour)})
			}
		}
		r, err := NewRegistry(Version{1, uint64(random.IntN(100))}, entries, cutoffs...)
		if errors.Is(err, ErrDuplicate) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for range 500 {
		a, b, c := some(), some(), some()
		d := Difference(a, b)
		got, err := a.Apply(b.Version(), d, b.Digest())
		if err != nil || got.Digest() != b.Digest() {
			t.Fatalf("%v\n%s", err, d)
		}
		if c.Digest() == a.Digest() || c.Digest() == b.Digest() {
			continue
		}
		if got, err := c.Apply(b.Version(), d, b.Digest()); err == nil && got.Digest() != b.Digest() {
			t.Fatalf("another registry was led to %x", got.Digest())
		}
		if _, err := a.Apply(b.Version(), d, c.Digest()); !errors.Is(err, ErrDifference) {
			t.Fatalf("another digest was signed: %v", err)
		}
	}
}

func TestDifferenceRefused(t *testing.T) {
	const form = "clusterca registry difference 2\n"
	r, err := NewRegistry(Version{1, 1}, []Entry{{Member: node("a"), Current: key(1)}, {Member: node("b"), Current: key(2)}}, Cutoff{Node, noon})
	if err != nil {
		t.Fatal(err)
	}
	line := func(id string, n int) string { return node(id).String() + " " + key(n).String() + " - -\n" }
	for name, bad := range map[string]string{
		"nothing":               "",
		"another registry":      "clusterca registry 2\n" + line("a", 1),
		"an unknown form":       "clusterca registry difference 3\n",
		"no sign":               form + line("c", 3),
		"another sign":          form + "=" + line("c", 3),
		"an empty line":         form + "\n",
		"a sign alone":          form + "+\n",
		"no newline":            form + "-" + node("a").String(),
		"in disorder":           form + "+" + line("d", 3) + "+" + line("c", 4),
		"a member twice":        form + "-" + node("a").String() + "\n+" + line("a", 3),
		"a line where one goes": form + "-" + line("a", 1),
		"cut-off of no role":    form + "-cutoff admin\n",
		"cut-off after members": form + "-" + node("a").String() + "\n-cutoff node\n",
		"cut-off without time":  form + "+cutoff node\n",
		"carriage return":       form + "-" + node("a").String() + "\r\n",
		"long line":             form + "+" + strings.Repeat("x", 4096) + "\n",
	} {
		if got, err := r.Apply(Version{1, 2}, []byte(bad), r.Digest()); !refusedText(err) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// From another base than the one meant a key may come out twice: then the whole is asked for.
	if _, err := r.Apply(Version{1, 2}, []byte(form+"+"+line("c", 1)), r.Digest()); !errors.Is(err, ErrDifference) {
		t.Errorf("another's key: %v", err)
	}
	whole, _ := r.AppendText(nil)
	if again, err := (*Registry)(nil).Apply(Version{1, 3}, whole, r.Digest()); err != nil || again.Version() != (Version{1, 3}) || again.Digest() != r.Digest() {
		t.Errorf("the whole text leads there from anywhere: %v", err)
	}
	// Who goes and was never there is no matter: the digest decides.
	if _, err := r.Apply(Version{1, 2}, []byte(form+"-"+node("x").String()+"\n"), r.Digest()); err != nil {
		t.Error(err)
	}
}

// FuzzDifference: whatever is applied gives a registry that its own text gives again.
func FuzzDifference(f *testing.F) {
	a := []Entry{{Member: node("a"), Current: key(1), Next: key(2)}, {Member: node("b"), Current: key(3), Revoked: true}, {Member: node("c"), Current: key(4), Pin: leaf(1)}}
	r, err := NewRegistry(Version{1, 1}, a, Cutoff{Node, noon})
	if err != nil {
		f.Fatal(err)
	}
	to, err := NewRegistry(Version{1, 2}, []Entry{a[1], {Member: node("aa"), Current: key(9), VoidBefore: noon}}, Cutoff{User, noon})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Difference(r, to))
	f.Add(Difference(to, r))
	f.Add(Difference(nil, r))
	f.Fuzz(func(t *testing.T, difference []byte) {
		got, err := r.ApplyUnchecked(difference)
		if err != nil {
			if !refusedText(err) {
				t.Errorf("%q: %v", difference, err)
			}
			return
		}
		text, _ := got.AppendText(nil)
		again, err := ParseRegistry(got.Version(), text)
		if err != nil || again.Digest() != got.Digest() || again.Len() != got.Len() {
			t.Fatalf("%q: %v\n%s", difference, err, text)
		}
		back, err := got.Apply(r.Version(), Difference(got, r), r.Digest())
		if err != nil {
			t.Fatalf("%q: no way back: %v", difference, err)
		}
		if first, second := Difference(r, got), Difference(back, again); !bytes.Equal(first, second) {
			t.Errorf("%q\n%s\n%s", difference, first, second)
		}
	})
}
