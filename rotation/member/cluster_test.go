package member_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// cluster is a real one on loopback TCP and real directories: a CA daemon and nodes in this process.
type cluster struct {
	t       *testing.T
	dir     string
	id      fingerprint.ClusterID
	cfg     rotation.Config
	cluster *rotation.Cluster
	address string
	control *running
	nodes   []*running
}

// running is one member with what it runs on.
type running struct {
	*member.Member
	dir    *keystore.Dir
	server net.Listener // of a node: answers one byte with one byte
	stop   func() error
}

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("CLUSTERCA_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func open(t *testing.T, path string) *keystore.Dir {
	t.Helper()
	d, err := keystore.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// newCluster makes a cluster with a running CA daemon.
func newCluster(t *testing.T, rules verify.Rules) *cluster {
	t.Helper()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), id: id}
	store := open(t, filepath.Join(c.dir, "ca"))
	c.cfg = rotation.Config{Keys: store, Store: store, Rules: rules, Log: logger(t)}
	self := open(t, filepath.Join(c.dir, "control"))
	founder, err := id.Member(fingerprint.Control, "ca-1")
	if err != nil {
		t.Fatal(err)
	}
	err = member.Enroll(t.Context(), member.Config{Keys: self, Store: self}, rotation.Request{Member: founder, Hosts: []string{"127.0.0.1"}},
		func(ctx context.Context, r rotation.Request) (rotation.Answer, error) {
			made, answer, err := rotation.Create(ctx, c.cfg, id, r)
			c.cluster = made
			return answer, err
		})
	if err != nil {
		t.Fatal(err)
	}
	c.startControl(self)
	return c
}

// startControl runs the CA daemon, on the address that it had before if it had one.
func (c *cluster) startControl(dir *keystore.Dir) {
	c.t.Helper()
	m, err := member.Open(c.t.Context(), member.Config{Keys: dir, Store: dir, Log: logger(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	documents, err := m.Documents(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	daemon := c.cluster.Daemon(m.Identity(), documents)
	if c.address == "" {
		c.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = listener.Addr().String()
	server := &http.Server{
		Handler:   member.Handler(daemon),
		TLSConfig: m.Live().ServerConfig(verify.AnyOf(fingerprint.Control, fingerprint.Node, fingerprint.User)),
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { server.ServeTLS(listener, "", "") })
	group.Go(func() { daemon.Run(ctx) })
	group.Go(func() { m.Run(ctx, member.Direct(daemon)) })
	c.control = &running{Member: m, dir: dir, stop: func() error { cancel(); err := server.Close(); group.Wait(); return err }}
	c.t.Cleanup(func() { c.control.stop() })
	await(c.t, m.Ready())
}

func await(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(30 * time.Second):
		t.Fatal("not ready within 30 s")
	}
}

// enrol admits a member without starting it.
func (c *cluster) enrol(role fingerprint.Role, name string) *keystore.Dir {
	c.t.Helper()
	id, err := c.id.Member(role, name)
	if err != nil {
		c.t.Fatal(err)
	}
	dir := open(c.t, filepath.Join(c.dir, name))
	if err := member.Enroll(c.t.Context(), member.Config{Keys: dir, Store: dir}, rotation.Request{Member: id}, c.cluster.Admit); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// start runs a node over a directory, with a server that answers one byte with one byte.
func (c *cluster) start(dir *keystore.Dir) *running {
	c.t.Helper()
	m, err := member.Open(c.t.Context(), member.Config{Keys: dir, Store: dir, Log: logger(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var runErr error
	group.Go(func() { runErr = m.Run(ctx, member.Remote(c.address)) })
	await(c.t, m.Ready())
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	listener := tls.NewListener(inner, m.Live().ServerConfig(verify.AnyOf(fingerprint.Node)))
	group.Go(func() { echo(listener) })
	n := &running{Member: m, dir: dir, server: inner}
	n.stop = sync.OnceValue(func() error {
		cancel()
		inner.Close()
		group.Wait()
		if errors.Is(runErr, context.Canceled) {
			return nil
		}
		return runErr
	})
	c.t.Cleanup(func() { n.stop() })
	c.nodes = append(c.nodes, n)
	return n
}

func (c *cluster) node(name string) *running { return c.start(c.enrol(fingerprint.Node, name)) }

func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			io.CopyN(conn, conn, 1)
		}()
	}
}

// exchange dials peer and swaps one byte each way: only then did both sides accept.
func exchange(ctx context.Context, from, to *running) error {
	d := tls.Dialer{Config: from.Live().ClientConfig(verify.Member(to.Identity()))}
	conn, err := d.DialContext(ctx, "tcp", to.server.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// traffic exchanges between all pairs until stop is called, which returns how many were good and the first failures.
func (c *cluster) traffic() (stop func() (int, []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	good, failures := 0, []error(nil)
	for _, from := range c.nodes {
		for _, to := range c.nodes {
			if from == to {
				continue
			}
			group.Go(func() {
				for ctx.Err() == nil {
					err := exchange(context.Background(), from, to)
					mu.Lock()
					if err == nil {
						good++
					} else if len(failures) < 10 {
						failures = append(failures, fmt.Errorf("%s → %s: %w", from.Identity().ID, to.Identity().ID, err))
					}
					mu.Unlock()
				}
			})
		}
	}
	return func() (int, []error) {
		cancel()
		group.Wait()
		return good, failures
	}
}

// settled waits until a generation signs and the rollover is over.
func (c *cluster) settled(generation int) rotation.Status {
	c.t.Helper()
	return c.until(fmt.Sprintf("root g%d settled", generation), func(s rotation.Status) bool {
		return s.State.Phase == verify.Settled && s.State.Signer == generation && s.State.Pending == nil
	})
}

// until looks at the cluster's status at every change of its store until it is as wanted.
func (c *cluster) until(what string, wanted func(rotation.Status) bool) rotation.Status {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	var last rotation.Status
	check := func() bool {
		s, err := c.cluster.Status(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		last = s
		return wanted(s)
	}
	if check() {
		return last
	}
	for _, err := range c.cfg.Store.Watch(ctx, "", 0) {
		if err != nil {
			c.t.Fatalf("waiting for %s: %v; state %v %s, blockers %+v", what, err, last.State.Version, last.State.Phase, last.Blockers)
		}
		if check() {
			return last
		}
	}
	return last
}

// A8, A83, A90, B22-B29, B60-B65: the root is replaced under traffic and nobody is refused.
func TestRolloverUnderTraffic(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	for _, name := range []string{"a", "b", "c"} {
		c.node(name)
	}
	stop := c.traffic()
	for generation, algorithm := range map[int]keystore.Algorithm{2: keystore.Ed25519} {
		if err := c.cluster.Rollover(t.Context(), algorithm); err != nil {
			t.Fatal(err)
		}
		c.settled(generation)
	}
	good, failures := stop()
	t.Logf("%d exchanges", good)
	if len(failures) > 0 || good == 0 {
		t.Fatalf("%d good, failures: %v", good, failures)
	}
}
