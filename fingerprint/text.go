package fingerprint

import (
	"bytes"
	"errors"
	"fmt"
)

// The text form of a registry: one line a member, sorted bytewise, fields separated by one space:
//
//	<identity> <current key> <next key or -> <flags or ->
//
// with the flags p (privileged) and r (revoked). It is canonical: one content has one text.

// ErrRegistryText is wrapped by every refusal of a registry's text form.
var ErrRegistryText = errors.New("not the text form of a registry")

// AppendText appends the text form to b; its SHA-256 is Digest. The error is always nil (encoding.TextAppender).
func (r *Registry) AppendText(b []byte) ([]byte, error) {
	for e := range r.Entries() {
		b = append(b, e.Member.String()...)
		b = append(b, ' ')
		b = append(b, e.Current.String()...)
		b = append(b, ' ')
		b = append(b, orDash(e.Next.String())...)
		b = append(b, ' ')
		b = append(b, flags(e)...)
		b = append(b, '\n')
	}
	return b, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func flags(e Entry) string {
	switch {
	case e.Privileged && e.Revoked:
		return "pr"
	case e.Privileged:
		return "p"
	case e.Revoked:
		return "r"
	}
	return "-"
}

// ParseRegistry reads the text form. The error wraps ErrRegistryText, ErrIdentity or ErrDuplicate and names the line.
func ParseRegistry(v Version, text []byte) (*Registry, error) {
	var entries []Entry
	for n, line := range lines(text) {
		if len(line) > maxLine || len(entries) >= maxEntries {
			return nil, fmt.Errorf("fingerprint: registry line %d: too long, or one too many: %w", n, ErrRegistryText)
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("fingerprint: registry line %d: %w", n, err)
		}
		entries = append(entries, e)
	}
	r, err := NewRegistry(v, entries)
	if err != nil {
		return nil, err
	}
	// Order and spelling: the digest is of the text, so nothing but the canonical text may have it.
	if canonical, _ := r.AppendText(nil); !bytes.Equal(canonical, text) {
		return nil, fmt.Errorf("fingerprint: registry lines are not in canonical order and spelling: %w", ErrRegistryText)
	}
	return r, nil
}

// lines yields numbered lines; a last line without its newline is caught by the canonical comparison.
func lines(text []byte) func(func(int, []byte) bool) {
	return func(yield func(int, []byte) bool) {
		n := 1
		for line := range bytes.Lines(text) {
			if !yield(n, bytes.TrimSuffix(line, []byte("\n"))) {
				return
			}
			n++
		}
	}
}

func parseEntry(line []byte) (Entry, error) {
	fields := bytes.Split(line, []byte(" "))
	if len(fields) != 4 {
		return Entry{}, fmt.Errorf("%d fields, want 4: %w", len(fields), ErrRegistryText)
	}
	var e Entry
	member, err := ParseIdentity(string(fields[0]))
	if err != nil {
		return Entry{}, err
	}
	e.Member = member
	if err := e.Current.UnmarshalText(fields[1]); err != nil {
		return Entry{}, fmt.Errorf("current key: %w: %w", ErrRegistryText, err)
	}
	if e.Current.IsZero() {
		return Entry{}, fmt.Errorf("no current key: %w", ErrRegistryText)
	}
	if string(fields[2]) != "-" {
		if err := e.Next.UnmarshalText(fields[2]); err != nil {
			return Entry{}, fmt.Errorf("next key: %w: %w", ErrRegistryText, err)
		}
	}
	switch string(fields[3]) {
	case "-":
	case "p":
		e.Privileged = true
	case "r":
		e.Revoked = true
	case "pr":
		e.Privileged, e.Revoked = true, true
	default:
		return Entry{}, fmt.Errorf("flags %q: %w", fields[3], ErrRegistryText)
	}
	return e, nil
}
