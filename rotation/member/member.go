package member

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
)

// Config says where a member's keys and its record live. Keys and Store are required, and are the member's own: two
// running members never share them.
type Config struct {
	Keys  keystore.Keys
	Store keystore.Store

	// Algorithm of the keys that the member makes. Empty: P-256.
	Algorithm keystore.Algorithm
	// BootBound is how long a booting member waits for a CA daemon before it serves what its disk holds, loudly. Zero:
	// 15 seconds.
	BootBound time.Duration
	// Log hears what the member does and why. Nil: nothing is logged.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Algorithm == "" {
		c.Algorithm = keystore.P256
	}
	if c.BootBound == 0 {
		c.BootBound = bootBound
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Member is one daemon's membership. Safe for concurrent use; Run is called once.
type Member struct {
	cfg   Config
	live  *live.Live
	ready chan struct{}
	ended chan struct{} // closed when Run has returned
	tasks chan task

	disk *disk // owned by Run once it was called

	started sync.Once
}

// task is something that a caller wants done by Run.
type task struct {
	rekey bool
	done  chan error // buffered
}

// Open loads a member from its disk and counts a boot. Nothing is served before Run has rejoined the cluster: wait for
// Ready. The error wraps ErrNotEnrolled when the directory holds no member.
func Open(ctx context.Context, cfg Config) (*Member, error) {
	m, err := open(ctx, cfg.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("member: open: %w", err)
	}
	return m, nil
}

func open(ctx context.Context, cfg Config) (*Member, error) {
	if cfg.Keys == nil || cfg.Store == nil {
		return nil, errors.New("the configuration must name both Keys and Store")
	}
	d, err := openDisk(ctx, cfg.Keys, cfg.Store)
	if err != nil {
		return nil, err
	}
	credentials, err := d.credentials(ctx)
	if err != nil {
		return nil, err
	}
	l, err := live.New(credentials)
	if err != nil {
		return nil, err
	}
	// The boot is durable before anything is said of it, so that no two boots ever report under one number.
	next := d.record
	next.Boot++
	if err := d.save(ctx, next); err != nil {
		return nil, err
	}
	return &Member{cfg: cfg, live: l, disk: d, ready: make(chan struct{}), ended: make(chan struct{}), tasks: make(chan task)}, nil
}

// Identity is who the member is.
func (m *Member) Identity() fingerprint.Identity { return m.live.Identity() }

// Live is what the daemon's TLS uses; its configurations stay right through every change.
func (m *Member) Live() *live.Live { return m.live }

// Ready is closed when the member may serve: it has rejoined the cluster, or no CA daemon answered for so long that it
// serves what its disk holds. It is never closed when Run ends before that.
func (m *Member) Ready() <-chan struct{} { return m.ready }

// Documents opens the document signer of a control member; nil for other roles.
func (m *Member) Documents(ctx context.Context) (crypto.Signer, error) {
	s, err := m.disk.documents(ctx)
	if err != nil {
		return nil, fmt.Errorf("member: document signer: %w", err)
	}
	return s, nil
}

// Renew replaces the leaf now, with the same key, and returns when the new one is live. It needs a running Run.
func (m *Member) Renew(ctx context.Context) error { return m.ask(ctx, task{}) }

// Rekey replaces key and leaf: the next key is listed, confirmed where that is needed, and then served. It returns
// when the new key is live. A re-key that was begun is finished by Run even if ctx ends. It needs a running Run.
func (m *Member) Rekey(ctx context.Context) error { return m.ask(ctx, task{rekey: true}) }

func (m *Member) ask(ctx context.Context, t task) error {
	t.done = make(chan error, 1)
	select {
	case m.tasks <- t:
	case <-m.ended:
		return fmt.Errorf("member: %q: %w", m.Identity(), ErrEnded)
	case <-ctx.Done():
		return fmt.Errorf("member: %q is not running: %w", m.Identity(), ctx.Err())
	}
	select {
	case err := <-t.done:
		return err
	case <-m.ended:
		return fmt.Errorf("member: %q: %w", m.Identity(), ErrEnded)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrEnded says that Run has returned, so that nobody does what was asked for.
var ErrEnded = errors.New("Run has ended")

// Run keeps the member current until ctx ends, whose error it returns. It rejoins the cluster, follows its trust
// states and registry, renews in time, and reports what is live. It ends early only when a CA daemon says that the
// member was removed; the error then wraps rotation.ErrRevoked. One that was away when it was removed is turned away in
// the handshake already, where it learns no reason: it goes on trying, and says so in its log.
func (m *Member) Run(ctx context.Context, ca CA) error {
	err := errors.New("member: Run was called before")
	m.started.Do(func() {
		defer close(m.ended)
		err = m.run(ctx, ca)
	})
	return err
}

func (m *Member) run(ctx context.Context, ca CA) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &follower{Member: m, ca: ca.dial(m.live)}
	defer f.ca.close()
	if err := f.boot(ctx); err != nil {
		return err
	}
	close(m.ready)
	return f.follow(ctx)
}

// final says whether an error ends a member's life in the cluster.
func final(err error) bool { return errors.Is(err, rotation.ErrRevoked) }
