package live

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// RenewalMoment is when a leaf is to be renewed: between a half and five sixths of its lifetime, drawn by hash from
// identity, serial number and lifetime. It is drawn once: a restart, or a look at another time, gives the same
// moment, so members do not crowd together.
func RenewalMoment(id fingerprint.Identity, leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	h := sha256.New()
	h.Write([]byte(id.String()))
	h.Write([]byte{0})
	h.Write(leaf.SerialNumber.Bytes())
	h.Write(binary.BigEndian.AppendUint64([]byte{0}, uint64(life)))
	draw := binary.BigEndian.Uint64(h.Sum(nil)[:8]) >> 11 // 53 bits: exact in a float64
	fraction := 0.5 + float64(draw)/(1<<53)/3
	return leaf.NotBefore.Add(time.Duration(float64(life) * fraction))
}

// RenewAt is when the live leaf is to be renewed.
func (l *Live) RenewAt() time.Time { return l.now.Load().renewAt }

// Urgency says how soon a leaf must be renewed.
type Urgency string

// The tiers: before the renewal moment, after it, with a tenth of the lifetime or less left, and too late.
const (
	Normal  Urgency = "normal"
	Due     Urgency = "due"
	Urgent  Urgency = "urgent"
	Expired Urgency = "expired"
)

// UrgencyOf is the tier of a leaf at a time.
func UrgencyOf(id fingerprint.Identity, leaf *x509.Certificate, now time.Time) Urgency {
	switch life := leaf.NotAfter.Sub(leaf.NotBefore); {
	case now.After(leaf.NotAfter):
		return Expired
	case leaf.NotAfter.Sub(now) <= life/10:
		return Urgent
	case !now.Before(RenewalMoment(id, leaf)):
		return Due
	}
	return Normal
}
