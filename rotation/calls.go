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

// State answers with what is newer than what the peer holds. The error wraps ErrUnknownMember or ErrRevoked when the
// peer has no business here.
func (d *Daemon) State(ctx context.Context, peer fingerprint.Identity, ask Ask) (News, error) {
	if err := d.mayAsk(ctx, peer); err != nil {
		return News{}, fmt.Errorf("rotation: state for %q: %w", peer, err)
	}
	if ask.Wait <= 0 || d.now() == nil {
		if _, err := d.refresh(ctx); err != nil {
			return News{}, fmt.Errorf("rotation: state for %q: %w", peer, err)
		}
	}
	timeout := time.NewTimer(min(ask.Wait, maxWait))
	defer timeout.Stop()
	for {
		d.mu.Lock()
		p, changed := d.published, d.changed
		d.mu.Unlock()
		news, err := d.news(ctx, p, peer, ask)
		if err != nil {
			return News{}, fmt.Errorf("rotation: state for %q: %w", peer, err)
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

// mayAsk turns away who is not, or no longer, a member. It reads the record itself: a connection may be older than a
// removal.
func (d *Daemon) mayAsk(ctx context.Context, peer fingerprint.Identity) error {
	m, _, err := d.cluster.member(ctx, peer)
	if err == nil && m.Revoked != nil {
		err = ErrRevoked
	}
	return err
}

func (d *Daemon) news(ctx context.Context, p *publication, peer fingerprint.Identity, ask Ask) (News, error) {
	var news News
	current := p.trust.bundle.Version
	if ask.State.Term != current.Term && !ask.State.IsZero() {
		return news, fmt.Errorf("you hold state %v of another term than %v", ask.State, current)
	}
	from := ask.State.Number
	for n := from + 1; n <= current.Number && n-from <= maxStates; n++ {
		signed, err := d.cluster.envelope(ctx, fingerprint.Version{Term: current.Term, Number: n})
		if err != nil {
			return news, err
		}
		news.States = append(news.States, signed)
	}
	if ask.Registry.Less(p.registry.Registry.Version()) {
		var err error
		if news.Registry, err = p.document(ask.Registry); err != nil {
			return news, err
		}
	}
	asked, ok := p.asked[peer]
	news.Renew = ok && asked == ask.Leaf
	return news, nil
}

// Report takes a signed report in. spki is the public key that signed it, which must be one of the member's two. The
// record is written before the numbers of the answer are read, so that a step which did not count the peer is
// always visible to it.
func (d *Daemon) Report(ctx context.Context, peer fingerprint.Identity, spki, envelope []byte) (Ack, error) {
	ack, err := d.report(ctx, peer, spki, envelope)
	if err != nil {
		return Ack{}, fmt.Errorf("rotation: report of %q: %w", peer, err)
	}
	return ack, nil
}

func (d *Daemon) report(ctx context.Context, peer fingerprint.Identity, spki, envelope []byte) (Ack, error) {
	public, err := parsePublicKey(spki)
	if err != nil {
		return Ack{}, err
	}
	r, err := verify.OpenReport(envelope, public)
	if err != nil {
		return Ack{}, err
	}
	if r.Member != peer {
		return Ack{}, fmt.Errorf("it speaks for %q", r.Member)
	}
	key := fingerprint.OfKey(spki)
	if r.Key != key {
		return Ack{}, fmt.Errorf("it is signed by key %s and says that %s is served", key.Short(), r.Key.Short())
	}
	before, _, err := d.cluster.member(ctx, peer)
	if err != nil {
		return Ack{}, err
	}
	hold, err := d.hold(ctx, before)
	if err != nil {
		return Ack{}, err
	}
	if hold != "" {
		r.Serving = false // it is told to wait, so it does not count yet
	}
	_, err = d.cluster.update(ctx, peer, func(m Member) (Member, error) {
		if m.Revoked != nil {
			return m, ErrRevoked
		}
		if key != m.Current && key != m.Next {
			return m, fmt.Errorf("key %s is not the member's: current is %s", key.Short(), m.Current.Short())
		}
		return observe(m, r)
	})
	if err != nil {
		return Ack{}, err
	}
	held, err := d.cluster.load(ctx)
	if err != nil {
		return Ack{}, err
	}
	if r.Cluster != held.bundle.Cluster {
		return Ack{}, fmt.Errorf("it speaks of cluster %s", r.Cluster.UUID)
	}
	registry, _, err := d.cluster.registryRecord(ctx)
	return Ack{State: held.bundle.Version, Registry: registry.Version, Hold: hold}, err
}

// hold says why a member of a listed role may not begin to serve: not everybody knows its key yet.
func (d *Daemon) hold(ctx context.Context, m Member) (string, error) {
	if m.Identity.Role == fingerprint.Control || m.Report != nil && m.Report.Serving {
		return "", nil
	}
	p, err := d.refresh(ctx)
	if err != nil || p.trust.bundle.RuleFor(m.Identity.Role) == fingerprint.Open {
		return "", err
	}
	if err := d.noteListed(ctx, p, m.Identity, newer(m)); err != nil {
		return "", err
	}
	if m, _, err = d.cluster.member(ctx, m.Identity); err != nil {
		return "", err
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
func (d *Daemon) Renew(ctx context.Context, peer fingerprint.Identity, r Renewal) (Renewed, error) {
	renewed, err := d.renew(ctx, peer, r)
	if err != nil {
		return Renewed{}, fmt.Errorf("rotation: renew %q: %w", peer, err)
	}
	return renewed, nil
}

func (d *Daemon) renew(ctx context.Context, peer fingerprint.Identity, r Renewal) (Renewed, error) {
	c := d.cluster
	public, key, err := parseKey(r.CSR, peer)
	if err != nil {
		return Renewed{}, err
	}
	m, _, err := c.member(ctx, peer)
	if err != nil {
		return Renewed{}, err
	}
	if m.Revoked != nil {
		return Renewed{}, ErrRevoked
	}
	if key != m.Current {
		if wait, err := d.list(ctx, peer, requestKeys{member: public, memberKey: key}, r.Counter); err != nil || wait != "" {
			return Renewed{Wait: wait}, err
		}
	}
	held, err := c.load(ctx)
	if err != nil {
		return Renewed{}, err
	}
	chain, err := c.issue(ctx, held.bundle, peer, public, func(m Member) (Member, error) {
		if key != m.Current && key != m.Next {
			return m, errors.New("its key was replaced meanwhile: ask again")
		}
		return m, nil
	})
	return Renewed{Chain: chain}, err
}

// list records a next key and says why it may not be served yet; "" when it may.
func (d *Daemon) list(ctx context.Context, peer fingerprint.Identity, keys requestKeys, counter uint64) (string, error) {
	c := d.cluster
	if err := c.unusedKey(ctx, peer, keys); err != nil {
		return "", err
	}
	_, err := c.update(ctx, peer, func(m Member) (Member, error) {
		if m.Revoked != nil {
			return m, ErrRevoked
		}
		if m.Next == keys.memberKey {
			return m, nil
		}
		return requestNext(m, keys.memberKey, counter)
	})
	if err != nil {
		return "", err
	}
	p, err := d.refresh(ctx)
	if err != nil {
		return "", err
	}
	if err := d.noteListed(ctx, p, peer, keys.memberKey); err != nil {
		return "", err
	}
	v, _, err := c.view(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(v.Members, func(m Member) bool { return m.Identity == peer })
	if i < 0 {
		return "", ErrUnknownMember
	}
	if peer.Role == fingerprint.Control && controlKeys(v.State, v.Members[i]) != nil {
		return "the trust state does not name the key yet", nil
	}
	return firstReason(serveNext(v, v.Members[i])), nil
}

// newer is the key of a member that not everybody may know yet.
func newer(m Member) fingerprint.Key {
	if m.Next.IsZero() {
		return m.Current
	}
	return m.Next
}

// noteListed writes down which registry was the first to name the key, once there is one.
func (d *Daemon) noteListed(ctx context.Context, p *publication, peer fingerprint.Identity, key fingerprint.Key) error {
	entry, ok := p.registry.Registry.Member(peer)
	if !ok || entry.Current != key && entry.Next != key {
		return nil
	}
	_, err := d.cluster.update(ctx, peer, func(m Member) (Member, error) {
		if newer(m) == key && m.Listed.IsZero() {
			m.Listed = p.registry.Registry.Version()
		}
		return m, nil
	})
	return err
}
