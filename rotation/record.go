package rotation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// Member is the CA's one record of a member. Every writer (join, issue, re-key, report, remove) changes it by
// compare-and-swap, so that none of them can cross.
type Member struct {
	Identity fingerprint.Identity      `json:"identity"`
	Hosts    []string                  `json:"hosts,omitempty"`
	Current  fingerprint.Key           `json:"current"`         // the key it serves
	Next     fingerprint.Key           `json:"next,omitzero"`   // the key that is to follow it
	Listed   fingerprint.Version       `json:"listed,omitzero"` // first registry, or state for control, with the newer of the two
	Requests uint64                    `json:"requests"`        // counter of the last request for a next key
	Leaf     fingerprint.Certificate   `json:"leaf,omitzero"`   // issued last
	Issuer   fingerprint.Key           `json:"issuer,omitzero"` // root that issued it
	NotAfter time.Time                 `json:"not_after,omitzero"`
	Renew    []fingerprint.Certificate `json:"renew,omitempty"`  // leaves that an operator wants replaced, whichever is served
	Report   *verify.Report            `json:"report,omitempty"` // the newest
	Revoked  *Revocation               `json:"revoked,omitempty"`
}

// admits says whether somebody who holds key is this member: the error is ErrRevoked or ErrOldKey when not.
func (m Member) admits(key fingerprint.Key) error {
	switch {
	case m.Revoked != nil:
		return ErrRevoked
	case key.IsZero() || key != m.Current && key != m.Next:
		return ErrOldKey
	}
	return nil
}

// Revocation says since when and why a member is one no more. It is final.
type Revocation struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// encode gives the record's value.
func (m Member) encode() ([]byte, error) {
	if err := m.bounded(); err != nil {
		return nil, err
	}
	value, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	// What is written can be read by everybody, or it is not written: text that is not UTF-8 comes back as another.
	var read Member
	if err := json.Unmarshal(value, &read); err != nil {
		return nil, fmt.Errorf("rotation: member record of %q: %w", m.Identity, err)
	}
	if again, err := json.Marshal(read); err != nil || !bytes.Equal(again, value) {
		return nil, fmt.Errorf("rotation: member record of %q: a host or a reason is not UTF-8 text", m.Identity)
	}
	return value, nil
}

func (m Member) bounded() error {
	if m.Revoked != nil && len(m.Revoked.Reason) > maxReason {
		return fmt.Errorf("rotation: member record of %q: reason of %d bytes, at most %d", m.Identity, len(m.Revoked.Reason), maxReason)
	}
	return nil
}

// decodeMember reads a record's value. Whatever encode would not write is refused: a field twice, or an unknown one,
// is not there when it is written again.
func decodeMember(value []byte) (Member, error) {
	var m Member
	if err := json.Unmarshal(value, &m); err != nil {
		return Member{}, fmt.Errorf("rotation: member record: %w", err)
	}
	if err := m.Identity.Validate(); err != nil {
		return Member{}, fmt.Errorf("rotation: member record: %w", err)
	}
	if m.Current.IsZero() || m.Current == m.Next {
		return Member{}, fmt.Errorf("rotation: member record of %q has no key, or one key twice", m.Identity)
	}
	again, err := json.Marshal(m)
	if err := errors.Join(err, m.bounded()); err != nil {
		return Member{}, err
	}
	if !bytes.Equal(again, value) {
		return Member{}, fmt.Errorf("rotation: member record of %q is not in the form that is written here: restore it from a copy", m.Identity)
	}
	return m, nil
}

// observe takes a report into a record. The newest by boot and report counter stays; the same one again changes
// nothing. A report with lower counters comes late, or from a member that was restored from an old disk image: what
// it confirmed before is withdrawn, and it goes on being counted until it confirms again. A report signed by the
// next key promotes that key. What r says of another member is an error; whose key signed it is the caller's to know.
func observe(m Member, r *verify.Report) (Member, error) {
	if r.Member != m.Identity {
		return m, fmt.Errorf("rotation: report of %q speaks for %q", m.Identity, r.Member)
	}
	old := m.Report
	noted := *r
	switch {
	case old == nil || older(old, r):
	case old.Boot == r.Boot && old.Count == r.Count:
		return m, nil
	default:
		noted.State, noted.Digest = fingerprint.Version{}, verify.Digest{}
		noted.Serving = noted.Serving || old.Serving
	}
	m.Report = &noted
	if !m.Next.IsZero() && r.Key == m.Next {
		m.Current, m.Next = m.Next, fingerprint.Key{}
	}
	return m, nil
}

// older reports whether a was made before b.
func older(a, b *verify.Report) bool {
	return a.Boot < b.Boot || a.Boot == b.Boot && a.Count < b.Count
}

// Why a next key is not listed.
var (
	ErrReplayed = errors.New("request was made before the last one")
	ErrUnderWay = errors.New("another next key is under way")
)

// requestNext lists a next key: the request's counter must be above the last one, since a request that was replayed
// would replace a key that is in service. Asking again for a key that is listed already, or was promoted meanwhile,
// changes nothing.
func requestNext(m Member, key fingerprint.Key, counter uint64) (Member, error) {
	switch {
	case key == m.Current || key == m.Next:
		return m, nil
	case counter <= m.Requests:
		return m, fmt.Errorf("rotation: next key of %q: counter %d, the last was %d: %w", m.Identity, counter, m.Requests, ErrReplayed)
	case !m.Next.IsZero():
		return m, fmt.Errorf("rotation: next key of %q is %s already: %w", m.Identity, m.Next.Short(), ErrUnderWay)
	}
	m.Next, m.Requests, m.Listed = key, counter, fingerprint.Version{}
	return m, nil
}
