package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
	"github.com/clusterca/clusterca/keystore"
)

// Phase is where a rollover stands.
type Phase string

// The phases, in order. Every change of phase is one commit.
const (
	Settled Phase = "settled" // exactly one root is trusted, and it signs
	Trust   Phase = "trust"   // the new root is trusted, the old one still signs
	Switch  Phase = "switch"  // the new root signs, both are trusted
	Drop    Phase = "drop"    // only the new root is trusted
)

// Bundle is the trust state: the one numbered value that says what is trusted and which root signs. What the CA
// commits and what members hold are the same bytes. A Bundle is never changed after it was made; copy it with Clone.
type Bundle struct {
	Cluster     fingerprint.ClusterID  `json:"cluster"`
	Version     fingerprint.Version    `json:"version"` // term and epoch
	Phase       Phase                  `json:"phase"`
	Roots       []Root                 `json:"roots"`          // trusted now, in order of generation
	Signer      int                    `json:"signer"`         // generation of the root that signs leaves in this epoch
	From        int                    `json:"from,omitempty"` // generations at the two ends of the rollover that runs, 0 when settled
	To          int                    `json:"to,omitempty"`
	Generations int                    `json:"generations"` // roots ever begun; never goes back
	Retired     []fingerprint.Key      `json:"retired,omitempty"`
	Waivers     []Waiver               `json:"waivers,omitempty"`
	Debts       []fingerprint.Identity `json:"debts,omitempty"`
	Pending     *Intent                `json:"pending,omitempty"` // at most one further rollover that was asked for
	Control     []Controller           `json:"control"`
	Rules       Rules                  `json:"rules"`
	Issued      time.Time              `json:"issued"`
	FreshUntil  time.Time              `json:"fresh_until"`
	Previous    Digest                 `json:"previous"` // digest of the state before this one

	digest       Digest              // of the payload that it was parsed from; zero when it was made here
	certificates []*x509.Certificate // of Roots, when it was parsed
}

// ErrMalformed is wrapped when a document is not what it must be, whoever signed it.
var ErrMalformed = errors.New("malformed")

// Root is one trusted root, with what belongs to it.
type Root struct {
	Generation  int             `json:"generation"`
	Key         fingerprint.Key `json:"key"`
	Certificate []byte          `json:"certificate"`      // DER
	Bridge      []byte          `json:"bridge,omitempty"` // new-with-old: this root's key, certified by the root before it; DER
	Canary      []byte          `json:"canary,omitempty"` // a leaf that proves the root to a verifier; its key was thrown away; DER
}

// Intent is a rollover that was asked for: it names the key before the key is made.
type Intent struct {
	Generation int                `json:"generation"`
	Algorithm  keystore.Algorithm `json:"algorithm"`
	Label      string             `json:"label"` // of the root key in the CA's keystore
}

// Waiver lets the guards pass a member that will not answer, until Until. A waiver that was used becomes a debt.
type Waiver struct {
	Member   fingerprint.Identity `json:"member"`
	Operator string               `json:"operator"`
	Reason   string               `json:"reason"`
	Until    time.Time            `json:"until"`
}

// Controller is a control member: always listed, so its keys stand in the bundle itself.
type Controller struct {
	Member    fingerprint.Identity `json:"member"`
	Current   fingerprint.Key      `json:"current"`
	Next      fingerprint.Key      `json:"next,omitzero"`
	Document  fingerprint.Key      `json:"document"`  // key of its document signer
	Documents [][]byte             `json:"documents"` // certificates of that key, one for each trusted root; DER
}

// Rules say, for each role that has a choice, whether a chain is enough (Open) or the key must be in the registry too
// (Listed). Control members are always listed. Both must be said: a state without them does not parse.
type Rules struct {
	Node fingerprint.Rule `json:"node"`
	User fingerprint.Rule `json:"user"`
}

// Encode gives the payload of the bundle: the bytes that are committed, signed and named by the digest. One state has
// one payload, whatever time zone its dates came in. It does not judge the state: ParseBundle does, and whoever commits
// parses first. The error wraps ErrMalformed when a name in it cannot be written or it is too large.
func (b *Bundle) Encode() ([]byte, error) {
	c := b.Clone()
	c.Issued, c.FreshUntil = b.Issued.UTC(), b.FreshUntil.UTC()
	for i := range c.Waivers {
		c.Waivers[i].Until = c.Waivers[i].Until.UTC()
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("verify: encode state %v: %w: %w", b.Version, ErrMalformed, err)
	}
	if len(payload) > maxBundle {
		return nil, fmt.Errorf("verify: encode state %v: %d bytes, at most %d: end waivers and debts: %w", b.Version, len(payload), maxBundle, ErrMalformed)
	}
	return payload, nil
}

// ParseBundle reads a payload. Whatever Encode would not write, and every state that cannot be, is refused with an
// error that wraps ErrMalformed. It says nothing about who made it: see Advance.
func ParseBundle(payload []byte) (*Bundle, error) {
	if len(payload) > maxBundle {
		return nil, fmt.Errorf("verify: trust state of %d bytes, at most %d: %w", len(payload), maxBundle, ErrMalformed)
	}
	b := new(Bundle)
	if err := dsse.Decode(payload, b); err != nil {
		return nil, fmt.Errorf("verify: trust state: %w: %w", ErrMalformed, err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("verify: trust state %v: %w: %w", b.Version, ErrMalformed, err)
	}
	if again, err := b.Encode(); err != nil || !bytes.Equal(again, payload) {
		return nil, fmt.Errorf("verify: trust state %v is not in canonical form: %w", b.Version, ErrMalformed)
	}
	b.digest = DigestOf(payload)
	return b, nil
}

// Digest names the bundle: the digest of its payload. It is zero for one that has no payload, see Encode.
func (b *Bundle) Digest() Digest {
	if b.digest != (Digest{}) {
		return b.digest
	}
	payload, err := b.Encode()
	if err != nil {
		return Digest{}
	}
	return DigestOf(payload)
}

// Clone copies the bundle, so that the copy can become the next one.
func (b *Bundle) Clone() *Bundle {
	c := *b
	c.digest, c.certificates = Digest{}, nil
	c.Roots = slices.Clone(b.Roots)
	c.Retired = slices.Clone(b.Retired)
	c.Waivers = slices.Clone(b.Waivers)
	c.Debts = slices.Clone(b.Debts)
	c.Control = slices.Clone(b.Control)
	for i := range c.Control {
		c.Control[i].Documents = slices.Clone(b.Control[i].Documents)
	}
	if b.Pending != nil {
		pending := *b.Pending
		c.Pending = &pending
	}
	return &c
}

// Root finds a trusted root by generation.
func (b *Bundle) Root(generation int) (Root, bool) {
	for _, r := range b.Roots {
		if r.Generation == generation {
			return r, true
		}
	}
	return Root{}, false
}

// RootCertificate returns the parsed certificate of a trusted root; the caller does not change it.
func (b *Bundle) RootCertificate(generation int) (*x509.Certificate, error) {
	for i, r := range b.Roots {
		switch {
		case r.Generation != generation:
		case b.certificates != nil:
			return b.certificates[i], nil
		default:
			return x509.ParseCertificate(r.Certificate)
		}
	}
	return nil, fmt.Errorf("verify: root g%d is not trusted in state %v", generation, b.Version)
}

// SignerKey is the key of the root that signs.
func (b *Bundle) SignerKey() fingerprint.Key {
	r, _ := b.Root(b.Signer)
	return r.Key
}

// RuleFor is the registry's rule for a role.
func (b *Bundle) RuleFor(role fingerprint.Role) fingerprint.Rule {
	switch role {
	case fingerprint.Node:
		return b.Rules.Node
	case fingerprint.User:
		return b.Rules.User
	}
	return fingerprint.Listed
}

// Supersedes reports whether a member that holds held may install b: only a greater number of the same cluster, so that
// nobody returns to a state that it left.
func (b *Bundle) Supersedes(held *Bundle) bool {
	return b.Cluster == held.Cluster && held.Version.Less(b.Version)
}

// Admits is the fence: a member takes a leaf only if the bundle that is live names its issuer as signer. Otherwise a
// leaf that was signed earlier, by a daemon with an old state, could replace a newer one after the member had
// confirmed it.
func (b *Bundle) Admits(issuer fingerprint.Key) bool {
	return !issuer.IsZero() && issuer == b.SignerKey()
}

// IssuerOf returns the key of the trusted root that a chain in DER, leaf first, leads to, by signatures alone: dates and
// names are the Verifier's. As in a Verifier the nearest root counts: a bridge behind a trusted root is not looked at.
func (b *Bundle) IssuerOf(chain [][]byte) (fingerprint.Key, error) {
	if len(chain) == 0 || len(chain) > 1+maxIntermediates {
		return fingerprint.Key{}, fmt.Errorf("verify: chain of %d certificates", len(chain))
	}
	c, err := parse(chain[0])
	for i := 0; err == nil; i++ {
		if key, ok := b.signedBy(c); ok {
			return key, nil
		}
		if i+1 == len(chain) {
			return fingerprint.Key{}, fmt.Errorf("verify: issuer %s is no trusted root of state %v", quote(c.Issuer.CommonName), b.Version)
		}
		child := c
		if c, err = parse(chain[i+1]); err == nil {
			err = child.CheckSignatureFrom(c)
		}
	}
	return fingerprint.Key{}, fmt.Errorf("verify: chain: %w", err)
}

// carries says whether c stands in the state as a root's certificate or bridge.
func (b *Bundle) carries(c *x509.Certificate) bool {
	return slices.ContainsFunc(b.Roots, func(r Root) bool {
		return bytes.Equal(c.Raw, r.Bridge) || bytes.Equal(c.Raw, r.Certificate)
	})
}

// signedBy finds the trusted root that signed c.
func (b *Bundle) signedBy(c *x509.Certificate) (fingerprint.Key, bool) {
	for _, r := range b.Roots {
		root, err := b.RootCertificate(r.Generation)
		if err == nil && bytes.Equal(c.RawIssuer, root.RawSubject) && c.CheckSignatureFrom(root) == nil {
			return r.Key, true
		}
	}
	return fingerprint.Key{}, false
}

// parse reads one certificate of a document.
func parse(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes, at most %d", len(der), maxCertificate)
	}
	return x509.ParseCertificate(der)
}
