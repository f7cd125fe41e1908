package fingerprint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// lineParser reads lines into a builder. Members of one domain and role follow each other: what was seen of their
// identities is not looked at again.
type lineParser struct {
	*builder
	last   []byte // the identity before
	kind   uint32
	prefix string // of that kind
}

func (p *lineParser) line(line []byte) error {
	if p.count == 0 && bytes.HasPrefix(line, []byte(cutoffWord)) {
		return p.cutoff(line)
	}
	var fields [4][]byte
	more := true
	for i := range fields {
		if !more {
			return fmt.Errorf("%d fields, separated by one space, at least %d are wanted: %w", i, len(fields), ErrRegistryText)
		}
		fields[i], line, more = bytes.Cut(line, []byte(" "))
	}
	begins, err := p.member(fields[0])
	if err != nil {
		return err
	}
	flags := slices.Index(flagText[:], string(fields[3]))
	if flags < 0 {
		return fmt.Errorf("flags %q: %w", cut(fields[3]), ErrRegistryText)
	}
	p.records[begins] |= byte(flags)
	if err := p.keys(begins, fields[1], fields[2]); err != nil {
		return err
	}
	if more {
		return p.optional(begins, line)
	}
	return nil
}

// cutoff reads that of a role.
func (p *lineParser) cutoff(line []byte) error {
	role, text, _ := bytes.Cut(line[len(cutoffWord):], []byte(" "))
	before, ok := parseTime(text)
	if !ok {
		return fmt.Errorf("time %q is not one such as %s: %w", cut(text), timeForm, ErrRegistryText)
	}
	if bytes.Compare(p.last, line) >= 0 {
		return fmt.Errorf("cut-off of role %q is not in order: %w", cut(role), ErrRegistryText)
	}
	p.last = line
	if err := p.cut(Cutoff{Role(role), before}); err != nil {
		return fmt.Errorf("%w: %w", ErrRegistryText, err)
	}
	return nil
}

// member begins the record of an identity, and says where.
func (p *lineParser) member(identity []byte) (int, error) {
	if err := p.follow(identity); err != nil {
		return 0, err
	}
	begins := len(p.records)
	segment, seen := bytes.CutPrefix(identity, []byte(p.prefix))
	var uuid [uuidSize]byte
	switch seen = seen && p.prefix != ""; {
	case seen && parseUUID(uuid[:], segment):
		p.begin(isUUID, p.kind)
		p.records = append(p.records, uuid[:]...)
	case seen && plainID(segment):
		p.begin(0, p.kind)
		p.records = append(p.records, byte(len(segment)))
		p.records = append(p.records, segment...)
	default:
		id, err := ParseIdentity(string(identity))
		if err != nil {
			return 0, err
		}
		p.kind = p.builder.kind(id.Domain, id.Role)
		p.prefix = p.kinds[p.kind].prefix
		p.beginID(0, p.kind, id.ID)
	}
	return begins, nil
}

// follow checks that an identity comes after the one before.
func (p *lineParser) follow(identity []byte) error {
	switch order := bytes.Compare(p.last, identity); {
	case order == 0:
		return fmt.Errorf("member %q: %w", cut(identity), ErrDuplicate)
	case order > 0:
		return fmt.Errorf("%q comes after %q, the lines are not sorted: %w", cut(identity), cut(p.last), ErrRegistryText)
	}
	p.last = identity
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

func (p *lineParser) keys(begins int, current, next []byte) error {
	if err := p.sum("current key", current); err != nil {
		return err
	}
	switch {
	case string(next) == "-":
		return nil
	case bytes.Equal(current, next):
		return fmt.Errorf("key %s as current and next: %w", current, ErrDuplicate)
	}
	p.records[begins] |= hasNext
	return p.sum("next key", next)
}

func (p *lineParser) sum(what string, field []byte) error {
	var sum [sumSize]byte
	if len(field) != 2*sumSize || !unhex(sum[:], field) || sum == [sumSize]byte{} {
		return fmt.Errorf("%s %q is not %d lower-case hexadecimal digits that are not all zero: %w", what, cut(field), 2*sumSize, ErrRegistryText)
	}
	p.records = append(p.records, sum[:]...)
	return nil
}

// optional reads what follows the flags: each field at most once, in order.
func (p *lineParser) optional(begins int, line []byte) error {
	fields := bytes.Split(line, []byte(" "))
	for _, o := range optional {
		value, ok := bytes.CutPrefix(fields[0], []byte(o.name))
		if !ok {
			continue
		}
		p.records[begins] |= o.flag
		if o.flag == hasVoid || o.flag == hasForget {
			t, ok := parseTime(value)
			if !ok {
				return fmt.Errorf("%s%q is not a time such as %s: %w", o.name, cut(value), timeForm, ErrRegistryText)
			}
			p.records = binary.BigEndian.AppendUint64(p.records, uint64(t.Unix()))
		} else if err := p.sum(o.name, value); err != nil {
			return err
		}
		if fields = fields[1:]; len(fields) == 0 {
			return p.sensible(begins)
		}
	}
	return fmt.Errorf("field %q is unknown, there twice, or not in order: %w", cut(fields[0]), ErrRegistryText)
}

// sensible refuses optional fields that NewRegistry would refuse.
func (p *lineParser) sensible(begins int) error {
	r, _ := p.read(begins)
	e := p.entry(r)
	if err := e.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrRegistryText, err)
	}
	return nil
}

// parseTime reads a time as it is written, and in no other way.
func parseTime(text []byte) (time.Time, bool) {
	t, err := time.Parse(timeForm, string(text))
	return t, err == nil && writable(t) && t.Format(timeForm) == string(text)
}

// cut keeps a stranger's words short in our errors.
func cut(b []byte) []byte { return b[:min(len(b), 80)] }
