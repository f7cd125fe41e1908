package fingerprint

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version numbers a trust state or a registry. Term grows only when a store was restored; Number grows with every
// commit. Versions are ordered as a pair and never used again. The text form is "term.number".
type Version struct {
	Term   uint64
	Number uint64
}

// Compare orders versions, term first.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Term, w.Term), cmp.Compare(v.Number, w.Number))
}

// Less reports whether v comes before w.
func (v Version) Less(w Version) bool { return v.Compare(w) < 0 }

// IsZero reports whether v is before every version in use.
func (v Version) IsZero() bool { return v == Version{} }

// Next is the version after v in the same term.
func (v Version) Next() Version { return Version{v.Term, v.Number + 1} }

// String is the text form.
func (v Version) String() string {
	return strconv.FormatUint(v.Term, 10) + "." + strconv.FormatUint(v.Number, 10)
}

// ParseVersion reads the text form, and nothing else.
func ParseVersion(s string) (Version, error) {
	term, number, ok := strings.Cut(s, ".")
	t, err1 := strconv.ParseUint(term, 10, 64)
	n, err2 := strconv.ParseUint(number, 10, 64)
	v := Version{t, n}
	if !ok || err1 != nil || err2 != nil || v.String() != s {
		return Version{}, fmt.Errorf("fingerprint: %q is not a version such as 1.17", s)
	}
	return v, nil
}

// MarshalText gives the text form.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the text form.
func (v *Version) UnmarshalText(b []byte) error {
	parsed, err := ParseVersion(string(b))
	if err == nil {
		*v = parsed
	}
	return err
}
