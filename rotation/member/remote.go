package member

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// Remote reaches CA daemons at the given addresses ("host:port"), any one of which is enough: a call that fails goes
// to the next. Any control member of the cluster is accepted there, and nobody else.
func Remote(addresses ...string) CA { return remoteCA(addresses) }

type remoteCA []string

func (a remoteCA) dial(l *live.Live) calls {
	transport := &http.Transport{
		TLSClientConfig:       l.ClientConfig(verify.AnyOf(fingerprint.Control)),
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: pollWait + callTimeout,
	}
	return &remote{addresses: a[:min(len(a), maxAddress)], client: &http.Client{Transport: transport}, transport: transport}
}

type remote struct {
	addresses []string
	client    *http.Client
	transport *http.Transport
	preferred atomic.Uint32 // index of the address that answered last
}

func (r *remote) close() { r.transport.CloseIdleConnections() }

func (r *remote) state(ctx context.Context, ask rotation.Ask) (news rotation.News, err error) {
	ctx, cancel := context.WithTimeout(ctx, ask.Wait+callTimeout)
	defer cancel()
	err = r.call(ctx, http.MethodGet, pathState+"?"+encodeAsk(ask), nil, &news)
	return news, err
}

func (r *remote) report(ctx context.Context, spki, envelope []byte) (ack rotation.Ack, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = r.call(ctx, http.MethodPost, pathReport, reportBody{spki, envelope}, &ack)
	return ack, err
}

func (r *remote) renew(ctx context.Context, request rotation.Renewal) (renewed rotation.Renewed, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = r.call(ctx, http.MethodPost, pathRenew, request, &renewed)
	return renewed, err
}

// call tries the address that answered last, then the others. An answer, even a refusal, ends the search.
func (r *remote) call(ctx context.Context, method, path string, body, answer any) error {
	if len(r.addresses) == 0 {
		return errors.New("no address of a CA daemon is configured")
	}
	var failed []error
	first := int(r.preferred.Load())
	for i := range r.addresses {
		n := (first + i) % len(r.addresses)
		err := r.once(ctx, method, "https://"+r.addresses[n]+path, body, answer)
		var refused *wireError
		if err == nil || errors.As(err, &refused) {
			r.preferred.Store(uint32(n))
			return err
		}
		failed = append(failed, fmt.Errorf("%s: %w", r.addresses[n], err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("no CA daemon answered: %w", errors.Join(failed...))
}

func (r *remote) once(ctx context.Context, method, url string, body, answer any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return readJSON(response.Body, maxAnswer, answer)
	}
	refused := new(wireError)
	if err := readJSON(response.Body, maxAnswer, refused); err != nil || refused.Message == "" {
		return fmt.Errorf("HTTP status %s", response.Status)
	}
	switch refused.Code {
	case codeUnknown:
		return fmt.Errorf("%w (%w)", refused, rotation.ErrUnknownMember)
	case codeRevoked:
		return fmt.Errorf("%w (%w)", refused, rotation.ErrRevoked)
	}
	return refused
}
