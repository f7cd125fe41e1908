package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/verify"
)

const (
	warmUp    = 1500 * time.Millisecond // of traffic before anything is changed, and at the end
	downTime  = 1500 * time.Millisecond // of the node that is killed
	phaseTime = 90 * time.Second        // within which each change must be over
)

// livecluster is the story: traffic all the while, and everything is replaced under it.
func livecluster(ctx context.Context, o options, show *display) (result, error) {
	began := time.Now()
	c, err := newCluster(ctx, o)
	if err != nil {
		return result{}, err
	}
	defer c.close()
	s := &story{cluster: c, show: show, began: began, drawing: newTimeline(began)}
	if err := s.tell(ctx, o); err != nil {
		return result{}, err
	}
	r := s.result(o)
	if o.timeline != "" {
		if err := s.drawing.write(o.timeline); err != nil {
			return result{}, err
		}
		show.note("timeline", "drawn into "+o.timeline)
	}
	return r, nil
}

// story is one run.
type story struct {
	*cluster
	show    *display
	began   time.Time
	drawing *timeline
	first   verify.Root
	last    verify.Root
	pairs   int
	refused []verify.Denial
}

func (s *story) tell(ctx context.Context, o options) error {
	status, err := s.ca.Status(ctx)
	if err != nil {
		return err
	}
	s.drawing.see(status)
	s.first = status.State.Roots[0]
	s.show.cluster(status)
	for _, n := range s.nodes {
		if err := s.dial(n); err != nil {
			return err
		}
	}
	if err := s.pause(ctx, "traffic", "each node dials every other without pause", warmUp); err != nil {
		return err
	}
	if err := s.renew(ctx, "renew one", s.nodes[0].id); err != nil {
		return err
	}
	if err := s.renew(ctx, "renew all"); err != nil {
		return err
	}
	for i, algorithm := range o.algorithms[1:] {
		if err := s.rollover(ctx, algorithm, i == 0); err != nil {
			return err
		}
	}
	if err := s.pause(ctx, "traffic", "under the new root", warmUp); err != nil {
		return err
	}
	return s.finish(ctx)
}

// pause lets the traffic run.
func (s *story) pause(ctx context.Context, what, detail string, d time.Duration) error {
	s.show.note(what, detail)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.broken:
		return err
	case <-time.After(d):
		return nil
	}
}

// renew asks members for new leaves (all, if none is named) and waits until they serve them.
func (s *story) renew(ctx context.Context, what string, ids ...fingerprint.Identity) error {
	before, err := s.ca.Status(ctx)
	if err != nil {
		return err
	}
	old := make(map[fingerprint.Identity]fingerprint.Certificate)
	for _, m := range before.Members {
		old[m.Identity] = m.Leaf
	}
	if len(ids) == 0 {
		for id := range old {
			ids = append(ids, id)
		}
	}
	s.drawing.phase(what)
	if _, err := s.ca.RequestRenewal(ctx, ids...); err != nil {
		return err
	}
	return s.until(ctx, func(now rotation.Status) bool {
		done := 0
		for _, id := range ids {
			for _, m := range now.Members {
				if m.Identity == id && m.Report != nil && m.Report.Leaf == m.Leaf && m.Leaf != old[id] {
					done++
				}
			}
		}
		s.show.progress(what, now, bar{"renewed", done, len(ids)})
		return done == len(ids)
	})
}

// rollover replaces the root. With trouble, a node is killed once the new root is being trusted, and while everybody
// waits for it so is the CA daemon, at a random moment; both come back.
func (s *story) rollover(ctx context.Context, algorithm keystore.Algorithm, trouble bool) error {
	status, err := s.ca.Status(ctx)
	if err != nil {
		return err
	}
	plan, err := status.Plan(algorithm, time.Now())
	if err != nil {
		return err
	}
	to := plan.To
	what := fmt.Sprintf("root g%d → g%d (%s)", plan.From, to, algorithm)
	s.show.note("plan", fmt.Sprintf("%s: %d leaves will be replaced, %d members would block", what, plan.Leaves, len(plan.Blockers)))
	if err := s.ca.Rollover(ctx, algorithm); err != nil {
		return err
	}
	troubled := make(chan error, 1)
	if !trouble {
		troubled <- nil
	}
	started := false
	err = s.until(ctx, func(now rotation.Status) bool {
		s.drawing.phase(string(now.State.Phase))
		confirmed, leaves := rolloverBars(now, to)
		s.show.progress(what, now, confirmed, leaves)
		if trouble && !started && now.State.Phase != verify.Settled {
			started = true
			go func() { troubled <- s.trouble(ctx) }()
		}
		return now.State.Phase == verify.Settled && now.State.Signer == to && confirmed.done == confirmed.of
	})
	if err != nil {
		return err
	}
	select {
	case err = <-troubled:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if final, statusErr := s.ca.Status(ctx); statusErr == nil {
		s.last, _ = final.State.Root(to)
	}
	return err
}

// rolloverBars are the two: who trusts the state in force, and who serves a leaf of the new root.
func rolloverBars(now rotation.Status, to int) (confirmed, leaves bar) {
	confirmed, leaves = bar{name: "confirmed"}, bar{name: fmt.Sprintf("leaves of g%d", to)}
	root, _ := now.State.Root(to)
	for _, m := range now.Members {
		confirmed.of++
		leaves.of++
		if m.Report == nil {
			continue
		}
		if m.Report.State == now.State.Version && m.Report.Digest == now.Digest {
			confirmed.done++
		}
		if !root.Key.IsZero() && m.Report.Issuer == root.Key {
			leaves.done++
		}
	}
	return confirmed, leaves
}

// trouble kills a node and then the CA daemon, and brings both back.
func (s *story) trouble(ctx context.Context) error {
	victim := s.nodes[len(s.nodes)-1]
	s.kill(victim)
	s.show.note("SIGKILL", "node "+victim.id.ID)
	if err := sleep(ctx, downTime/2+rand.N(downTime/4)); err != nil {
		return err
	}
	s.daemon.kill()
	s.show.note("SIGKILL", "CA daemon, the driver of the rollover")
	if err := sleep(ctx, downTime/4); err != nil {
		return err
	}
	if err := s.startDaemon(); err != nil {
		return err
	}
	s.show.note("back", "CA daemon")
	if err := s.startNode(victim); err != nil {
		return err
	}
	s.ledger.cameBack(victim.id.ID)
	s.show.note("back", "node "+victim.id.ID)
	return s.dial(victim)
}

// kill is noted before it happens, so that whatever it interrupts is after it.
func (s *story) kill(n *node) {
	s.ledger.wentDown(n.id.ID)
	n.process.kill()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// until looks at the cluster after each change of its store, until it is as wanted.
func (s *story) until(ctx context.Context, wanted func(rotation.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, phaseTime)
	defer cancel()
	var why []rotation.Blocker
	for _, err := range s.store.Watch(ctx, "", 0) {
		if err != nil {
			return fmt.Errorf("the change is not over (waiting for %v): %w", why, err)
		}
		select {
		case err := <-s.broken:
			return err
		default:
		}
		now, err := s.ca.Status(ctx)
		if err != nil {
			return err
		}
		s.drawing.see(now)
		why = now.Blockers
		if wanted(now) {
			return nil
		}
	}
	return nil
}

// finish stops the traffic and judges every pair by what the processes have live.
func (s *story) finish(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	var parties []verify.Party
	for _, n := range s.nodes {
		p, err := s.party(n)
		if err != nil {
			return fmt.Errorf("node %s: %w", n.id.ID, err)
		}
		parties = append(parties, p)
	}
	s.refused = verify.Mutual(parties, time.Now())
	s.pairs = len(parties) * (len(parties) - 1)
	status, err := s.ca.Status(ctx)
	if err != nil {
		return err
	}
	s.drawing.see(status)
	s.show.pairs(s.pairs, s.refused)
	s.show.expiry(status)
	return nil
}

// party asks a node's process what it has live.
func (s *story) party(n *node) (verify.Party, error) {
	if err := n.process.send(command{Credentials: true}); err != nil {
		return verify.Party{}, err
	}
	var live *credentials
	select {
	case live = <-n.live:
	case <-n.process.ended:
		return verify.Party{}, fmt.Errorf("process ended")
	}
	bundle, err := verify.ParseBundle(live.State)
	if err != nil {
		return verify.Party{}, err
	}
	version, err := fingerprint.ParseVersion(live.Version)
	if err != nil {
		return verify.Party{}, err
	}
	registry, err := fingerprint.ParseRegistry(version, []byte(live.Registry))
	if err != nil {
		return verify.Party{}, err
	}
	verifier, err := verify.NewVerifier(bundle, registry)
	if err != nil {
		return verify.Party{}, err
	}
	var chain []*x509.Certificate
	for _, der := range live.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return verify.Party{}, err
		}
		chain = append(chain, c)
	}
	return verify.Party{Identity: n.id, Chain: chain, Verifier: verifier}, nil
}

// result is what the run comes to.
func (s *story) result(o options) result {
	c := s.ledger.close()
	r := result{Nodes: o.nodes, Handshakes: c.good, Interrupted: len(c.interrupted), Pairs: s.pairs, Refused: len(s.refused),
		Took: time.Since(s.began), Excess: c.excess, Downs: s.downsSince()}
	r.fail(c.failed)
	for _, d := range s.refused {
		r.Failed++
		r.Reasons = append(r.Reasons, d.Refusal.Error())
	}
	if c.excess != "" {
		r.Failed += len(c.interrupted)
		r.Reasons = append(r.Reasons, c.excess)
	}
	r.From = root{s.first.Generation, s.first.Key}
	r.To = root{s.last.Generation, s.last.Key}
	return r
}

// downsSince says when which node was down, in time since the beginning.
func (s *story) downsSince() []downSpan {
	var spans []downSpan
	for _, d := range s.ledger.downs {
		spans = append(spans, downSpan{d.node, d.from.Sub(s.began), d.to.Sub(s.began)})
	}
	return spans
}
