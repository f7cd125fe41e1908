package member_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// power is that of a machine on which the whole cluster runs. It fails at the n-th durable write, before or after that
// was made, and from then on nothing can be read or written.
type power struct {
	failsAt int // 0: never
	after   bool
	off     func()

	mu     sync.Mutex // guards what follows; held across writes, so that there is an n-th
	writes int
	gone   bool
}

var errNoPower = errors.New("the power is gone")

func (p *power) read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return errNoPower
	}
	return nil
}

func (p *power) write(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return errNoPower
	}
	p.writes++
	if p.writes != p.failsAt {
		return do()
	}
	p.gone = true
	p.off()
	if p.after {
		return errors.Join(do(), errNoPower)
	}
	return errNoPower
}

// disk is a store and a keeper that need power; what it is made of outlives it.
type disk struct {
	*keystore.Memory
	power *power
}

func (d disk) Load(ctx context.Context, key string) (keystore.Record, error) {
	if err := d.power.read(); err != nil {
		return keystore.Record{}, err
	}
	return d.Memory.Load(ctx, key)
}

func (d disk) List(ctx context.Context, prefix string) ([]keystore.Record, keystore.Revision, error) {
	if err := d.power.read(); err != nil {
		return nil, 0, err
	}
	return d.Memory.List(ctx, prefix)
}

func (d disk) Replace(ctx context.Context, key string, old keystore.Revision, value []byte) (r keystore.Revision, err error) {
	err = d.power.write(func() (err error) {
		r, err = d.Memory.Replace(ctx, key, old, value)
		return err
	})
	return r, err
}

func (d disk) Remove(ctx context.Context, key string, old keystore.Revision) error {
	return d.power.write(func() error { return d.Memory.Remove(ctx, key, old) })
}

func (d disk) Generate(ctx context.Context, label string, a keystore.Algorithm) (s keystore.Signer, err error) {
	err = d.power.write(func() (err error) {
		s, err = d.Memory.Generate(ctx, label, a)
		return err
	})
	return s, err
}

func (d disk) Delete(ctx context.Context, label string) error {
	return d.power.write(func() error { return d.Memory.Delete(ctx, label) })
}

// crashed is the cluster that is made, renewed, re-keyed, rolled over and shrunk, however often the power fails.
type crashed struct {
	t     *testing.T
	id    fingerprint.ClusterID
	disks map[string]*keystore.Memory

	// Of one run:
	power   *power
	cluster *rotation.Cluster
	daemon  *rotation.Daemon
	members map[string]*member.Member
}

func newCrashed(t *testing.T) *crashed {
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	c := &crashed{t: t, id: id, disks: make(map[string]*keystore.Memory)}
	for _, name := range []string{"shared", "ca-1", "a", "b"} {
		c.disks[name] = keystore.NewMemory()
	}
	return c
}

func (c *crashed) config(name string) member.Config {
	d := disk{c.disks[name], c.power}
	return member.Config{Keys: d, Store: d, Log: logger(c.t), BootBound: time.Hour}
}

// run does all that is not done yet, until the power fails.
func (c *crashed) run(failsAt int, after bool) (err error) {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer synctest.Wait()
	defer cancel()
	c.power = &power{failsAt: failsAt, after: after, off: cancel}
	c.members = make(map[string]*member.Member)
	for _, step := range []func(context.Context) error{c.found, c.renewed, c.rolledOver, c.shrunk} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// found makes the cluster with one node, or starts it.
func (c *crashed) found(ctx context.Context) (err error) {
	shared := disk{c.disks["shared"], c.power}
	cfg := rotation.Config{Keys: shared, Store: shared, Log: logger(c.t)}
	err = c.enrol(ctx, fingerprint.Control, "ca-1", func(ctx context.Context, r rotation.Request) (rotation.Answer, error) {
		_, answer, err := rotation.Create(ctx, cfg, c.id, r)
		return answer, err
	})
	if err != nil {
		return err
	}
	if c.cluster, err = rotation.Open(ctx, cfg); err != nil {
		return err
	}
	if err := c.start(ctx, "ca-1"); err != nil {
		return err
	}
	if err := c.enrol(ctx, fingerprint.Node, "a", c.cluster.Admit); err != nil {
		return err
	}
	return c.start(ctx, "a")
}

func (c *crashed) enrol(ctx context.Context, role fingerprint.Role, name string, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	if _, err := c.disks[name].Load(ctx, "member"); err == nil {
		return nil // done before
	}
	who, err := c.id.Member(role, name)
	if err != nil {
		return err
	}
	return member.Enroll(ctx, c.config(name), rotation.Request{Member: who}, admit)
}

func (c *crashed) start(ctx context.Context, name string) error {
	m, err := member.Open(ctx, c.config(name))
	if err != nil {
		return err
	}
	if m.Identity().Role == fingerprint.Control {
		documents, err := m.Documents(ctx)
		if err != nil {
			return err
		}
		c.daemon = c.cluster.Daemon(m.Identity(), documents)
		go c.daemon.Run(ctx)
	}
	go m.Run(ctx, member.Direct(c.daemon))
	c.members[name] = m
	select {
	case <-m.Ready():
		return nil
	case <-ctx.Done():
		return errNoPower
	}
}

func (c *crashed) renewed(ctx context.Context) error {
	if err := c.members["a"].Renew(ctx); err != nil {
		return err
	}
	return c.members["a"].Rekey(ctx)
}

func (c *crashed) rolledOver(ctx context.Context) error {
	for {
		s, err := c.cluster.Status(ctx)
		switch {
		case err != nil:
			return err
		case s.State.Generations == 1:
			if err := c.cluster.Rollover(ctx, keystore.P256); err != nil {
				return err
			}
		case s.State.Signer == 2 && s.State.Phase == verify.Settled:
			return nil
		}
		time.Sleep(time.Second)
	}
}

func (c *crashed) shrunk(ctx context.Context) error {
	if err := c.enrol(ctx, fingerprint.Node, "b", c.cluster.Admit); err != nil {
		return err
	}
	b, err := c.id.Member(fingerprint.Node, "b")
	if err != nil {
		return err
	}
	if err := c.cluster.Remove(ctx, b, "it is one too many"); err != nil {
		return err
	}
	time.Sleep(time.Minute) // whatever is left to do is done
	if err := c.power.read(); err != nil {
		return err
	}
	return c.check(ctx)
}

// check: members follow one chain of states without a gap or a fork, accept each other, and refuse who was removed; of
// the keys that were replaced none is left.
func (c *crashed) check(ctx context.Context) error {
	c.t.Helper()
	history, _, err := c.disks["shared"].List(ctx, "history/")
	if err != nil {
		return err
	}
	var held *verify.Bundle
	for _, r := range history {
		if held == nil {
			held, err = verify.PeekBundle(r.Value)
		} else {
			held, err = verify.Advance(held, r.Value, time.Now())
		}
		if err != nil {
			c.t.Errorf("%s: %v", r.Key, err)
			return nil
		}
	}
	var parties []verify.Party
	for name, m := range c.members {
		credentials := m.Live().Credentials()
		verifier, err := verify.NewVerifier(credentials.Bundle, credentials.Registry)
		if err != nil {
			return err
		}
		parties = append(parties, verify.Party{Identity: m.Identity(), Verifier: verifier, Chain: []*x509.Certificate{m.Live().Leaf()}})
		if credentials.Bundle.Version != held.Version {
			c.t.Errorf("%s holds state %v, the last is %v", name, credentials.Bundle.Version, held.Version)
		}
		if e, ok := credentials.Registry.Member(m.Identity()); ok && e.Revoked {
			c.t.Errorf("%s was removed", name)
		}
		b := m.Identity()
		b.Role, b.ID = fingerprint.Node, "b"
		if e, ok := credentials.Registry.Member(b); !ok || !e.Revoked {
			c.t.Errorf("%s has not heard that b was removed", name)
		}
	}
	for _, denied := range verify.Mutual(parties, time.Now()) {
		c.t.Errorf("%s refuses %s: %v", denied.By, denied.Peer, denied.Refusal)
	}
	return c.keysLeft(ctx)
}

func (c *crashed) keysLeft(ctx context.Context) error {
	for name, want := range map[string]string{"shared": "root-2", "a": "leaf-"} {
		labels, err := c.disks[name].Labels(ctx)
		if err != nil {
			return err
		}
		if len(labels) != 1 || !strings.HasPrefix(labels[0], want) {
			c.t.Errorf("keys left on disk %q: %q", name, labels)
		}
	}
	return nil
}

// A50, B22, B34, B62: the power fails at every durable write of create, admit, renew, re-key, each step of a rollover and
// remove, once before it is made and once after. Whoever starts again and asks for the same things gets them.
func TestPowerFailsAtEveryWrite(t *testing.T) {
	stride := 5
	if os.Getenv("CLUSTERCA_LONG") != "" {
		stride = 1
	}
	for _, after := range []bool{false, true} {
		failsAt, finished := 1, false
		for ; !finished && !t.Failed(); failsAt += stride {
			synctest.Test(t, func(t *testing.T) {
				c := newCrashed(t)
				err := c.run(failsAt, after)
				if finished = err == nil && !c.power.gone; finished {
					return
				}
				if errors.Is(err, fs.ErrExist) {
					t.Errorf("write %d, after %t: %v", failsAt, after, err)
				}
				if err := c.run(0, false); err != nil {
					t.Errorf("write %d, after %t: run again: %v", failsAt, after, err)
				}
				if t.Failed() {
					t.Logf("the power failed at write %d, after it: %t", failsAt, after)
				}
			})
		}
		t.Logf("%d writes", failsAt-stride)
		if failsAt < 50 {
			t.Error("next to nothing was written")
		}
	}
}
