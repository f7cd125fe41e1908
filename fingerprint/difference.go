package fingerprint

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// A difference is text too: what to do to the lines of one registry to get those of another, in their order, so that a
// change of one of a million entries is one line and not 130 MB.
//
//	clusterca registry difference 2
//	+<line>        instead of the line of that member, or of that role's cut-off, or a new one
//	-<identity>    or -cutoff <role>: the line goes
const differenceForm = "clusterca registry difference 2"

// ErrDifference is wrapped when a difference does not lead to the registry that was signed: it starts from another one.
// Ask for the whole list.
var ErrDifference = errors.New("difference leads to another registry")

// Difference is the text that leads from one registry to another: see [Registry.Apply]. A nil registry is empty.
func Difference(from, to *Registry) []byte {
	if from == nil {
		from = &Registry{}
	}
	if to == nil {
		to = &Registry{}
	}
	b := []byte(differenceForm + "\n")
	for n, role := range roles {
		switch old, seconds := from.cutoffs[n], to.cutoffs[n]; {
		case old == seconds:
		case seconds == 0:
			b = append(b, "-"+cutoffWord+string(role)+"\n"...)
		default:
			b = appendCutoff(append(b, '+'), role, seconds)
		}
	}
	return appendChanges(b, &from.packed, &to.packed)
}

// appendChanges walks along both lists, which are in one order.
func appendChanges(b []byte, from, to *packed) []byte {
	same := sameKinds(from, to)
	i, j := 0, 0
	for i < len(from.records) || j < len(to.records) {
		old, afterOld := from.readUpTo(i)
		now, afterNow := to.readUpTo(j)
		order := 0
		switch {
		case i == len(from.records):
			order = 1
		case j == len(to.records):
			order = -1
		case same[old.kind] != int(now.kind) || !bytes.Equal(old.id, now.id) || (old.flags^now.flags)&isUUID != 0:
			order = from.identity(old).Compare(to.identity(now))
		case old.flags == now.flags && bytes.Equal(old.fields, now.fields):
			i, j = afterOld, afterNow
			continue
		}
		if order >= 0 {
			b = to.appendLine(append(b, '+'), now)
			j = afterNow
		}
		if order < 0 {
			b = append(append(append(b, '-'), from.identity(old).String()...), '\n')
		}
		if order <= 0 {
			i = afterOld
		}
	}
	return b
}

// sameKinds says which kind of the one list is which of the other; -1 for those that it lacks.
func sameKinds(from, to *packed) []int {
	same := make([]int, len(from.kinds))
	for n, k := range from.kinds {
		same[n] = slices.Index(to.kinds, k)
	}
	return same
}

// readUpTo is read, and nothing at the end.
func (p *packed) readUpTo(at int) (record, int) {
	if at == len(p.records) {
		return record{}, at
	}
	return p.read(at)
}

// Apply returns the registry of version v to which text leads, if its digest is the one given, which somebody has signed.
// The text is a difference, or that of a whole registry, which leads there from anywhere. A difference costs one pass over
// the registry. The error wraps ErrRegistryText, ErrIdentity or ErrDuplicate for a text that is none or is not the one that
// was signed, and ErrDifference when another registry comes out of a difference.
func (r *Registry) Apply(v Version, text []byte, digest [sha256.Size]byte) (*Registry, error) {
	if !bytes.HasPrefix(text, []byte(differenceForm[:len(differenceForm)-1])) {
		return applyWhole(v, text, digest)
	}
	if r == nil {
		r = &Registry{}
	}
	next, err := r.apply(v, text, digest)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: difference after registry %v: %w", r.version, err)
	}
	return next, nil
}

func applyWhole(v Version, text []byte, digest [sha256.Size]byte) (*Registry, error) {
	if sha256.Sum256(text) != digest {
		return nil, fmt.Errorf("fingerprint: registry %v: the lines are not those of the digest: %w", v, ErrRegistryText)
	}
	return ParseRegistry(v, text)
}

func (r *Registry) apply(v Version, difference []byte, digest [sha256.Size]byte) (*Registry, error) {
	b, err := r.changed(difference)
	if err != nil {
		return nil, err
	}
	// The digest first: from another base than the one meant, anything may come out, a key twice for example.
	if b.digestText() != digest {
		return nil, ErrDifference
	}
	if err := countable(b.count); err != nil {
		return nil, err
	}
	return b.registry(v, digest)
}

// changed makes what a difference says of r.
func (r *Registry) changed(difference []byte) (*builder, error) {
	rest, err := afterForm(difference, differenceForm)
	if err != nil {
		return nil, err
	}
	c := changes{base: r, cutoffs: r.cutoffs, lines: lineParser{builder: newBuilder(0)}}
	if err := eachLine(rest, c.line); err != nil {
		return nil, err
	}
	return r.merged(c.places, c.cutoffs), nil
}

// changes are what a difference says.
type changes struct {
	base    *Registry
	cutoffs [len(roles)]int64
	places  []place
	lines   lineParser // of the lines that are put
}

func (c *changes) line(line []byte) error {
	if len(line) == 0 {
		return fmt.Errorf("empty: %w", ErrRegistryText)
	}
	sign, line := line[0], line[1:]
	word, isCutoff := bytes.CutPrefix(line, []byte(cutoffWord))
	switch {
	case sign == '+' && isCutoff:
		return c.cut(line)
	case sign == '+':
		return c.put(line)
	case sign == '-' && isCutoff:
		return c.uncut(Role(word))
	case sign == '-':
		return c.remove(line)
	}
	return fmt.Errorf("it begins with neither + nor -: %w", ErrRegistryText)
}

func (c *changes) cut(line []byte) error {
	if err := c.lines.line(line); err != nil {
		return err
	}
	for n, seconds := range c.lines.cutoffs {
		if seconds != 0 {
			c.cutoffs[n] = seconds
		}
	}
	return nil
}

func (c *changes) uncut(role Role) error {
	n := slices.Index(roles[:], role)
	if n < 0 || len(c.places) > 0 {
		return fmt.Errorf("cut-off of role %q: %w", role[:min(len(role), 80)], ErrRegistryText)
	}
	c.cutoffs[n] = 0
	return nil
}

func (c *changes) put(line []byte) error {
	begins := len(c.lines.records)
	if err := c.lines.line(line); err != nil {
		return err
	}
	rec, _ := c.lines.read(begins)
	e := c.lines.entry(rec)
	c.places = append(c.places, c.base.place(e.Member, &e))
	return nil
}

func (c *changes) remove(identity []byte) error {
	if err := c.lines.follow(identity); err != nil {
		return err
	}
	id, err := ParseIdentity(string(identity))
	if err != nil {
		return err
	}
	c.places = append(c.places, c.base.place(id, nil))
	return nil
}
