package fingerprint

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// The text form of a registry: a line that names the form, then one line a member, all sorted bytewise, fields separated
// by one space:
//
//	clusterca registry 2
//	<identity> <current key> <next key or -> <flags or ->
//
// with the flags p (privileged) and r (revoked). It is canonical: one content has one text.
const textForm = "clusterca registry 2"

// ErrRegistryText is wrapped by every refusal of a registry's text form.
var ErrRegistryText = errors.New("not the text form of a registry")

var emptyDigest = sha256.Sum256([]byte(textForm + "\n"))

// AppendText appends the text form to b; its SHA-256 is Digest. The error is always nil (encoding.TextAppender).
func (r *Registry) AppendText(b []byte) ([]byte, error) {
	b = append(b, textForm+"\n"...)
	if r == nil {
		return b, nil
	}
	for _, rec := range r.all() {
		b = r.appendLine(b, rec)
	}
	return b, nil
}

// digestText hashes the text form piece by piece: a million lines are 130 MB.
func (p *packed) digestText() [sha256.Size]byte {
	h := sha256.New()
	b := append(make([]byte, 0, 64<<10), textForm+"\n"...)
	for _, rec := range p.all() {
		if cap(b)-len(b) < maxLine {
			h.Write(b)
			b = b[:0]
		}
		b = p.appendLine(b, rec)
	}
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

func (p *packed) appendLine(b []byte, r record) []byte {
	b = append(b, p.kinds[r.kind].prefix...)
	if r.flags&isUUID != 0 {
		b = appendUUID(b, r.id)
	} else {
		b = appendEscaped(b, r.id)
	}
	b = append(b, ' ')
	b = appendHex(b, r.current())
	b = append(b, ' ')
	if next := r.field(hasNext); next != nil {
		b = appendHex(b, next)
	} else {
		b = append(b, '-')
	}
	b = append(b, ' ')
	b = append(b, flagText[r.flags&(isPrivileged|isRevoked)]...)
	return append(b, '\n')
}

// flagText is how flags are written.
var flagText = [...]string{0: "-", isPrivileged: "p", isRevoked: "r", isPrivileged | isRevoked: "pr"}

// ParseRegistry reads the text form, and nothing else. The error wraps ErrRegistryText, ErrIdentity or ErrDuplicate and
// names the line, or the members.
func ParseRegistry(v Version, text []byte) (*Registry, error) {
	rest, err := afterForm(text)
	if err != nil {
		return nil, err
	}
	var digest [sha256.Size]byte
	var hashing sync.WaitGroup
	hashing.Go(func() { digest = sha256.Sum256(text) })
	b, err := parseLines(rest)
	hashing.Wait()
	if err != nil {
		return nil, err
	}
	return b.registry(v, digest)
}

func parseLines(rest []byte) (*builder, error) {
	b := newBuilder(min(bytes.Count(rest, []byte("\n")), maxEntries))
	p := lineParser{builder: b}
	for n := 2; len(rest) > 0; n++ {
		var err error
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end < 0:
			err = fmt.Errorf("it does not end with a newline: %w", ErrRegistryText)
		case end > maxLine:
			err = fmt.Errorf("%d bytes, at most %d: %w", end, maxLine, ErrRegistryText)
		case b.count >= maxEntries:
			err = fmt.Errorf("more than %d entries: %w", maxEntries, ErrRegistryText)
		default:
			err = p.line(rest[:end])
		}
		if err != nil {
			return nil, fmt.Errorf("fingerprint: registry line %d: %w", n, err)
		}
		rest = rest[end+1:]
	}
	return b, nil
}

// afterForm is what follows the line that names the form.
func afterForm(text []byte) ([]byte, error) {
	first, rest, ok := bytes.Cut(text, []byte("\n"))
	switch number, ours := bytes.CutPrefix(first, []byte("clusterca registry ")); {
	case !ok || !ours:
		return nil, fmt.Errorf("fingerprint: registry text does not begin with the line %q: %w", textForm, ErrRegistryText)
	case string(first) != textForm:
		return nil, fmt.Errorf("fingerprint: registry text of form %q, this program reads %q: use one as new as the one that wrote it: %w",
			number[:min(len(number), 16)], textForm, ErrRegistryText)
	}
	return rest, nil
}

// lineParser reads lines into a builder. Members of one domain and role follow each other: what was seen of their
// identities is not looked at again.
type lineParser struct {
	*builder
	last   []byte // the identity before
	kind   uint32
	prefix string // of that kind
}

func (p *lineParser) line(line []byte) error {
	var fields [4][]byte
	for i := range fields {
		var more bool
		fields[i], line, more = bytes.Cut(line, []byte(" "))
		if more != (i < len(fields)-1) {
			return fmt.Errorf("want %d fields, separated by one space: %w", len(fields), ErrRegistryText)
		}
	}
	switch order := bytes.Compare(p.last, fields[0]); {
	case order == 0:
		return fmt.Errorf("member %q: %w", fields[0], ErrDuplicate)
	case order > 0:
		return fmt.Errorf("%q comes after %q, the lines are not sorted: %w", fields[0], p.last, ErrRegistryText)
	}
	p.last = fields[0]
	flags, ok := parseFlags(fields[3])
	if !ok {
		return fmt.Errorf("flags %q: %w", fields[3], ErrRegistryText)
	}
	if string(fields[2]) != "-" {
		flags |= hasNext
	}
	if err := p.member(flags, fields[0]); err != nil {
		return err
	}
	if err := p.key(fields[1]); err != nil {
		return fmt.Errorf("current key: %w", err)
	}
	if flags&hasNext != 0 {
		if bytes.Equal(fields[1], fields[2]) {
			return fmt.Errorf("key %s as current and next: %w", fields[1], ErrDuplicate)
		}
		if err := p.key(fields[2]); err != nil {
			return fmt.Errorf("next key: %w", err)
		}
	}
	return nil
}

func parseFlags(field []byte) (byte, bool) {
	for flags, text := range flagText {
		if string(field) == text {
			return byte(flags), true
		}
	}
	return 0, false
}

// member begins the record of an identity.
func (p *lineParser) member(flags byte, identity []byte) error {
	segment, seen := bytes.CutPrefix(identity, []byte(p.prefix))
	if seen = seen && p.prefix != ""; seen && len(segment) == uuidText {
		var uuid [uuidSize]byte
		if parseUUID(uuid[:], segment) {
			p.begin(flags|isUUID, p.kind)
			p.records = append(p.records, uuid[:]...)
			return nil
		}
	}
	if !seen || !plainID(segment) {
		id, err := ParseIdentity(string(identity))
		if err != nil {
			return err
		}
		p.kind = p.builder.kind(id.Domain, id.Role)
		p.prefix = p.kinds[p.kind].prefix
		p.beginID(flags, p.kind, id.ID)
		return nil
	}
	p.begin(flags, p.kind)
	p.records = append(p.records, byte(len(segment)))
	p.records = append(p.records, segment...)
	return nil
}

// plainID reports whether a segment is an id that is written as it is.
func plainID(segment []byte) bool {
	for _, c := range segment {
		if !plain(c) {
			return false
		}
	}
	return len(segment) > 0 && len(segment) <= maxID && string(segment) != "." && string(segment) != ".."
}

func (p *lineParser) key(field []byte) error {
	var k Key
	if len(field) != 2*len(k) || !unhex(k[:], field) || k.IsZero() {
		return fmt.Errorf("%q is not %d lower-case hexadecimal digits that are not all zero: %w", field[:min(len(field), 80)], 2*len(k), ErrRegistryText)
	}
	p.records = append(p.records, k[:]...)
	return nil
}
