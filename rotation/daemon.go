package rotation

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// Daemon is one CA daemon: it signs committed trust states, answers members, and moves rollovers on. Any number may
// run over one store; each step is one compare-and-swap, so they cannot disagree. Safe for concurrent use.
type Daemon struct {
	cluster   *Cluster
	self      fingerprint.Identity
	documents crypto.Signer

	mu        sync.Mutex // guards what follows
	published *publication
	changed   chan struct{} // closed when published is replaced
	next      *look         // not begun
	said      string        // blockers logged last

	refreshing sync.Mutex // one look at a time; held across store calls
}

// publication is what members may be told: committed, signed, and found in the store at one moment. It is immutable.
type publication struct {
	trust    *trustRecord
	registry *verify.SignedRegistry
	recent   registries // the last ones, this one among them
	whole    []byte     // document of registry for who holds none of them
	members  []Member
	asked    map[fingerprint.Identity][]fingerprint.Certificate // leaves that an operator wants replaced
}

// Daemon makes a CA daemon of the control member self, which signs documents with the given signer. It does nothing
// until Run.
func (c *Cluster) Daemon(self fingerprint.Identity, documents crypto.Signer) *Daemon {
	return &Daemon{cluster: c, self: self, documents: documents, changed: make(chan struct{})}
}

// Run publishes what is committed and drives rollovers until ctx ends, whose error it returns. A daemon that was
// killed at any instruction is continued by the next Run, here or elsewhere. A look at the store that is under way when
// Run returns may go on for up to half a minute: give the store back after that.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { d.watch(ctx, wake) })
	defer watching.Wait()
	for {
		err := d.turn(ctx)
		if err != nil && ctx.Err() == nil {
			d.cluster.cfg.Log.Warn("CA daemon will try again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-time.After(d.idle(err)):
		}
		// Many members report at the same moment: one look at the store serves them all.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(driverPause):
		}
	}
}

// idle is how long the store need not be looked at when it says nothing by itself. What is due in a settled cluster is
// weeks away, and the watch wakes the driver at every change; while a rollover runs a change that the watch missed must
// not cost more than a moment.
func (d *Daemon) idle(err error) time.Duration {
	switch p := d.now(); {
	case err != nil || p == nil:
		return driverRetry
	case p.trust.bundle.Phase != verify.Settled || p.trust.bundle.Pending != nil:
		return driverTick
	}
	return settledTick
}

// watch wakes the driver at every change of the store, and whenever it may have missed one.
func (d *Daemon) watch(ctx context.Context, wake chan<- struct{}) {
	var after keystore.Revision
	for ctx.Err() == nil {
		for record, err := range d.cluster.cfg.Store.Watch(ctx, "", after) {
			if err != nil {
				break
			}
			after = record.Revision
			if strings.HasPrefix(record.Key, "history/") || strings.HasPrefix(record.Key, keysPrefix) {
				continue
			}
			nudge(wake)
		}
		if _, now, err := d.cluster.cfg.Store.List(ctx, trustKey+"/"); err == nil {
			after = now
			nudge(wake)
		}
		select {
		case <-ctx.Done():
		case <-time.After(driverRetry):
		}
	}
}

func nudge(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// turn looks at the store, publishes, and takes as many steps as the guards allow.
func (d *Daemon) turn(ctx context.Context) error {
	for {
		p, err := d.refresh(ctx)
		if err != nil {
			return err
		}
		moved, err := d.drive(ctx, p)
		if err != nil || !moved {
			return err
		}
	}
}

// drive takes one step if the machine allows one.
func (d *Daemon) drive(ctx context.Context, p *publication) (moved bool, err error) {
	c := d.cluster
	if err := c.destroyRetired(ctx, p.trust.bundle); err != nil {
		return false, err
	}
	view := View{State: p.trust.bundle, Digest: p.trust.digest, Members: p.members}
	decision := Next(view, time.Now())
	if decision.Commit != nil || decision.Make != nil {
		pause, _, err := c.paused(ctx)
		if err != nil {
			return false, err
		}
		if pause != nil {
			decision = Decision{Blockers: []Blocker{{Reason: "an operator paused it: " + pause.Reason}}}
		}
	}
	d.say(p.trust.bundle, decision.Blockers)
	next := decision.Commit
	switch {
	case decision.Make != nil:
		if next, err = c.prepare(ctx, p.trust, decision.Make); err != nil {
			return false, err
		}
	case next == nil:
		if next, err = c.upkeep(ctx, view); err != nil || next == nil {
			return false, err
		}
	}
	_, err = c.commit(ctx, p.trust, next)
	if errors.Is(err, keystore.ErrConflict) {
		return true, nil // another daemon was first: look again
	}
	return err == nil, err
}

func (d *Daemon) say(b *verify.Bundle, blockers []Blocker) {
	var list []string
	for _, x := range blockers {
		list = append(list, x.Reason)
	}
	line := strings.Join(list, "; ")
	d.mu.Lock()
	defer d.mu.Unlock()
	if line != d.said && line != "" {
		d.cluster.cfg.Log.Info("rollover waits", "phase", b.Phase, "state", b.Version, "for", line)
	}
	d.said = line
}

// refresh reads the store and publishes what it finds. What is published was committed before, and read after the call:
// callers that come while a look is under way wait for the next one, and share it.
func (d *Daemon) refresh(ctx context.Context) (*publication, error) {
	d.mu.Lock()
	l := d.next
	if l == nil {
		l = &look{done: make(chan struct{})}
		d.next = l
		go d.lookOnce(context.WithoutCancel(ctx), l)
	}
	d.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return l.found, l.err
	}
}

// look is one look at the store, for all who came before it began.
type look struct {
	done  chan struct{}
	found *publication
	err   error
}

func (d *Daemon) lookOnce(ctx context.Context, l *look) {
	defer close(l.done)
	d.refreshing.Lock()
	defer d.refreshing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	d.mu.Lock()
	d.next = nil
	d.mu.Unlock()
	l.found, l.err = d.find(ctx)
}

func (d *Daemon) find(ctx context.Context) (*publication, error) {
	c := d.cluster
	held, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.publish(ctx, held, d.self, d.documents); err != nil {
		return nil, err
	}
	p := &publication{trust: held, asked: make(map[fingerprint.Identity][]fingerprint.Certificate)}
	if err := d.signRegistry(ctx, p); err != nil {
		return nil, err
	}
	for _, m := range p.members {
		if len(m.Renew) > 0 {
			p.asked[m.Identity] = m.Renew
		}
	}
	return p, d.replace(p)
}

// signRegistry reads the members and signs their registry, unless the one published says the same under the same state.
func (d *Daemon) signRegistry(ctx context.Context, p *publication) error {
	n, err := d.cluster.numbered(ctx, p.trust.bundle)
	if err != nil {
		return err
	}
	p.members = n.members
	old := d.now()
	if old != nil && old.registry.Registry.Version() == n.registry.Version() && old.trust.digest == p.trust.digest {
		p.registry, p.recent, p.whole = old.registry, old.recent, old.whole
		return nil
	}
	if old != nil {
		p.recent = old.recent
	}
	p.recent = p.recent.with(n.registry)
	p.registry, err = verify.SignRegistry(p.trust.bundle, n.registry, n.record.Previous, n.record.Issued, n.record.Issued.Add(registryFresh), d.documents)
	if err != nil {
		return err
	}
	p.whole, err = p.registry.Document(nil)
	return err
}

// document is the registry for who holds one of version v: what changed, or all of it.
func (p *publication) document(v fingerprint.Version) ([]byte, error) {
	if since := p.recent.of(v); since != nil {
		return p.registry.Document(since)
	}
	return p.whole, nil
}

func (d *Daemon) now() *publication {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.published
}

// replace publishes p and wakes the long polls when it says anything new.
func (d *Daemon) replace(p *publication) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.published
	if old != nil && p.trust.bundle.Version.Less(old.trust.bundle.Version) {
		return fmt.Errorf("the store went back from state %v to %v: it was restored; nothing is done until an operator adopts a state", old.trust.bundle.Version, p.trust.bundle.Version)
	}
	d.published = p
	if old == nil || old.trust.digest != p.trust.digest || old.registry.Registry.Version() != p.registry.Registry.Version() || !maps.EqualFunc(old.asked, p.asked, slices.Equal) {
		close(d.changed)
		d.changed = make(chan struct{})
	}
	return nil
}

// upkeep is what a state needs from time to time: a control member's next key is promoted, one that was removed leaves,
// document signers get new
// certificates, and the state is issued again before it goes stale. It returns nil when nothing is due.
func (c *Cluster) upkeep(ctx context.Context, v View) (*verify.Bundle, error) {
	for _, m := range v.Members {
		if m.Identity.Role != fingerprint.Control {
			continue
		}
		if m.Revoked != nil {
			// It was removed while it was being admitted; the last one stays.
			if next, err := withoutControl(v.State, m.Identity); err == nil && next != nil {
				return next, nil
			}
			continue
		}
		if next := controlKeys(v.State, m); next != nil {
			return next, nil
		}
	}
	now := time.Now()
	if v.State.Phase == verify.Settled {
		if next, err := c.freshDocuments(ctx, v.State, now); err != nil || next != nil {
			return next, err
		}
	}
	if issued, until := v.State.Issued, v.State.FreshUntil; now.After(issued.Add(until.Sub(issued) / 2)) {
		return v.State.Clone(), nil
	}
	return nil, nil
}

// controlKeys brings a control member's pins in the state in line with its record, or returns nil when they are. The
// record leads: a next key stands there first, and current becomes next when the member has proved it.
func controlKeys(s *verify.Bundle, m Member) *verify.Bundle {
	i := slices.IndexFunc(s.Control, func(x verify.Controller) bool { return x.Member == m.Identity })
	if i < 0 || s.Control[i].Current == m.Current && s.Control[i].Next == m.Next {
		return nil
	}
	next := s.Clone()
	next.Control[i].Current, next.Control[i].Next = m.Current, m.Next
	return next
}

// freshDocuments issues the certificates of all document signers again when one has used two thirds of its life.
func (c *Cluster) freshDocuments(ctx context.Context, s *verify.Bundle, now time.Time) (*verify.Bundle, error) {
	due, err := documentsDue(s, now)
	if err != nil || !due {
		return nil, err
	}
	authority, err := c.authority(ctx, s, s.Signer)
	if err != nil {
		return nil, err
	}
	next := s.Clone()
	if next.Control, err = documentsUnder(s, authority, now); err != nil {
		return nil, err
	}
	for i := range next.Control {
		next.Control[i].Documents = next.Control[i].Documents[len(s.Control[i].Documents):]
	}
	return next, nil
}
