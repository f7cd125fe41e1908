package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

const day = 24 * time.Hour

// lifetime says how long something lives when the caller does not say, and at most.
type lifetime struct{ usual, most time.Duration }

// All lifetimes and caps. Members renew themselves, so a leaf lives days; the caps leave room for members that are
// renewed by hand.
var (
	leafLifetimes = map[fingerprint.Role]lifetime{
		fingerprint.Control: {7 * day, 90 * day},
		fingerprint.Node:    {day, 90 * day},
		fingerprint.User:    {day, 90 * day},
	}
	documentLifetime = lifetime{365 * day, 2 * 365 * day}
	rootLifetime     = lifetime{5 * 365 * day, 10 * 365 * day}
	crlLifetime      = lifetime{day, 30 * day}
)

// Backdate is how far before now a certificate begins unless the caller says otherwise: clocks differ. One that lives
// so shortly that this would be most of its life is backdated by a quarter of its lifetime: members renew at a part of
// the whole span, which must lie ahead when the certificate is issued.
const (
	Backdate    = 5 * time.Minute
	maxBackdate = time.Hour
)

// ErrLifetime is wrapped when a certificate would live longer than it may.
var ErrLifetime = errors.New("lifetime is not allowed")

func (l lifetime) choose(asked time.Duration) (time.Duration, error) {
	switch {
	case asked == 0:
		return l.usual, nil
	case asked < 0 || asked > l.most:
		return 0, fmt.Errorf("%s, at most %s: %w", asked, l.most, ErrLifetime)
	}
	return asked, nil
}

// validity is the span of a certificate: seconds, since X.509 has nothing finer (RFC 5280 §4.1.2.5).
type validity struct{ notBefore, notAfter time.Time }

func span(now time.Time, backdate, life time.Duration) (validity, error) {
	if now.IsZero() {
		now = time.Now()
	}
	if backdate == 0 {
		backdate = min(Backdate, life/4)
	}
	if backdate < 0 || backdate > maxBackdate {
		return validity{}, fmt.Errorf("backdated by %s, at most %s: %w", backdate, maxBackdate, ErrLifetime)
	}
	now = now.UTC().Truncate(time.Second)
	return validity{now.Add(-backdate), now.Add(life)}, nil
}

// within keeps a span inside its issuer's. One that would end later is refused, or clamped.
func (v validity) within(issuer *x509.Certificate, clamp bool) (validity, error) {
	if last := issuer.NotAfter; v.notAfter.After(last) {
		if !clamp {
			return validity{}, fmt.Errorf("it would end %s, its issuer ends %s: ask for no more, or renew the issuer: %w", v.notAfter.Format(time.RFC3339), last.Format(time.RFC3339), ErrLifetime)
		}
		v.notAfter = last
	}
	if v.notBefore.Before(issuer.NotBefore) {
		v.notBefore = issuer.NotBefore
	}
	if !v.notAfter.After(v.notBefore) {
		return validity{}, fmt.Errorf("the issuer ended %s: renew it first: %w", issuer.NotAfter.Format(time.RFC3339), ErrLifetime)
	}
	return v, nil
}
