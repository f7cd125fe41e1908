package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// The three calls that a member makes. The caller says who the peer is: it was authenticated by mutual TLS, or is the
// daemon's own process.

// Ask is what a member holds when it asks for news.
type Ask struct {
	State    fingerprint.Version
	Registry fingerprint.Version // zero asks for the whole one
	Leaf     fingerprint.Certificate
	// Wait is how long the answer may be held back while there is nothing new; 0 answers at once, with a state
	// read from the store after the question came.
	Wait time.Duration
}

// News is the answer.
type News struct {
	States   [][]byte `json:"states,omitempty"`   // signed states after the one held, oldest first
	Registry []byte   `json:"registry,omitempty"` // signed registry, when newer than the one held: whole, or what changed
	Renew    bool     `json:"renew,omitempty"`    // an operator asks to replace the leaf that the member holds
}

// Ack answers a report: the numbers in force after the report was recorded. A booting member serves only when they
// are those that it holds.
type Ack struct {
	State    fingerprint.Version `json:"state"`
	Registry fingerprint.Version `json:"registry"`
	Hold     string              `json:"hold,omitempty"` // why a booting member may not serve yet
}

// Renewal asks for a leaf, for the key in use or for a next one.
type Renewal struct {
	CSR     []byte `json:"csr"`     // PKCS#10, DER
	Counter uint64 `json:"counter"` // grows with every request for a next key, durable before it is sent
}

// Renewed answers: a chain, or why a next key may not be served yet.
type Renewed struct {
	Chain [][]byte `json:"chain,omitempty"` // leaf first, DER
	Wait  string   `json:"wait,omitempty"`
}

// ErrRefused is wrapped when the peer is turned away, or what it sent is: another CA daemon would say the same. Any
// other error is the daemon's own trouble, which it logs.
var ErrRefused = errors.New("refused")

// ErrOldKey says that the key with which the peer connected is its own no more.
var ErrOldKey = errors.New("key is not, or no longer, the member's: connect with the one that it serves")

// done gives an error of a call its name, and logs those that only this side can do something about.
func (d *Daemon) done(ctx context.Context, call string, peer verify.Peer, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnknownMember), errors.Is(err, ErrRevoked), errors.Is(err, ErrOldKey):
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	case ctx.Err() == nil && !errors.Is(err, ErrRefused):
		d.cluster.cfg.Log.Warn("call of a member failed", "call", call, "member", peer.Identity, "error", err)
	}
	return fmt.Errorf("rotation: %s of %q: %w", call, peer.Identity, err)
}

// State answers with what is newer than what the peer holds. An error that wraps ErrRefused wraps ErrUnknownMember,
// ErrRevoked or ErrOldKey too: the peer has no business here.
func (d *Daemon) State(ctx context.Context, peer verify.Peer, ask Ask) (News, error) {
	news, err := d.state(ctx, peer, ask)
	return news, d.done(ctx, "question for the state", peer, err)
}

func (d *Daemon) state(ctx context.Context, peer verify.Peer, ask Ask) (News, error) {
	if _, err := d.caller(ctx, peer); err != nil {
		return News{}, err
	}
	if p := d.now(); ask.Wait <= 0 || p == nil || p.trust.bundle.Version.Less(ask.State) {
		if _, err := d.refresh(ctx); err != nil {
			return News{}, err
		}
	}
	timeout := time.NewTimer(min(ask.Wait, maxWait))
	defer timeout.Stop()
	for {
		d.mu.Lock()
		p, changed := d.published, d.changed
		d.mu.Unlock()
		news, err := d.news(ctx, p, peer.Identity, ask)
		if err != nil {
			return News{}, err
		}
		if len(news.States) > 0 || news.Registry != nil || news.Renew || ask.Wait <= 0 {
			return news, nil
		}
		select {
		case <-ctx.Done():
			return News{}, ctx.Err()
		case <-timeout.C:
			return news, nil
		case <-changed:
		}
	}
}

// caller returns the record of who calls, and turns away who is not, or no longer, a member, and who came with a key
// that was replaced: its old leaf is good until it ends, and whoever has that key must not renew with it. The
// record itself is read: a connection may be older than a removal.
func (d *Daemon) caller(ctx context.Context, peer verify.Peer) (Member, error) {
	m, _, err := d.cluster.member(ctx, peer.Identity)
	if err != nil {
		return Member{}, err
	}
	return m, m.admits(peer.Key)
}

func (d *Daemon) news(ctx context.Context, p *publication, peer fingerprint.Identity, ask Ask) (News, error) {
	var news News
	current := p.trust.bundle.Version
	if ask.State.Term != current.Term && !ask.State.IsZero() {
		return news, fmt.Errorf("%w: you hold state %v of another term than %v", ErrRefused, ask.State, current)
	}
	if current.Less(ask.State) {
		return news, fmt.Errorf("%w: you hold state %v, the newest here is %v: this CA daemon lags, or its store was restored", ErrRefused, ask.State, current)
	}
	from := ask.State.Number
	size := 0
	for n := from + 1; n <= current.Number && n-from <= maxStates && size < maxStateBytes; n++ {
		signed, err := d.cluster.envelope(ctx, fingerprint.Version{Term: current.Term, Number: n})
		if err != nil {
			return news, err
		}
		size += len(signed)
		news.States = append(news.States, signed)
	}
	if ask.Registry.Less(p.registry.Registry.Version()) {
		var err error
		if news.Registry, err = p.document(ask.Registry); err != nil {
			return news, err
		}
	}
	news.Renew = slices.Contains(p.asked[peer], ask.Leaf)
	return news, nil
}

// Report takes a signed report in. spki is the public key that signed it, which must be one of the member's two. The
// record is written before the numbers of the answer are read, so that a step which did not count the peer is
// always visible to it. An error that wraps ErrRefused says what is wrong with peer or report.
func (d *Daemon) Report(ctx context.Context, peer verify.Peer, spki, envelope []byte) (Ack, error) {
	ack, err := d.report(ctx, peer, spki, envelope)
	return ack, d.done(ctx, "report", peer, err)
}

func (d *Daemon) report(ctx context.Context, peer verify.Peer, spki, envelope []byte) (Ack, error) {
	before, err := d.caller(ctx, peer)
	if err != nil {
		return Ack{}, err
	}
	held, err := d.cluster.load(ctx)
	if err != nil {
		return Ack{}, err
	}
	r, err := openReport(held.bundle.Cluster, peer.Identity, spki, envelope)
	if err != nil {
		return Ack{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	hold, err := d.hold(ctx, held.bundle, before)
	if err != nil {
		return Ack{}, err
	}
	if hold != "" {
		r.Serving = false // it is told to wait, so it does not count yet
	}
	_, err = d.cluster.update(ctx, peer.Identity, func(m Member) (Member, error) {
		if err := errors.Join(m.admits(peer.Key), m.admits(r.Key)); err != nil {
			return m, err
		}
		return observe(m, r)
	})
	if err != nil {
		return Ack{}, err
	}
	if held, err = d.cluster.load(ctx); err != nil {
		return Ack{}, err
	}
	registry, _, err := d.cluster.registryRecord(ctx)
	return Ack{State: held.bundle.Version, Registry: registry.Version, Hold: hold}, err
}

// openReport returns a report that says what it must, by the member itself of itself.
func openReport(cluster fingerprint.ClusterID, member fingerprint.Identity, spki, envelope []byte) (*verify.Report, error) {
	public, err := parsePublicKey(spki)
	if err != nil {
		return nil, err
	}
	r, err := verify.OpenReport(envelope, public)
	if err != nil {
		return nil, err
	}
	switch key := fingerprint.OfKey(spki); {
	case r.Cluster != cluster:
		return nil, fmt.Errorf("it speaks of cluster %s", r.Cluster.UUID)
	case r.Member != member:
		return nil, fmt.Errorf("it speaks for %q", r.Member)
	case r.Key != key:
		return nil, fmt.Errorf("it is signed by key %s and says that %s is served", key.Short(), r.Key.Short())
	}
	return r, nil
}

// hold says why a member whose role is listed may not begin to serve: not everybody knows its key yet. s is the state
// in force.
func (d *Daemon) hold(ctx context.Context, s *verify.Bundle, m Member) (string, error) {
	if s.RuleFor(m.Identity.Role) == fingerprint.Open || m.Report != nil && m.Report.Serving {
		return "", nil
	}
	return d.unknownTo(ctx, m.Identity)
}

// unknownTo names somebody who must still learn of a member's newer key; "" when everybody knows it.
func (d *Daemon) unknownTo(ctx context.Context, id fingerprint.Identity) (string, error) {
	p, err := d.refresh(ctx)
	if err != nil {
		return "", err
	}
	m, err := d.noteListed(ctx, p, id)
	if err != nil {
		return "", err
	}
	if m.Listed.IsZero() {
		return "neither trust state nor registry name the key yet", nil
	}
	return firstReason(serveNext(View{p.trust.bundle, p.trust.digest, p.members}, m)), nil
}

func firstReason(blockers []Blocker) string {
	if len(blockers) == 0 {
		return ""
	}
	return blockers[0].Reason
}

// Renew issues a leaf of the root that signs now. For a key that is not the member's current one it first lists the
// key as next, and answers with Wait until everybody who must know it has confirmed that.
// An error that wraps ErrRefused says what is wrong with peer or request; it wraps ErrKeyInUse, ErrReplayed or
// ErrUnderWay too when that is it.
func (d *Daemon) Renew(ctx context.Context, peer verify.Peer, r Renewal) (Renewed, error) {
	renewed, err := d.renew(ctx, peer, r)
	return renewed, d.done(ctx, "renewal", peer, err)
}

func (d *Daemon) renew(ctx context.Context, peer verify.Peer, r Renewal) (Renewed, error) {
	c := d.cluster
	m, err := d.caller(ctx, peer)
	if err != nil {
		return Renewed{}, err
	}
	public, key, err := parseKey(r.CSR, peer.Identity)
	if err != nil {
		return Renewed{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if key != m.Current {
		if _, err := requestNext(m, key, r.Counter); err != nil { // before the key is claimed, which is for ever
			return Renewed{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if wait, err := d.list(ctx, peer, key, r.Counter); err != nil || wait != "" {
			return Renewed{Wait: wait}, err
		}
	}
	held, err := c.load(ctx)
	if err != nil {
		return Renewed{}, err
	}
	chain, err := c.issue(ctx, held.bundle, peer.Identity, public, func(m Member) (Member, error) {
		return m, errors.Join(m.admits(peer.Key), m.admits(key)) // they may have been replaced meanwhile
	})
	return Renewed{Chain: chain}, err
}

// list records a next key and says why it may not be served yet; "" when it may.
func (d *Daemon) list(ctx context.Context, peer verify.Peer, key fingerprint.Key, counter uint64) (string, error) {
	c := d.cluster
	if err := c.claim(ctx, peer.Identity.String(), key); errors.Is(err, ErrKeyInUse) {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	} else if err != nil {
		return "", err
	}
	m, err := c.update(ctx, peer.Identity, func(m Member) (Member, error) {
		if err := m.admits(peer.Key); err != nil || m.Next == key {
			return m, err
		}
		m, err := requestNext(m, key, counter)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return m, err
	})
	if err != nil {
		return "", err
	}
	held, err := c.load(ctx)
	if err != nil || held.bundle.RuleFor(m.Identity.Role) == fingerprint.Open {
		return "", err
	}
	return d.unknownTo(ctx, peer.Identity)
}

// newer is the key of a member that not everybody may know yet.
func newer(m Member) fingerprint.Key {
	if m.Next.IsZero() {
		return m.Current
	}
	return m.Next
}

// noteListed writes down which trust state (for control members) or registry (for the others) was the first to name the
// member's newer key, once there is one.
func (d *Daemon) noteListed(ctx context.Context, p *publication, id fingerprint.Identity) (Member, error) {
	return d.cluster.update(ctx, id, func(m Member) (Member, error) {
		if m.Listed.IsZero() && p.names(id, newer(m)) {
			m.Listed = p.registry.Registry.Version()
			if id.Role == fingerprint.Control {
				m.Listed = p.trust.bundle.Version
			}
		}
		return m, nil
	})
}

// names says whether what is published names the key as the member's.
func (p *publication) names(id fingerprint.Identity, key fingerprint.Key) bool {
	if id.Role == fingerprint.Control {
		return slices.ContainsFunc(p.trust.bundle.Control, func(x verify.Controller) bool {
			return x.Member == id && (x.Current == key || x.Next == key)
		})
	}
	entry, ok := p.registry.Registry.Member(id)
	return ok && (entry.Current == key || entry.Next == key)
}
