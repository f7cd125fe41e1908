package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
)

// cluster is what the parent knows of its processes. The parent is the operator: it changes the cluster through the same
// store as the CA daemon, by compare-and-swap.
type cluster struct {
	dir     string
	id      fingerprint.ClusterID
	store   *keystore.Dir
	ca      *rotation.Cluster
	daemon  *process
	address string // of the CA daemon
	nodes   []*node
	ledger  *ledger
	broken  chan error // what a process said before it ended
}

// node is one node over its lives.
type node struct {
	id      fingerprint.Identity
	dir     string
	address string
	process *process
	stopped chan struct{}
	live    chan *credentials
}

// newCluster makes the cluster's directories in a temporary one, and starts the CA daemon and the nodes.
func newCluster(ctx context.Context, o options) (c *cluster, err error) {
	c = &cluster{ledger: &ledger{dialers: o.nodes - 1}, broken: make(chan error, 2*maxNodes)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.dir, err = os.MkdirTemp("", "livecluster-"); err != nil {
		return c, err
	}
	if c.id, err = fingerprint.NewCluster("live.example"); err != nil {
		return c, err
	}
	if c.store, err = keystore.OpenDir(filepath.Join(c.dir, "ca")); err != nil {
		return c, err
	}
	if err := c.found(ctx, o.algorithms[0]); err != nil {
		return c, err
	}
	if c.address, err = freeAddress(); err != nil {
		return c, err
	}
	if err := c.startDaemon(); err != nil {
		return c, err
	}
	for range o.nodes {
		if err := c.addNode(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// found makes the cluster: the first control member founds it.
func (c *cluster) found(ctx context.Context, first keystore.Algorithm) error {
	founder, err := c.id.Member(fingerprint.Control, "ca-1")
	if err != nil {
		return err
	}
	cfg := rotation.Config{Keys: c.store, Store: c.store, Algorithm: first}
	return c.enrol(ctx, c.controlDir(), founder, func(ctx context.Context, r rotation.Request) (answer rotation.Answer, err error) {
		c.ca, answer, err = rotation.Create(ctx, cfg, c.id, r)
		return answer, err
	})
}

func (c *cluster) controlDir() string { return filepath.Join(c.dir, "control") }

func (c *cluster) enrol(ctx context.Context, path string, id fingerprint.Identity, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	dir, err := keystore.OpenDir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return member.Enroll(ctx, member.Config{Keys: dir, Store: dir}, rotation.Request{Member: id, Hosts: []string{"127.0.0.1"}}, admit)
}

func (c *cluster) startDaemon() error {
	p, err := spawn("CA daemon", "ca", []string{filepath.Join(c.dir, "ca"), c.controlDir(), c.address}, c.hear("CA daemon", nil))
	if err != nil {
		return err
	}
	c.daemon = p
	_, err = p.address()
	return err
}

// addNode enrols a node under a UUID and starts it.
func (c *cluster) addNode(ctx context.Context) error {
	id, err := c.id.Member(fingerprint.Node, fingerprint.NewUUID())
	if err != nil {
		return err
	}
	n := &node{id: id, dir: filepath.Join(c.dir, id.ID), address: "127.0.0.1:0"}
	if err := c.enrol(ctx, n.dir, id, c.ca.Admit); err != nil {
		return err
	}
	c.nodes = append(c.nodes, n)
	return c.startNode(n)
}

// startNode starts a node's process, on the address that it had before.
func (c *cluster) startNode(n *node) error {
	n.stopped, n.live = make(chan struct{}), make(chan *credentials, 1)
	p, err := spawn("node "+n.id.ID, "node", []string{n.dir, n.address, c.address}, c.hear("node "+n.id.ID, n))
	if err != nil {
		return err
	}
	n.process = p
	n.address, err = p.address()
	return err
}

// hear takes in what a process says.
func (c *cluster) hear(name string, n *node) func(event) {
	return func(e event) {
		c.ledger.hear(e)
		if e.Error != "" {
			c.broken <- fmt.Errorf("%s: %s", name, e.Error)
		}
		if n != nil && e.Stopped {
			close(n.stopped)
		}
		if n != nil && e.Credentials != nil {
			n.live <- e.Credentials
		}
	}
}

// dial lets a node dial all others.
func (c *cluster) dial(n *node) error {
	var peers []peer
	for _, other := range c.nodes {
		if other != n {
			peers = append(peers, peer{other.id.ID, other.address})
		}
	}
	return n.process.send(command{Dial: peers})
}

// stop lets all nodes finish what is under way.
func (c *cluster) stop() error {
	for _, n := range c.nodes {
		if err := n.process.send(command{Stop: true}); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		select {
		case <-n.stopped:
		case err := <-c.broken:
			return err
		case <-time.After(2 * exchangeTimeout):
			return fmt.Errorf("%s does not stop", n.process.name)
		}
	}
	return nil
}

// close ends all processes and removes the directory.
func (c *cluster) close() error {
	var ending sync.WaitGroup
	for _, n := range c.nodes {
		if n.process != nil {
			ending.Go(n.process.end)
		}
	}
	if c.daemon != nil {
		ending.Go(c.daemon.end)
	}
	ending.Wait()
	if c.store != nil {
		c.store.Close()
	}
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// freeAddress is a loopback address that nobody uses: the CA daemon has to come back to the one that members know.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), errors.Join(l.Close())
}
