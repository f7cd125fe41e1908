package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// naiveConfig is what an ordinary daemon reads from its files: a leaf, its key and the root to trust.
type naiveConfig struct {
	ID   string `json:"id"`
	Leaf []byte `json:"leaf"` // DER
	Key  []byte `json:"key"`  // PKCS#8; made for this run, and gone with it
	Root []byte `json:"root"` // DER
}

const (
	naiveRenewal = 100 * time.Millisecond // from one node to the next, as a deployment tool would
	naiveRun     = 2 * time.Second        // of traffic before and after the swap
)

// naive makes the same change as is usual: a new root, a new leaf for each node, and each node in turn swaps leaf and
// root at once. Between the first node and the last, those that have swapped and those that have not refuse each other.
func naive(ctx context.Context, o options, show *display) (result, error) {
	began := time.Now()
	c := &cluster{ledger: &ledger{dialers: o.nodes - 1}, broken: make(chan error, maxNodes)}
	defer c.close()
	n := &naiveCA{keys: keystore.NewMemory()}
	if err := n.start(c, o); err != nil {
		return result{}, err
	}
	first := n.root.Key()
	show.note("traffic", fmt.Sprintf("%d nodes with leaves of root %s", o.nodes, first.Short()))
	if err := sleep(ctx, naiveRun); err != nil {
		return result{}, err
	}
	if err := n.newRoot(2, o.algorithms[1]); err != nil {
		return result{}, err
	}
	show.note("swap", fmt.Sprintf("each node in turn gets a leaf of root %s and trusts only that", n.root.Key().Short()))
	for _, node := range c.nodes {
		config, err := n.config(node.id)
		if err != nil {
			return result{}, err
		}
		if err := node.process.send(command{Swap: config}); err != nil {
			return result{}, err
		}
		if err := sleep(ctx, naiveRenewal); err != nil {
			return result{}, err
		}
	}
	if err := sleep(ctx, naiveRun); err != nil {
		return result{}, err
	}
	if err := c.stop(); err != nil {
		return result{}, err
	}
	counted := c.ledger.close()
	r := result{Nodes: o.nodes, Handshakes: counted.good, From: root{1, first}, To: root{2, n.root.Key()}, Took: time.Since(began)}
	r.fail(append(counted.failed, counted.interrupted...))
	return r, nil
}

// naiveCA makes roots and leaves in memory.
type naiveCA struct {
	keys *keystore.Memory
	id   fingerprint.ClusterID
	root *ca.Authority
}

func (n *naiveCA) newRoot(generation int, a keystore.Algorithm) error {
	key, err := n.keys.Generate(context.Background(), fmt.Sprintf("root-%d", generation), a)
	if err != nil {
		return err
	}
	n.root, err = ca.CreateRoot(key, ca.RootRequest{Cluster: n.id, Generation: generation})
	return err
}

// config issues a leaf with a new key.
func (n *naiveCA) config(id fingerprint.Identity) (*naiveConfig, error) {
	key, der, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf, err := n.root.Issue(ca.Request{Cluster: n.id, Identity: id, PublicKey: key.Public(), Hosts: []string{"127.0.0.1"}})
	if err != nil {
		return nil, err
	}
	return &naiveConfig{id.ID, leaf.Certificate.Raw, der, n.root.Certificate().Raw}, nil
}

func (n *naiveCA) start(c *cluster, o options) error {
	var err error
	if n.id, err = fingerprint.NewCluster("naive.example"); err != nil {
		return err
	}
	if err := n.newRoot(1, o.algorithms[0]); err != nil {
		return err
	}
	for range o.nodes {
		id, err := n.id.Member(fingerprint.Node, fingerprint.NewUUID())
		if err != nil {
			return err
		}
		node := &node{id: id, stopped: make(chan struct{})}
		c.nodes = append(c.nodes, node)
		if node.process, err = spawn("node "+id.ID, "naive", nil, c.hear("node "+id.ID, node)); err != nil {
			return err
		}
		config, err := n.config(id)
		if err != nil {
			return err
		}
		if err := node.process.send(command{Swap: config}); err != nil {
			return err
		}
		if node.address, err = node.process.address(); err != nil {
			return err
		}
	}
	for _, node := range c.nodes {
		if err := c.dial(node); err != nil {
			return err
		}
	}
	return nil
}

// naiveProcess is an ordinary node: static configurations of crypto/tls that are replaced as a whole.
func naiveProcess(t *teller) error {
	first, err := t.next()
	if err != nil {
		return err
	}
	if first.Swap == nil {
		return fmt.Errorf("a naive node wants its configuration first")
	}
	var current atomic.Pointer[tls.Config]
	swap := func(n *naiveConfig) error {
		config, err := n.tls()
		if err == nil {
			current.Store(config)
		}
		return err
	}
	if err := swap(first.Swap); err != nil {
		return err
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil }}
	traffic := newTraffic(first.Swap.ID, t, func(peer) *tls.Config { return current.Load() })
	go traffic.serve(tls.NewListener(inner, server))
	t.tell(event{Ready: inner.Addr().String()})
	return obey(t, traffic, func(c command) error {
		if c.Swap == nil {
			return io.EOF
		}
		return swap(c.Swap)
	})
}

func (n *naiveConfig) tls() (*tls.Config, error) {
	key, err := x509.ParsePKCS8PrivateKey(n.Key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(n.Root)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{n.Leaf}, PrivateKey: key}},
		RootCAs:                pool,
		ClientCAs:              pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ServerName:             "127.0.0.1",
		SessionTicketsDisabled: true,
		MinVersion:             tls.VersionTLS13,
	}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, der, err
}
