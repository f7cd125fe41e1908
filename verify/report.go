package verify

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
	"github.com/clusterca/clusterca/keystore"
)

const reportType = "application/vnd.clusterca.report.v1+json"

// ErrReport is wrapped when a report is not accepted: ask the member for a new one.
var ErrReport = errors.New("report is not accepted")

// Report is what a member says of itself, signed by the key that it serves with. It is the acknowledgement of a trust
// state and the input of the cluster check. It speaks of what is live, never of what was only received.
type Report struct {
	Cluster    fingerprint.ClusterID   `json:"cluster"`
	Member     fingerprint.Identity    `json:"member"`
	Boot       uint64                  `json:"boot"`    // grows by one at each start, durable before the member says it
	Count      uint64                  `json:"count"`   // grows by one at each report of a boot
	Serving    bool                    `json:"serving"` // false: booting, not to be counted
	State      fingerprint.Version     `json:"state"`
	Digest     Digest                  `json:"digest"` // of that state
	Registry   fingerprint.Version     `json:"registry"`
	Leaf       fingerprint.Certificate `json:"leaf"`
	Issuer     fingerprint.Key         `json:"issuer"` // key of the root that issued the leaf served
	NotAfter   time.Time               `json:"not_after"`
	Key        fingerprint.Key         `json:"key"`           // served
	Next       fingerprint.Key         `json:"next,omitzero"` // made, durable, not served
	Algorithms []keystore.Algorithm    `json:"algorithms"`
	Proven     []fingerprint.Key       `json:"proven"`             // roots whose canary the live verifier accepted
	Refusals   []Refused               `json:"refusals,omitempty"` // peers refused since this state went live
	Clock      time.Time               `json:"clock"`
}

// Refused is a peer that the member refused. A leaf is refused before its holder has shown that he has its key, and
// anybody can make one with any name in it: the entry speaks of the peer only if the leaf is the peer's.
type Refused struct {
	Peer   fingerprint.Identity    `json:"peer"`
	Leaf   fingerprint.Certificate `json:"leaf"`
	Reason Reason                  `json:"reason"`
}

// SignReport signs a report with the key that the member serves with. The error is that of the key, or wraps ErrReport
// when the report is too large.
func SignReport(r *Report, key crypto.Signer) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("verify: sign report: %w", err)
	}
	signed, err := dsse.Sign(reportType, payload, key)
	if err != nil {
		return nil, fmt.Errorf("verify: sign report: %w", err)
	}
	if len(signed) > maxReport {
		return nil, fmt.Errorf("verify: sign report of %q: %d bytes, at most %d: tell fewer refusals: %w", r.Member, len(signed), maxReport, ErrReport)
	}
	return signed, nil
}

// OpenReport returns a report that key signed. Two questions are the caller's: whether key is the member's, and whether
// (Boot, Count) is greater than that of the last report, since an old one stays well signed. The error wraps ErrReport.
func OpenReport(signed []byte, key crypto.PublicKey) (*Report, error) {
	r, err := openReport(signed, key)
	if err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrReport, err)
	}
	return r, nil
}

func openReport(signed []byte, key crypto.PublicKey) (*Report, error) {
	if len(signed) > maxReport {
		return nil, fmt.Errorf("%d bytes, at most %d", len(signed), maxReport)
	}
	payload, _, err := dsse.Open(signed, reportType, []crypto.PublicKey{key})
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := decodeCanonical(payload, r); err != nil {
		return nil, err
	}
	if err := errors.Join(r.Cluster.Validate(), r.Member.Validate()); err != nil {
		return nil, err
	}
	if r.Member.Domain != r.Cluster.Domain {
		return nil, fmt.Errorf("%q is no member of %q", r.Member, r.Cluster.Domain)
	}
	return r, nil
}

// decodeCanonical reads a payload that was verified. What we would not have written, a name in another case
// among it, could be read otherwise by somebody else, and is refused.
func decodeCanonical(payload []byte, v any) error {
	if err := dsse.Decode(payload, v); err != nil {
		return err
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, payload) {
		return fmt.Errorf("not in canonical form: %w", ErrMalformed)
	}
	return nil
}
