package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// Issuance is what is recorded of a certificate before it is released.
type Issuance struct {
	Kind        string                  `json:"kind"`                  // "root", "bridge", "intermediate", "document signer", "node leaf", …
	Issuer      fingerprint.Key         `json:"issuer"`                // a root's is its own
	Serial      string                  `json:"serial"`                // 32 lower-case hexadecimal digits
	Identity    string                  `json:"identity,omitempty"`    // the URI that it names; document signers have none
	CommonName  string                  `json:"common_name,omitempty"` // for people
	Key         fingerprint.Key         `json:"key"`                   // the key that it certifies
	Certificate fingerprint.Certificate `json:"certificate"`
	NotBefore   time.Time               `json:"not_before"`
	NotAfter    time.Time               `json:"not_after"`
	Job         bool                    `json:"job,omitempty"` // of a job: its record may be swept when it has expired
}

// Recorder keeps a record of what is issued. It is safe for concurrent use.
type Recorder interface {
	// Record makes an issuance durable before it returns: the certificate is released after that, and never after an
	// error. When the issuer has issued that serial number before, the error wraps fs.ErrExist, and another is drawn.
	Record(Issuance) error
}

// Rules are what an authority obeys beyond the profiles. The zero value adds nothing.
type Rules struct {
	// Recorder records every certificate before it is released. Nil: nothing is recorded.
	Recorder Recorder
	// Policy is asked for each member's leaf, with the lifetime that the profile grants. It refuses by an error, or
	// shortens by a smaller lifetime; zero or a longer one leaves it as it is, and nothing else can be changed by it.
	// Nil: all that the profile allows is allowed. It is called by several goroutines at once if Issue is.
	Policy func(r Request, granted time.Duration) (time.Duration, error)
	// LongestLeaf is the longest life of a member's leaf, for members that are renewed by hand; the issuer's end is the
	// limit in any case. Zero: 90 days.
	LongestLeaf time.Duration
}

// Under returns the authority with rules that hold for all that the returned one signs.
func (a *Authority) Under(r Rules) *Authority {
	ruled := *a
	ruled.rules = r
	return &ruled
}

// drawAgain is how often another serial number is drawn when one was issued before. Of 127 random bits none ever was:
// a second time says that the recorder, or the randomness, is broken.
const drawAgain = 2

// release signs a draft and records it. A crash after the record and before the certificate reached anybody leaves a
// record of a certificate that nobody has, which harms nobody; the other way round there would be one that nobody knows
// of.
func (d *draft) release(signer crypto.Signer, recorder Recorder) (*x509.Certificate, error) {
	for tries := 0; ; tries++ {
		c, err := d.sign(signer)
		if err != nil || recorder == nil {
			return c, err
		}
		err = recorder.Record(d.issuance(c))
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrExist) || tries == drawAgain {
			return nil, err
		}
	}
}

func (d *draft) issuance(c *x509.Certificate) Issuance {
	issuer := d.key.fingerprint
	if d.issuer != nil {
		issuer = KeyOf(d.issuer)
	}
	return Issuance{
		Kind: d.name, Issuer: issuer, Serial: hex.EncodeToString(d.serial[:]), Identity: d.uri, CommonName: c.Subject.CommonName,
		Key: d.key.fingerprint, Certificate: fingerprint.OfCertificate(c.Raw), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Job: d.job,
	}
}
