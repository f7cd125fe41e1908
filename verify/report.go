package verify

import (
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

// ErrReport is wrapped when a report is not accepted.
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

// Refused is one peer that the member refused, or that refused it.
type Refused struct {
	Peer   fingerprint.Identity `json:"peer"`
	Reason Reason               `json:"reason"`
}

// SignReport signs a report with the key that the member serves with.
func SignReport(r *Report, key crypto.Signer) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("verify: sign report: %w", err)
	}
	signed, err := dsse.Sign(reportType, payload, key)
	if err != nil {
		return nil, fmt.Errorf("verify: sign report: %w", err)
	}
	return signed, nil
}

// OpenReport returns a report that key signed. Whether key is the member's is the caller's question. The error wraps
// ErrReport.
func OpenReport(signed []byte, key crypto.PublicKey) (*Report, error) {
	if len(signed) > maxReport {
		return nil, fmt.Errorf("verify: %d bytes, at most %d: %w", len(signed), maxReport, ErrReport)
	}
	payload, _, err := dsse.Open(signed, reportType, []crypto.PublicKey{key})
	if err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrReport, err)
	}
	r := new(Report)
	if err := dsse.Decode(payload, r); err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrReport, err)
	}
	if err := errors.Join(r.Cluster.Validate(), r.Member.Validate()); err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrReport, err)
	}
	return r, nil
}
