package member

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/clusterca/clusterca/internal/dsse"
)

// The wire: JSON over HTTP/1.1 over mutual TLS. What must be believed is inside signed documents; the rest is only a
// question or a number.
const (
	pathState  = "/v1/state"
	pathReport = "/v1/report"
	pathRenew  = "/v1/renew"
)

// reportBody carries a report with the public key that signed it: a connection may be older than a re-key.
type reportBody struct {
	Key    []byte `json:"key"`    // SubjectPublicKeyInfo, DER
	Report []byte `json:"report"` // signed
}

// Codes of errors that the other side must tell apart.
const (
	codeUnknown = "unknown-member"
	codeRevoked = "revoked"
	codeRefused = "refused"
)

// wireError is an error as it crosses the wire.
type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *wireError) Error() string { return "CA daemon: " + e.Message }

// readJSON reads one strict JSON value of at most so many bytes.
func readJSON(r io.Reader, most int64, v any) error {
	body, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return err
	}
	if int64(len(body)) > most {
		return fmt.Errorf("more than %d bytes", most)
	}
	return dsse.Decode(body, v)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A peer that went away reads nothing: there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(v)
}
