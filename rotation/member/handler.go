package member

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
)

// Handler serves the calls of members: state and registry after a number (by long poll), report, renew. It belongs
// behind the server configuration of a control member's [live.Live], which authenticates the peers; a request that
// came without is refused. Safe for concurrent use.
func Handler(d *rotation.Daemon) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathState, authenticated(func(w http.ResponseWriter, r *http.Request, peer fingerprint.Identity) {
		ask, err := parseAsk(r.URL.Query())
		if err != nil {
			writeError(w, http.StatusBadRequest, err)
			return
		}
		news, err := d.State(r.Context(), peer, ask)
		answer(w, news, err)
	}))
	mux.HandleFunc("POST "+pathReport, authenticated(func(w http.ResponseWriter, r *http.Request, peer fingerprint.Identity) {
		var body reportBody
		if err := readJSON(r.Body, maxRequest, &body); err != nil {
			writeError(w, http.StatusBadRequest, err)
			return
		}
		ack, err := d.Report(r.Context(), peer, body.Key, body.Report)
		answer(w, ack, err)
	}))
	mux.HandleFunc("POST "+pathRenew, authenticated(func(w http.ResponseWriter, r *http.Request, peer fingerprint.Identity) {
		var body rotation.Renewal
		if err := readJSON(r.Body, maxRequest, &body); err != nil {
			writeError(w, http.StatusBadRequest, err)
			return
		}
		renewed, err := d.Renew(r.Context(), peer, body)
		answer(w, renewed, err)
	}))
	return mux
}

// authenticated gives the handler the peer that the handshake proved.
func authenticated(next func(http.ResponseWriter, *http.Request, fingerprint.Identity)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			writeError(w, http.StatusForbidden, errors.New("mutual TLS is required"))
			return
		}
		peer, err := live.PeerOf(*r.TLS)
		if err != nil {
			writeError(w, http.StatusForbidden, err)
			return
		}
		next(w, r, peer.Identity)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

func writeError(w http.ResponseWriter, status int, err error) {
	code := codeRefused
	switch {
	case errors.Is(err, rotation.ErrUnknownMember):
		code = codeUnknown
	case errors.Is(err, rotation.ErrRevoked):
		code = codeRevoked
	}
	writeJSON(w, status, wireError{code, err.Error()})
}

func parseAsk(q url.Values) (rotation.Ask, error) {
	var ask rotation.Ask
	var err error
	if ask.State, err = fingerprint.ParseVersion(q.Get("state")); err != nil {
		return ask, err
	}
	if ask.Registry, err = fingerprint.ParseVersion(q.Get("registry")); err != nil {
		return ask, err
	}
	if err = ask.Leaf.UnmarshalText([]byte(q.Get("leaf"))); err != nil {
		return ask, err
	}
	ask.Wait, err = time.ParseDuration(q.Get("wait"))
	return ask, err
}

func encodeAsk(ask rotation.Ask) string {
	return url.Values{
		"state":    {ask.State.String()},
		"registry": {ask.Registry.String()},
		"leaf":     {ask.Leaf.String()},
		"wait":     {ask.Wait.String()},
	}.Encode()
}
