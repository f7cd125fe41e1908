package fingerprint

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Role is what a member may be taken for. Roles cannot stand in for each other: every verifier states which it wants.
type Role string

// The roles. Control members run CA daemons; nodes are the cluster's daemons; users only ever act as clients.
const (
	Control Role = "control"
	Node    Role = "node"
	User    Role = "user"
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r == Control || r == Node || r == User }

// Identity is what a member's certificate names. It is comparable. Its text form is
// spiffe://<trust domain>/<role>/<id>, compared as the raw string (SPIFFE-ID §2). ID is held in plain form; in the
// text form bytes outside [A-Za-z0-9.-] are written _hh, since SPIFFE allows no percent-encoding there.
type Identity struct {
	Domain string
	Role   Role
	ID     string
}

const scheme = "spiffe://"

// ErrIdentity is wrapped by every refusal of an identity or a trust domain.
var ErrIdentity = errors.New("not an identity of a cluster")

// ParseIdentity reads the text form. Whatever String would not write is refused: there is one spelling for an
// identity. The error wraps ErrIdentity.
func ParseIdentity(uri string) (Identity, error) {
	if len(uri) > maxURI {
		return Identity{}, fmt.Errorf("fingerprint: identity of %d bytes, at most %d: %w", len(uri), maxURI, ErrIdentity)
	}
	rest, ok := strings.CutPrefix(uri, scheme)
	domain, path, ok2 := strings.Cut(rest, "/")
	role, segment, ok3 := strings.Cut(path, "/")
	if !ok || !ok2 || !ok3 {
		return Identity{}, fmt.Errorf("fingerprint: %q is not spiffe://<trust domain>/<role>/<id>: %w", uri, ErrIdentity)
	}
	id, err := unescape(segment)
	if err != nil {
		return Identity{}, fmt.Errorf("fingerprint: identity %q: %w", uri, err)
	}
	i := Identity{Domain: domain, Role: Role(role), ID: id}
	if err := i.Validate(); err != nil {
		return Identity{}, err
	}
	if i.String() != uri {
		return Identity{}, fmt.Errorf("fingerprint: %q is not spelled canonically, %q would be: %w", uri, i.String(), ErrIdentity)
	}
	return i, nil
}

// Validate says why i cannot be put into a certificate. The error wraps ErrIdentity.
func (i Identity) Validate() error {
	if err := validDomain(i.Domain); err != nil {
		return err
	}
	if !i.Role.Valid() {
		return fmt.Errorf("fingerprint: role %q is none of control, node, user: %w", i.Role, ErrIdentity)
	}
	switch segment := escape(i.ID); {
	case i.ID == "":
		return fmt.Errorf("fingerprint: empty id: %w", ErrIdentity)
	case len(segment) > maxID:
		return fmt.Errorf("fingerprint: id of %d bytes when written, at most %d: %w", len(segment), maxID, ErrIdentity)
	case segment == "." || segment == "..":
		return fmt.Errorf("fingerprint: id %q is a relative path: %w", i.ID, ErrIdentity)
	}
	return nil
}

// String is the text form.
func (i Identity) String() string {
	if i.IsZero() {
		return ""
	}
	return scheme + i.Domain + "/" + string(i.Role) + "/" + escape(i.ID)
}

// IsZero reports whether i names nobody.
func (i Identity) IsZero() bool { return i == Identity{} }

// Compare orders identities as their text forms are ordered bytewise, so that sorted identities are sorted lines
// (LC_ALL=C sort). It allocates nothing.
func (i Identity) Compare(j Identity) int {
	return cmp.Or(compareDomain(i.Domain, j.Domain), strings.Compare(string(i.Role), string(j.Role)), compareID(i.ID, j.ID))
}

// compareDomain lets the slash that ends a domain in a URI take part: it sorts after '-' and '.'.
func compareDomain(a, b string) int {
	n := min(len(a), len(b))
	if c := strings.Compare(a[:n], b[:n]); c != 0 || len(a) == len(b) {
		return c
	}
	if len(a) < len(b) {
		return cmp.Compare('/', b[n])
	}
	return cmp.Compare(a[n], '/')
}

// compareID compares what escape would write. The first byte that differs decides: an escaped byte counts as '_', and
// among escaped ones the hexadecimal digits keep the bytes' own order.
func compareID(a, b string) int {
	for n := range min(len(a), len(b)) {
		if a[n] != b[n] {
			return cmp.Or(cmp.Compare(first(a[n]), first(b[n])), cmp.Compare(a[n], b[n]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func first(c byte) byte {
	if plain(c) {
		return c
	}
	return '_'
}

// MarshalText gives the text form; nobody's is empty.
func (i Identity) MarshalText() ([]byte, error) {
	if i.IsZero() {
		return nil, nil
	}
	if err := i.Validate(); err != nil {
		return nil, err
	}
	return []byte(i.String()), nil
}

// UnmarshalText reads the text form; an empty one is nobody's.
func (i *Identity) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*i = Identity{}
		return nil
	}
	parsed, err := ParseIdentity(string(text))
	if err == nil {
		*i = parsed
	}
	return err
}

func plain(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '-'
}

func escape(id string) string {
	for i := range len(id) {
		if !plain(id[i]) {
			return string(appendEscaped(nil, []byte(id)))
		}
	}
	return id
}

func appendEscaped(b, id []byte) []byte {
	for _, c := range id {
		if plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '_', digits[c>>4], digits[c&15])
		}
	}
	return b
}

func unescape(segment string) (string, error) {
	if strings.IndexByte(segment, '_') < 0 {
		return segment, nil
	}
	b := make([]byte, 0, len(segment))
	for i := 0; i < len(segment); i++ {
		if segment[i] != '_' {
			b = append(b, segment[i])
			continue
		}
		if i+2 >= len(segment) {
			return "", fmt.Errorf("escape at the end is cut off: %w", ErrIdentity)
		}
		var c [1]byte
		if !unhex(c[:], segment[i+1:]) {
			return "", fmt.Errorf("_%s is not _hh in lower-case hexadecimal: %w", segment[i+1:i+3], ErrIdentity)
		}
		b = append(b, c[0])
		i += 2
	}
	return string(b), nil
}
