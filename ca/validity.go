package ca

import (
	"errors"
	"fmt"
	"time"
)

// ErrLifetime is wrapped when a certificate would live longer than it may.
var ErrLifetime = errors.New("lifetime is not allowed")

func (p *profile) lifetime(asked time.Duration) (time.Duration, error) {
	switch {
	case asked == 0:
		return p.usual, nil
	case asked < 0 || asked > p.most:
		return 0, fmt.Errorf("%s, at most %s: %w", asked, p.most, ErrLifetime)
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
	now = now.UTC()
	return validity{now.Add(-backdate).Truncate(time.Second), now.Add(life).Truncate(time.Second)}, nil
}

// within keeps a span inside its issuer's: nothing outlives its issuer, and what would is refused or, when the caller
// asks for that, ends with it.
func (v validity) within(issuer validity, clamp bool) (validity, error) {
	if v.notAfter.After(issuer.notAfter) {
		if !clamp {
			return v, fmt.Errorf("it would end %s, its issuer ends %s: ask for no more, or renew the issuer: %w", v.notAfter.Format(time.RFC3339), issuer.notAfter.Format(time.RFC3339), ErrLifetime)
		}
		v.notAfter = issuer.notAfter
	}
	if v.notBefore.Before(issuer.notBefore) {
		v.notBefore = issuer.notBefore
	}
	if !v.notAfter.After(v.notBefore) {
		return v, fmt.Errorf("the issuer ended %s: renew it first: %w", issuer.notAfter.Format(time.RFC3339), ErrLifetime)
	}
	return v, nil
}
