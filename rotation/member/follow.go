package member

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// follower is the running part of a member. One goroutine owns it; only the long poll runs beside.
type follower struct {
	*Member
	ca       calls
	reporter reporter

	joined  bool            // this boot was recorded and the state read after it
	renew   bool            // replace the leaf although it is not due
	rekey   bool            // replace the key too
	next    fingerprint.Key // made, durable, not served
	waiting []task          // answered when no renewal is outstanding
	retry   pacer
	whole   atomic.Bool // ask for the whole registry: the poll reads it
}

// pacer spaces attempts out: each failure doubles the pause up to a bound, and no two members keep in step.
type pacer struct{ pause time.Duration }

func (p *pacer) after(err error) time.Duration {
	if err == nil {
		p.pause = 0
		return 0
	}
	p.pause = min(max(retryFirst, 2*p.pause), retryMost)
	return p.pause/2 + rand.N(p.pause/2+1)
}

// boot is a rejoin: the boot is recorded, which withdraws the confirmation of the boot before; then the state is read;
// then a leaf of its signer is taken; then the member says that it serves. Only when the state is still the same after
// that was recorded does it serve: a step that did not count it is then visible to it. Without a CA daemon it
// serves what the disk holds after a bounded wait: a CA that is down must not keep a cluster down.
func (f *follower) boot(ctx context.Context) error {
	limit := time.NewTimer(f.cfg.BootBound)
	defer limit.Stop()
	for {
		err := f.rejoin(ctx)
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
		f.cfg.Log.Info("booting", "member", f.Identity(), "waits", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			if errors.Is(err, errHold) {
				limit.Reset(f.cfg.BootBound)
				continue
			}
			f.cfg.Log.Warn("no CA daemon answers: serving what the disk holds, uncounted until one does", "member", f.Identity(), "error", err)
			return nil
		case <-time.After(f.retry.after(err)):
		}
	}
}

func (f *follower) rejoin(ctx context.Context) error {
	if _, err := f.report(ctx, false); err != nil {
		return err
	}
	for range maxRejoins {
		news, err := f.ca.state(ctx, f.holds(0))
		if err != nil {
			return err
		}
		if err := f.install(ctx, heard{news, f.live.Self().Leaf}); err != nil {
			return err
		}
		if err := f.settleLeaf(ctx); err != nil {
			return err
		}
		ack, err := f.report(ctx, true)
		if err != nil {
			return err
		}
		if ack.Hold != "" {
			return fmt.Errorf("%w: %s", errHold, ack.Hold)
		}
		if ack.State == f.live.Credentials().Bundle.Version {
			f.joined = true
			return f.disk.dropKeys(ctx)
		}
	}
	return errors.New("the CA daemon says again and again that another state is in force than it has told")
}

// holds is what the member tells the CA when it asks for news.
func (f *follower) holds(wait time.Duration) rotation.Ask {
	c := f.live.Credentials()
	ask := rotation.Ask{State: c.Bundle.Version, Registry: c.Registry.Version(), Leaf: fingerprint.OfCertificate(c.Chain[0]), Wait: wait}
	if f.whole.Load() {
		ask.Registry = fingerprint.Version{}
	}
	return ask
}

// heard is news, and the leaf that was served when they were asked for.
type heard struct {
	rotation.News
	leaf fingerprint.Certificate
}

// poll asks for news for ever. What it heard goes out through answers, and what became of it comes back through next;
// after a failure, of either, the next question waits. It ends with ctx, or with an error that is final.
func (f *follower) poll(ctx context.Context, next <-chan error, answers chan<- heard, ended chan<- error) {
	var pace pacer
	var err error
	for {
		if pause := pace.after(err); pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		var news heard
		if news, err = f.ask(ctx); final(err) {
			ended <- err
			return
		}
		if err != nil {
			f.cfg.Log.Info("no news from the CA", "member", f.Identity(), "error", err)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case answers <- news:
		}
		select {
		case <-ctx.Done():
			return
		case err = <-next:
		}
	}
}

// ask puts one question. A swap under way ends a question that speaks of what was live before it, and with it a
// connection that was made so, and it is asked anew.
func (f *follower) ask(ctx context.Context) (news heard, err error) {
	for swapped := true; swapped && ctx.Err() == nil; {
		news, swapped, err = f.askOnce(ctx)
	}
	return news, err
}

func (f *follower) askOnce(ctx context.Context) (news heard, swapped bool, err error) {
	changed := f.live.Changed()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-asking.Done():
		case <-changed:
			cancel()
		}
	}()
	ask := f.holds(pollWait)
	news.leaf = ask.Leaf
	news.News, err = f.ca.state(asking, ask)
	return news, err != nil && asking.Err() != nil, err
}

// follow is the life of a member after its boot.
func (f *follower) follow(ctx context.Context) error {
	answers, next, ended := make(chan heard), make(chan error, 1), make(chan error, 1)
	go f.poll(ctx, next, answers, ended)
	for {
		err := f.settle(ctx)
		if final(err) {
			return err
		}
		timer := time.NewTimer(f.pause(err))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case err := <-ended:
			timer.Stop()
			return err
		case <-timer.C:
		case t := <-f.tasks:
			f.renew, f.rekey = true, f.rekey || t.rekey
			f.waiting = append(f.waiting, t)
		case news := <-answers:
			known := f.renew
			err := f.install(ctx, news)
			if err != nil {
				f.cfg.Log.Warn("news from the CA are not taken", "member", f.Identity(), "error", err)
			} else if known && news.Renew {
				err = errKnown // a renewal that fails must not become a question without pause
			}
			next <- err
		}
		timer.Stop()
	}
}

// settle brings leaf, key and report in line with what is live. The report does not wait for the others: somebody may be
// waiting for it to go on, perhaps the one for whom a re-key here waits.
func (f *follower) settle(ctx context.Context) error {
	if !f.joined {
		return f.rejoin(ctx)
	}
	err := f.settleLeaf(ctx)
	if err == nil {
		err = f.settleKey(ctx)
	}
	if err == nil {
		f.finish()
	}
	return errors.Join(err, f.settleReport(ctx))
}

func (f *follower) settleReport(ctx context.Context) error {
	if !f.reporter.due(f.observe(true), time.Now()) {
		return nil
	}
	if _, err := f.report(ctx, true); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	// The report is proof that the key in service is known as current: the ones before it are needed no more.
	return f.disk.dropKeys(ctx)
}

// finish tells those who asked that it is done.
func (f *follower) finish() {
	for _, t := range f.waiting {
		t.done <- nil
	}
	f.waiting = nil
}

// pause is how long nothing need be looked at, with err from the last look.
func (f *follower) pause(err error) time.Duration {
	if err != nil {
		level := slog.LevelInfo
		if u := live.UrgencyOf(f.Identity(), f.live.Leaf(), time.Now()); u == live.Urgent || u == live.Expired {
			level = slog.LevelWarn
		}
		f.cfg.Log.Log(context.Background(), level, "will try again", "member", f.Identity(), "leaf_ends", f.live.Leaf().NotAfter, "error", err)
		return f.retry.after(err)
	}
	f.retry.after(nil)
	look := clockPoll
	if f.live.Credentials().Bundle.Phase != verify.Settled {
		look = refusalPoll
	}
	return nextLook(look, time.Now(), f.renewAt())
}

// nextLook is how long to wait for the renewal's moment. The wait is short, and the moment is held against the wall
// clock after each: a machine that slept, or whose clock was set, renews a minute after it is back at the latest.
func nextLook(look time.Duration, now, renewAt time.Time) time.Duration {
	return max(time.Millisecond, min(look, renewAt.Sub(now)))
}

// errHold says that a CA daemon answered, and that the member may not serve yet: not everybody knows its key.
var errHold = errors.New("may not serve yet")

// errKnown says that an answer told nothing new.
var errKnown = errors.New("known already")

// errWait says that a next key may not be served yet.
var errWait = errors.New("next key waits")

// settleLeaf renews when the root that signs is another than the leaf's, when the moment has come, or when asked.
func (f *follower) settleLeaf(ctx context.Context) error {
	c := f.live.Credentials()
	if c.Bundle.Admits(f.live.Self().Issuer) && !f.renew && time.Now().Before(f.renewAt()) {
		return nil
	}
	renewed, err := f.request(ctx, c.Key, 0)
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	if err := f.serve(ctx, renewed.Chain, c.Key, f.disk.record.Key, f.disk.record.Next); err != nil {
		return err
	}
	f.renew = false
	return nil
}

// settleKey moves a re-key on: make the next key, have it listed, and serve it when the CA gives a leaf for it.
func (f *follower) settleKey(ctx context.Context) error {
	if !f.rekey && f.disk.record.Next == "" {
		return nil
	}
	f.rekey = true
	key, err := f.disk.nextKey(ctx, f.cfg.Algorithm)
	if err != nil {
		return err
	}
	if f.next, err = fingerprint.OfPublicKey(key.Public()); err != nil {
		return err
	}
	renewed, err := f.request(ctx, key, f.disk.record.Requests)
	if err != nil {
		return fmt.Errorf("re-key: %w", err)
	}
	if renewed.Wait != "" {
		return fmt.Errorf("%w: %s", errWait, renewed.Wait)
	}
	if err := f.serve(ctx, renewed.Chain, key, f.disk.record.Next, ""); err != nil {
		return err
	}
	f.rekey, f.next = false, fingerprint.Key{}
	return nil
}

func (f *follower) request(ctx context.Context, key crypto.Signer, counter uint64) (rotation.Renewed, error) {
	csr, err := ca.NewRequest(key, f.Identity())
	if err != nil {
		return rotation.Renewed{}, err
	}
	return f.ca.renew(ctx, rotation.Renewal{CSR: csr, Counter: counter})
}

// serve checks a new leaf, makes it durable, then live. The fence stands here and in live: a leaf of a root that the
// live state does not name as signer is not taken, however it came to be signed; the newer state comes first.
func (f *follower) serve(ctx context.Context, chain [][]byte, key crypto.Signer, label, next string) error {
	c := f.live.Credentials()
	issuer, err := c.Bundle.IssuerOf(chain)
	if err != nil {
		return err
	}
	if !c.Bundle.Admits(issuer) {
		return fmt.Errorf("leaf of root %s came before the state that lets it sign", issuer.Short())
	}
	c.Chain, c.Key = chain, key
	if _, err := live.New(c); err != nil {
		return err
	}
	changed := f.disk.record
	changed.Chain, changed.Key, changed.Next = chain, label, next
	if err := f.disk.save(ctx, changed); err != nil {
		return err
	}
	if err := f.live.Install(c); err != nil {
		return err
	}
	// Connections that were made with the old leaf would go on presenting it.
	f.ca.close()
	f.cfg.Log.Info("leaf replaced", "member", f.Identity(), "leaf", fingerprint.OfCertificate(chain[0]).Short(), "issuer", issuer.Short())
	return nil
}

// install follows the chain of signed states to its end, each checked against the one before, and makes the last
// durable, then live; then the registry.
func (f *follower) install(ctx context.Context, news heard) error {
	f.renew = f.renew || news.Renew && news.leaf == f.live.Self().Leaf // else it was done meanwhile
	c := f.live.Credentials()
	now := time.Now()
	for _, signed := range news.States {
		next, err := verify.Advance(c.Bundle, signed, now)
		if err != nil {
			return err
		}
		c.Bundle = next
	}
	if len(news.States) > 0 {
		if err := f.installState(ctx, c); err != nil {
			return err
		}
	}
	if news.Registry == nil {
		return nil
	}
	return f.installRegistry(ctx, c, news.Registry, now)
}

// installRegistry makes a registry durable, then live. A difference that leads nowhere is answered by asking for the
// whole; two registries of one number are for people: the first stays, and the log has both.
func (f *follower) installRegistry(ctx context.Context, c live.Credentials, doc []byte, now time.Time) error {
	registry, err := verify.OpenRegistry(c.Bundle, f.disk.held, doc, now)
	f.whole.Store(errors.Is(err, fingerprint.ErrDifference))
	switch {
	case errors.Is(err, verify.ErrTakenBack): // a faster answer was newer, or somebody tries to undo a removal
		f.cfg.Log.Info("older registry left aside", "member", f.Identity(), "error", err)
		return nil
	case errors.Is(err, verify.ErrEquivocation):
		other, _, _ := bytes.Cut(doc, []byte("\n"))
		f.cfg.Log.Error("the CA tells two things", "member", f.Identity(), "held", f.disk.held.Head, "other", other)
	}
	if err != nil {
		return err
	}
	if err := f.disk.saveRegistry(ctx, registry); err != nil {
		return err
	}
	c.Registry = registry.Registry
	return f.live.Install(c)
}

func (f *follower) installState(ctx context.Context, c live.Credentials) error {
	if _, err := live.New(c); err != nil {
		return err
	}
	changed := f.disk.record
	payload, err := c.Bundle.Encode()
	if err != nil {
		return err
	}
	changed.State = payload
	if err := f.disk.save(ctx, changed); err != nil {
		return err
	}
	if err := f.live.Install(c); err != nil {
		return err
	}
	f.ca.close()
	f.cfg.Log.Info("trust state live", "member", f.Identity(), "state", c.Bundle.Version, "phase", c.Bundle.Phase)
	return nil
}

func (f *follower) renewAt() time.Time { return f.live.RenewAt() }
