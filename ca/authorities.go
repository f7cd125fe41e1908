package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// Authorities are the CAs of one cluster that may sign at present. It is immutable and safe for concurrent use; With
// and Without give another one.
type Authorities struct{ list []*Authority }

// ErrNeeded is wrapped when an authority cannot be removed, because certificates that it issued are still in use.
var ErrNeeded = errors.New("authority is still needed")

// NewAuthorities puts authorities of one cluster together; each has a key of its own.
func NewAuthorities(list ...*Authority) (*Authorities, error) {
	for i, a := range list {
		if a.cluster != list[0].cluster {
			return nil, fmt.Errorf("ca: authorities: %q is of another cluster than %q: %w", a.certificate.Subject.CommonName, list[0].certificate.Subject.CommonName, fingerprint.ErrIdentity)
		}
		if slices.ContainsFunc(list[:i], func(b *Authority) bool { return b.Key() == a.Key() }) {
			return nil, fmt.Errorf("ca: authorities: key %s stands twice: %w", a.Key().Short(), fs.ErrExist)
		}
	}
	return &Authorities{slices.Clone(list)}, nil
}

// With adds one more.
func (s *Authorities) With(a *Authority) (*Authorities, error) {
	return NewAuthorities(append(slices.Clip(s.list), a)...)
}

// Signer is the authority that signs: the one of that key, or, for the zero key, the newest; of two that began in the
// same second the later one in the list. The error wraps fs.ErrNotExist.
func (s *Authorities) Signer(key fingerprint.Key) (*Authority, error) {
	var found *Authority
	for _, a := range s.list {
		if a.Key() == key || key.IsZero() && (found == nil || !a.certificate.NotBefore.Before(found.certificate.NotBefore)) {
			found = a
		}
	}
	if found == nil {
		return nil, fmt.Errorf("ca: no authority has key %s: %w", key.Short(), fs.ErrNotExist)
	}
	return found, nil
}

// Without removes the authority of a key. What it issued and has not expired now (zero: the present) is looked for
// among the recorded issuances (Log.All): while there is any, the list is returned with an error that wraps ErrNeeded;
// with force the authority is removed all the same, and the list says who is cut off. Without any record (nil) force is
// the only way. The error wraps fs.ErrNotExist when there is no such authority. When the record cannot be read to its
// end, its error is returned; with force the authority is removed even so, and the list may lack some.
func (s *Authorities) Without(key fingerprint.Key, recorded iter.Seq2[Issuance, error], now time.Time, force bool) (*Authorities, []Issuance, error) {
	if _, err := s.Signer(key); err != nil || key.IsZero() {
		return nil, nil, fmt.Errorf("ca: remove an authority: name its key: %w", errors.Join(err, fs.ErrNotExist))
	}
	if recorded == nil && !force {
		return nil, nil, fmt.Errorf("ca: remove the authority of key %s: nothing says what it issued: %w", key.Short(), ErrNeeded)
	}
	needed, err := unexpired(key, recorded, now)
	if err != nil {
		err = fmt.Errorf("ca: remove the authority of key %s: what it issued is not known in full: %w", key.Short(), err)
	}
	if err != nil && !force {
		return nil, needed, err
	}
	if len(needed) > 0 && !force {
		return nil, needed, fmt.Errorf("ca: remove the authority of key %s: %d certificates of it are good until %s: replace them, or force it: %w",
			key.Short(), len(needed), lastEnd(needed).Format(time.RFC3339), ErrNeeded)
	}
	rest := slices.DeleteFunc(slices.Clone(s.list), func(a *Authority) bool { return a.Key() == key })
	return &Authorities{rest}, needed, err
}

// unexpired lists what an authority issued to others and has not expired.
func unexpired(key fingerprint.Key, recorded iter.Seq2[Issuance, error], now time.Time) (list []Issuance, err error) {
	if recorded == nil {
		return nil, nil
	}
	if now.IsZero() {
		now = time.Now()
	}
	for i, err := range recorded {
		if err != nil {
			return list, err
		}
		if i.Issuer == key && i.Key != key && !i.NotAfter.Before(now) {
			list = append(list, i)
		}
	}
	return list, nil
}

func lastEnd(list []Issuance) time.Time {
	last := slices.MaxFunc(list, func(a, b Issuance) int { return a.NotAfter.Compare(b.NotAfter) })
	return last.NotAfter
}
