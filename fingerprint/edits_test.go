package fingerprint_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/clusterca/clusterca/fingerprint"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func leaf(n byte) Certificate { return Certificate{n} }

// A77: a certificate from before the cut-off of its member or role is void, whatever the rule, and however good its key.
func TestCutoff(t *testing.T) {
	r, err := NewRegistry(Version{1, 1}, []Entry{
		{Member: node("a"), Current: key(1), VoidBefore: noon},
		{Member: node("b"), Current: key(2)},
		{Member: control("c"), Current: key(3)},
	}, Cutoff{Node, noon.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		who       Identity
		key       Key
		notBefore time.Time
		open      Verdict
	}{
		{node("a"), key(1), noon, Admitted},
		{node("a"), key(1), noon.Add(-time.Second), Void},
		{node("a"), key(1), time.Time{}, Void},
		{node("b"), key(2), noon.Add(-time.Hour), Admitted},
		{node("b"), key(2), noon.Add(-time.Hour - time.Second), Void},
		{node("unlisted"), key(9), noon.Add(-time.Hour), Admitted},
		{node("unlisted"), key(9), noon.Add(-2 * time.Hour), Void},
		{control("c"), key(3), noon.Add(-1000 * time.Hour), Admitted},
		{control("c"), key(3), time.Unix(-1, 0), Admitted},
		{node("b"), key(1), time.Time{}, OthersKey},
	} {
		if got := r.Check(Presented{test.who, test.key, leaf(1), test.notBefore}, Open); got != test.open {
			t.Errorf("%v from %v: %s, want %s", test.who, test.notBefore, got, test.open)
		}
	}
	if got := r.Check(Presented{node("unlisted"), key(9), leaf(1), time.Time{}}, Listed); got != NotListed {
		t.Errorf("the first reason is that it is not listed: %s", got)
	}
}

// A78, B72: a pin narrows and admits nobody.
func TestPins(t *testing.T) {
	r := registry(t,
		Entry{Member: node("a"), Current: key(1), Pin: leaf(1)},
		Entry{Member: node("b"), Current: key(2), Pin: leaf(2), NextPin: leaf(3), VoidBefore: noon},
		Entry{Member: node("gone"), Current: key(3), Pin: leaf(4), Revoked: true},
	)
	for _, test := range []struct {
		who          Identity
		key          Key
		leaf         Certificate
		open, listed Verdict
	}{
		{node("a"), key(1), leaf(1), Admitted, Admitted},
		{node("a"), key(1), leaf(2), NotPinned, NotPinned},
		{node("a"), key(1), Certificate{}, NotPinned, NotPinned},
		{node("a"), key(9), leaf(1), Admitted, OtherKey},
		{node("a"), key(2), leaf(1), OthersKey, OthersKey},
		{node("b"), key(2), leaf(2), Admitted, Admitted},
		{node("b"), key(2), leaf(3), Admitted, Admitted},
		{node("b"), key(2), leaf(1), NotPinned, NotPinned},
		{node("gone"), key(3), leaf(4), Revoked, Revoked},
		{node("unlisted"), key(9), leaf(1), Admitted, NotListed},
	} {
		for rule, want := range map[Rule]Verdict{Open: test.open, Listed: test.listed} {
			if got := r.Check(Presented{test.who, test.key, test.leaf, noon}, rule); got != want {
				t.Errorf("%v with %s and leaf %s, %s: %s, want %s", test.who, test.key.Short(), test.leaf.Short(), rule, got, want)
			}
		}
	}
	if got := r.Check(Presented{node("b"), key(2), leaf(2), noon.Add(-1)}, Listed); got != Void {
		t.Errorf("a pin overrides a cut-off: %s", got)
	}
	p := Presented{node("b"), key(2), leaf(3), noon}
	if n := testing.AllocsPerRun(10, func() { r.Check(p, Listed) }); n != 0 {
		t.Errorf("%v allocations in every handshake", n)
	}
}

// A70, A76-A78: each edit does what it says to one entry, and the text form gives all of it back.
func TestEachEdit(t *testing.T) {
	start := registry(t, Entry{Member: control("c"), Current: key(1)}, Entry{Member: node("a"), Current: key(2)},
		Entry{Member: node("b"), Current: key(3), Privileged: true})
	for name, test := range map[string]struct {
		edit func(*Registry) (*Registry, error)
		want Entry
		line string
	}{
		"promote": {func(r *Registry) (*Registry, error) { return r.SetPrivileged(node("a"), true) },
			Entry{Member: node("a"), Current: key(2), Privileged: true}, " - p"},
		"demote": {func(r *Registry) (*Registry, error) {
			r, err := r.SetPrivileged(node("a"), true)
			if err != nil {
				return nil, err
			}
			return r.SetPrivileged(node("b"), false)
		}, Entry{Member: node("b"), Current: key(3)}, " - -"},
		"add":      {func(r *Registry) (*Registry, error) { return r.Add(Entry{Member: node("d"), Current: key(4)}) }, Entry{Member: node("d"), Current: key(4)}, " - -"},
		"remove":   {func(r *Registry) (*Registry, error) { return r.Revoke(node("a")) }, Entry{Member: node("a"), Current: key(2), Revoked: true}, " - r"},
		"next key": {func(r *Registry) (*Registry, error) { return r.ListNext(node("a"), key(4)) }, Entry{Member: node("a"), Current: key(2), Next: key(4)}, key(4).String() + " -"},
		"narrow":   {func(r *Registry) (*Registry, error) { return r.SetPins(node("a"), leaf(1), leaf(2)) }, Entry{Member: node("a"), Current: key(2), Pin: leaf(1), NextPin: leaf(2)}, " pin=" + leaf(1).String() + " next-pin=" + leaf(2).String()},
		"cut off":  {func(r *Registry) (*Registry, error) { return r.VoidBefore(node("a"), noon, noon) }, Entry{Member: node("a"), Current: key(2), VoidBefore: noon}, " void-before=2026-11-25T12:00:00Z"},
		"tombstone": {func(r *Registry) (*Registry, error) {
			return r.Put(Entry{Member: node("a"), Current: key(2), Revoked: true, ForgetAfter: noon.In(time.FixedZone("", 3600))})
		}, Entry{Member: node("a"), Current: key(2), Revoked: true, ForgetAfter: noon}, " - r forget-after=2026-11-25T12:00:00Z"},
	} {
		r, err := test.edit(start)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e, _ := r.Member(test.want.Member); e != test.want {
			t.Errorf("%s: %+v, want %+v", name, e, test.want)
		}
		text, _ := r.AppendText(nil)
		if !strings.Contains(string(text), test.line+"\n") {
			t.Errorf("%s: no line ends with %q\n%s", name, test.line, text)
		}
		back, err := ParseRegistry(r.Version(), text)
		if err != nil || back.Digest() != r.Digest() {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if e, _ := back.Member(test.want.Member); e != test.want {
			t.Errorf("%s: read back %+v, want %+v", name, e, test.want)
		}
	}
}

// B73, A77: nobody is locked out at one stroke, and nothing that was refused is admitted again.
func TestGuards(t *testing.T) {
	r, err := NewRegistry(Version{1, 1}, []Entry{
		{Member: control("c"), Current: key(1), Privileged: true},
		{Member: node("a"), Current: key(2), VoidBefore: noon.Add(-time.Hour)},
		{Member: node("gone"), Current: key(3), Revoked: true, ForgetAfter: noon},
		{Member: node("never"), Current: key(4), Revoked: true},
	}, Cutoff{Node, noon.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Add(Entry{Member: control("d"), Current: key(5), Pin: leaf(1), NextPin: leaf(2)})
	if err != nil {
		t.Fatal(err)
	}
	cd := []Entry{{Member: control("c"), Current: key(1), Privileged: true, VoidBefore: noon}, {Member: control("d"), Current: key(5), Pin: leaf(1)}}
	for name, test := range map[string]struct {
		edit func() (*Registry, error)
		want error
	}{
		"demote the last privileged":  {func() (*Registry, error) { return r.SetPrivileged(control("c"), false) }, ErrLockout},
		"remove the last privileged":  {func() (*Registry, error) { return two.Revoke(control("c")) }, ErrLockout},
		"cut off the only control":    {func() (*Registry, error) { return r.VoidBefore(control("c"), noon, noon) }, ErrLockout},
		"pin the only control":        {func() (*Registry, error) { return r.SetPins(control("c"), leaf(1), Certificate{}) }, ErrLockout},
		"cut off all control":         {func() (*Registry, error) { return two.VoidRole(Cutoff{Control, noon}, noon) }, ErrLockout},
		"narrow both control":         {func() (*Registry, error) { return two.Put(cd...) }, ErrLockout},
		"cut off one of two control":  {func() (*Registry, error) { return two.Put(cd[0]) }, nil},
		"take a pin of one of two":    {func() (*Registry, error) { return two.Put(cd[1]) }, nil},
		"cut off in the future":       {func() (*Registry, error) { return r.VoidBefore(node("a"), noon.Add(1), noon) }, ErrNotYet},
		"cut off nodes in the future": {func() (*Registry, error) { return r.VoidRole(Cutoff{Node, noon.Add(1)}, noon) }, ErrNotYet},
		"cut off earlier":             {func() (*Registry, error) { return r.VoidBefore(node("a"), noon.Add(-2*time.Hour), noon) }, ErrTakenBack},
		"cut off no more":             {func() (*Registry, error) { return r.Put(Entry{Member: node("a"), Current: key(2)}) }, ErrTakenBack},
		"cut off nodes earlier":       {func() (*Registry, error) { return r.VoidRole(Cutoff{Node, noon.Add(-2 * time.Hour)}, noon) }, ErrTakenBack},
		"cut off nodes later":         {func() (*Registry, error) { return r.VoidRole(Cutoff{Node, noon}, noon) }, nil},
		"pin a tombstone":             {func() (*Registry, error) { return r.SetPins(node("gone"), leaf(1), Certificate{}) }, ErrNotListed},
		"cut off a tombstone":         {func() (*Registry, error) { return r.VoidBefore(node("gone"), noon, noon) }, ErrNotListed},
		"cut off nobody":              {func() (*Registry, error) { return r.VoidBefore(node("nobody"), noon, noon) }, ErrNotListed},
		"a tombstone ends later": {func() (*Registry, error) {
			return r.Put(Entry{Member: node("gone"), Current: key(3), Revoked: true, ForgetAfter: noon.Add(1e9)})
		}, nil},
		"a tombstone ends never": {func() (*Registry, error) { return r.Put(Entry{Member: node("gone"), Current: key(3), Revoked: true}) }, nil},
		"a tombstone ends earlier": {func() (*Registry, error) {
			return r.Put(Entry{Member: node("gone"), Current: key(3), Revoked: true, ForgetAfter: noon.Add(-1e9)})
		}, ErrTakenBack},
		"a tombstone ends after all": {func() (*Registry, error) {
			return r.Put(Entry{Member: node("never"), Current: key(4), Revoked: true, ForgetAfter: noon})
		}, ErrTakenBack},
		"a cut-off is not a whole time": {func() (*Registry, error) {
			return r.Put(Entry{Member: node("x"), Current: key(9), VoidBefore: noon.Add(1)})
		}, errAny},
		"no tombstone, yet an end": {func() (*Registry, error) { return r.Put(Entry{Member: node("x"), Current: key(9), ForgetAfter: noon}) }, errAny},
		"a next pin alone":         {func() (*Registry, error) { return r.SetPins(node("a"), Certificate{}, leaf(1)) }, errAny},
		"a pin twice":              {func() (*Registry, error) { return r.SetPins(node("a"), leaf(1), leaf(1)) }, errAny},
		"a cut-off of no role":     {func() (*Registry, error) { return r.VoidRole(Cutoff{"admin", noon}, noon) }, errAny},
		"two cut-offs of a role":   {func() (*Registry, error) { return NewRegistry(Version{}, nil, Cutoff{User, noon}, Cutoff{User, noon}) }, ErrDuplicate},
		"a cut-off at no time":     {func() (*Registry, error) { return NewRegistry(Version{}, nil, Cutoff{User, time.Time{}}) }, errAny},
	} {
		got, err := test.edit()
		if good := err == nil && test.want == nil || err != nil && (test.want == errAny || errors.Is(err, test.want)); !good || (got != nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	// A part of a second is rounded up: what begins in that second is from before.
	cut, err := r.VoidBefore(node("a"), noon.Add(-1), noon)
	if e, _ := cut.Member(node("a")); err != nil || !e.VoidBefore.Equal(noon) {
		t.Errorf("cut off at %v, %v", e.VoidBefore, err)
	}
	if list := cut.Cutoffs(); len(list) != 1 || list[0] != (Cutoff{Node, noon.Add(-time.Hour)}) {
		t.Errorf("an edit changed the role's cut-off: %v", list)
	}
}

var errAny = errors.New("any error")

// B69: a tombstone stands to its end and no longer; what has none stands for ever.
func TestForget(t *testing.T) {
	r := registry(t, Entry{Member: control("c"), Current: key(1)},
		Entry{Member: node("gone"), Current: key(3), Next: key(5), Revoked: true, ForgetAfter: noon},
		Entry{Member: node("never"), Current: key(4), Revoked: true})
	if kept, err := r.Forget(noon); err != nil || kept.Digest() != r.Digest() || kept.Version() != r.Version().Next() {
		t.Errorf("forgotten in its last second: %v", err)
	}
	later, err := r.Forget(noon.Add(1000 * time.Hour))
	if err != nil || later.Len() != 2 || check(later, node("gone"), key(3), Open) != Admitted || check(later, node("x"), key(5), Open) != Admitted || check(later, node("never"), key(4), Open) != Revoked {
		t.Fatalf("%d entries, %v", later.Len(), err)
	}
	if e, ok := later.Member(node("never")); !ok || !e.Revoked {
		t.Error("the other tombstone went too")
	}
	var none *Registry
	if empty, err := none.Forget(noon); err != nil || empty.Len() != 0 {
		t.Error(err)
	}
}

// A68: lines of the new fields are as strict as the others.
func TestOptionalText(t *testing.T) {
	const form = "clusterca registry 2\n"
	member := node("x").String() + " " + key(7).String() + " - "
	pin := " pin=" + leaf(1).String()
	const void, forget = " void-before=2026-11-25T12:00:00Z", " forget-after=2026-11-25T12:00:00Z"
	for name, good := range map[string]string{
		"all":          member + "r" + void + forget + pin + " next-pin=" + leaf(2).String(),
		"role cut off": "cutoff control 2026-11-25T12:00:00Z\ncutoff user 2026-11-25T12:00:00Z\n" + member + "-",
	} {
		if r, err := ParseRegistry(Version{1, 1}, []byte(form+good+"\n")); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if text, _ := r.AppendText(nil); string(text) != form+good+"\n" {
			t.Errorf("%s: %s", name, text)
		}
	}
	for name, bad := range map[string]string{
		"field twice":            member + "-" + void + void,
		"another order":          member + "-" + pin + void,
		"unknown field":          member + "- colour=red",
		"space at the end":       member + "- ",
		"two spaces":             member + "- " + void,
		"another zone":           member + "- void-before=2026-11-25T12:00:00+01:00",
		"part of a second":       member + "- void-before=2026-11-25T12:00:00.5Z",
		"30th of February":       member + "- void-before=2026-02-30T12:00:00Z",
		"before 1970":            member + "- void-before=1969-11-25T12:00:00Z",
		"no time":                member + "- void-before=",
		"end of no tombstone":    member + "-" + forget,
		"next pin alone":         member + "- next-pin=" + leaf(1).String(),
		"pin twice":              member + "-" + pin + " next-pin=" + leaf(1).String(),
		"pin of zeros":           member + "- pin=" + strings.Repeat("0", 64),
		"cut-off of no role":     "cutoff admin 2026-11-25T12:00:00Z",
		"cut-off twice":          "cutoff user 2026-11-25T12:00:00Z\ncutoff user 2026-11-25T12:00:01Z",
		"cut-offs in disorder":   "cutoff user 2026-11-25T12:00:00Z\ncutoff node 2026-11-25T12:00:00Z",
		"cut-off after a member": member + "-\ncutoff user 2026-11-25T12:00:00Z",
		"cut-off without a time": "cutoff user",
		"cut-off with more":      "cutoff user 2026-11-25T12:00:00Z -",
	} {
		if _, err := ParseRegistry(Version{1, 1}, []byte(form+bad+"\n")); !errors.Is(err, ErrRegistryText) && !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := ParseRegistry(Version{1, 1}, []byte("clusterca registry 3\n"))
	if err == nil || !strings.Contains(err.Error(), `"clusterca registry 3"`) {
		t.Errorf("an unknown form: %v", err)
	}
}
