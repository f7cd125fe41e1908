package fingerprint

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The text form of a registry: a line that names the form, a line for each role that has a cut-off, a line for each
// member, all sorted bytewise, fields separated by one space:
//
//	clusterca registry 2
//	cutoff <role> <time>
//	<identity> <current key> <next key or -> <flags or -> [void-before=<time>] [forget-after=<time>] [pin=<certificate>] [next-pin=<certificate>]
//
// with the flags p (privileged) and r (revoked), and times as 2006-01-02T15:04:05Z. It is canonical: one content has one
// text.
const textForm = "clusterca registry 2"

// ErrRegistryText is wrapped by every refusal of a registry's text form.
var ErrRegistryText = errors.New("not the text form of a registry")

var emptyDigest = sha256.Sum256([]byte(textForm + "\n"))

const timeForm = "2006-01-02T15:04:05Z"

// optional are the fields that follow the flags, in their order.
var optional = [...]struct {
	name string
	flag byte
}{
	{"void-before=", hasVoid},
	{"forget-after=", hasForget},
	{"pin=", hasPin},
	{"next-pin=", hasNextPin},
}

// AppendText appends the text form to b; its SHA-256 is Digest. The error is always nil (encoding.TextAppender).
func (r *Registry) AppendText(b []byte) ([]byte, error) {
	if r == nil {
		r = &Registry{}
	}
	b = r.appendHead(b)
	for _, rec := range r.all() {
		b = r.appendLine(b, rec)
	}
	return b, nil
}

// digestText hashes the text form piece by piece: a million lines are 130 MB.
func (p *packed) digestText() [sha256.Size]byte {
	h := sha256.New()
	b := p.appendHead(make([]byte, 0, 64<<10))
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

// appendHead appends what stands before the first member.
func (p *packed) appendHead(b []byte) []byte {
	b = append(b, textForm+"\n"...)
	for n, seconds := range p.cutoffs {
		if seconds != 0 {
			b = appendCutoff(b, roles[n], seconds)
		}
	}
	return b
}

func appendCutoff(b []byte, role Role, seconds int64) []byte {
	b = append(b, cutoffWord+string(role)+" "...)
	return append(time.Unix(seconds, 0).UTC().AppendFormat(b, timeForm), '\n')
}

const cutoffWord = "cutoff "

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
	for _, o := range optional {
		switch field := r.field(o.flag); {
		case field == nil:
			continue
		case len(field) == timeSize:
			b = append(append(b, ' '), o.name...)
			b = r.time(o.flag).AppendFormat(b, timeForm)
		default:
			b = append(append(b, ' '), o.name...)
			b = appendHex(b, field)
		}
	}
	return append(b, '\n')
}

// flagText is how flags are written.
var flagText = [...]string{0: "-", isPrivileged: "p", isRevoked: "r", isPrivileged | isRevoked: "pr"}

// ParseRegistry reads the text form, and nothing else. The error wraps ErrRegistryText, ErrIdentity or ErrDuplicate and
// names the line, or the members.
func ParseRegistry(v Version, text []byte) (*Registry, error) {
	rest, err := afterForm(text, textForm)
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
	if err := eachLine(rest, p.line); err != nil {
		return nil, fmt.Errorf("fingerprint: registry: %w", err)
	}
	return b, nil
}

// eachLine hands over the lines after the first.
func eachLine(rest []byte, take func([]byte) error) error {
	for n := 2; len(rest) > 0; n++ {
		var err error
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end < 0:
			err = fmt.Errorf("it does not end with a newline: %w", ErrRegistryText)
		case end > maxLine:
			err = fmt.Errorf("%d bytes, at most %d: %w", end, maxLine, ErrRegistryText)
		case n > maxEntries+len(roles)+1:
			err = fmt.Errorf("more than %d entries: %w", maxEntries, ErrRegistryText)
		default:
			err = take(rest[:end])
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		rest = rest[end+1:]
	}
	return nil
}

// afterForm is what follows the line that names the form, whose last word is its number.
func afterForm(text []byte, form string) ([]byte, error) {
	first, rest, ok := bytes.Cut(text, []byte("\n"))
	at := strings.LastIndexByte(form, ' ') + 1
	switch number, ours := bytes.CutPrefix(first, []byte(form[:at])); {
	case !ok || !ours || bytes.IndexByte(number, ' ') >= 0:
		return nil, fmt.Errorf("fingerprint: text does not begin with the line %q: %w", form, ErrRegistryText)
	case string(number) != form[at:]:
		return nil, fmt.Errorf("fingerprint: text of form %q, this program reads %q: use one as new as the one that wrote it: %w", cut(first), form, ErrRegistryText)
	}
	return rest, nil
}
