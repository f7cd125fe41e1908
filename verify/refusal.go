package verify

import (
	"crypto/x509/pkix"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Side is the part that the judged peer plays in a connection.
type Side string

// The sides.
const (
	Client Side = "client"
	Server Side = "server"
)

// Reason is a stable code for why a peer was refused.
type Reason string

// The reasons. Trust reasons (see Reason.Trust) between two counted members stop a rollover; the others say that
// somebody dialled, or was dialled, wrongly.
const (
	NoCertificate    Reason = "no-certificate"
	TooManyCerts     Reason = "too-many-certificates"
	MalformedLeaf    Reason = "malformed-leaf"
	UnknownIssuer    Reason = "unknown-issuer"
	RetiredIssuer    Reason = "retired-issuer"
	NotYetValid      Reason = "not-yet-valid"
	Expired          Reason = "expired"
	WrongUsage       Reason = "wrong-usage"
	WrongCluster     Reason = "wrong-cluster"
	WrongRole        Reason = "wrong-role"
	WrongMember      Reason = "wrong-member"
	WrongHost        Reason = "wrong-host"
	WeakKey          Reason = "weak-key"
	NotInRegistry    Reason = "not-in-registry"
	MalformedChain   Reason = "malformed-chain"
	KeyOfAnother     Reason = "key-of-another"
	KeyNotRegistered Reason = "key-not-registered"
	MemberRevoked    Reason = "revoked"
	BeforeCutoff     Reason = "before-cutoff"
	NotPinned        Reason = "not-pinned"
)

// The reasons that only [Chain] has.
const (
	MalformedIssuer    Reason = "malformed-issuer"
	NotPermitted       Reason = "not-permitted" // by the name constraints or policies of an issuer
	NotPublicWeb       Reason = "not-public-web"
	TooMuchWork        Reason = "too-much-work"
	CertificateRevoked Reason = "certificate-revoked"
	NoCRL              Reason = "no-crl"
	StaleCRL           Reason = "stale-crl"
	MalformedCRL       Reason = "malformed-crl"
)

// Refusal is the error with which a peer is refused. It names which side, which certificate and which field failed,
// and what to do.
type Refusal struct {
	Reason      Reason
	Side        Side   // the part that the refused peer played; empty where Chain was asked for another use
	Peer        string // what the peer claims to be, as far as it could be read
	Certificate string // "leaf", "issuer 1" (of the leaf), …, or "chain"
	Field       string // "URI SAN", "not after", …
	Detail      string // expected and actual
	Remedy      string // what to do
}

// Trust reports whether the reason says that the two sides trust differently. Between counted members such a refusal
// stops a rollover; the other reasons say that somebody dialled, or was dialled, wrongly.
func (r Reason) Trust() bool {
	switch r {
	case UnknownIssuer, RetiredIssuer, NotInRegistry, KeyOfAnother, KeyNotRegistered, BeforeCutoff, NotPinned, WeakKey, TooManyCerts:
		return true
	}
	return false
}

// Error is one line: which side, which certificate, which field, what was found, and what to do.
func (r *Refusal) Error() string {
	peer := r.Peer
	if peer == "" {
		peer = "somebody unnamed"
	}
	side := r.Side
	if side == "" {
		side = "certificate of" // judged for some other use than a connection's
	}
	s := fmt.Sprintf("verify: refused %s %s: %s", side, peer, r.Reason)
	if r.Certificate != "" {
		s += fmt.Sprintf(" (%s, %s)", r.Certificate, r.Field)
	}
	if r.Detail != "" {
		s += ": " + r.Detail
	}
	if r.Remedy != "" {
		s += "; " + r.Remedy
	}
	return s
}

// brief keeps an error of another package, which may quote what a stranger sent, to a line of a log.
func brief(err error) string {
	text := strings.ToValidUTF8(err.Error(), "")
	if len(text) > maxBrief {
		text = strings.ToValidUTF8(text[:maxBrief], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// quote makes a stranger's words fit to stand in one line of a log.
func quote(s string) string { return strconv.Quote(s[:min(len(s), maxQuoted)]) }

// clip makes what another package says of a stranger's certificate fit there too.
func clip(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), 4*maxQuoted)])
}

// nameOf is a distinguished name, quoted. pkix.Name.String takes seconds for one that fills a certificate.
func nameOf(name pkix.Name, raw []byte) string {
	if len(raw) > 8*maxQuoted {
		return fmt.Sprintf("a name of %d bytes", len(raw))
	}
	return quote(name.String())
}
