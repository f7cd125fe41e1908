package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// nodeProcess is one node: a member of the cluster, with a server and dialers. Its arguments are its directory, the
// address that it serves, and the CA daemon's address.
func nodeProcess(t *teller, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("a node process wants its directory and two addresses, got %d arguments", len(args))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := keystore.OpenDir(args[0])
	if err != nil {
		return err
	}
	m, err := member.Open(ctx, member.Config{Keys: dir, Store: dir})
	if err != nil {
		return err
	}
	go vital(t, func() error { return m.Run(ctx, member.Remote(args[2])) })
	<-m.Ready()
	inner, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	nodes := verify.AnyOf(fingerprint.Node)
	self := m.Identity()
	traffic := newTraffic(self.ID, t, func(p peer) *tls.Config {
		return m.Live().ClientConfig(verify.Member(fingerprint.Identity{Domain: self.Domain, Role: fingerprint.Node, ID: p.ID}))
	})
	go traffic.serve(tls.NewListener(inner, m.Live().ServerConfig(nodes)))
	t.tell(event{Ready: inner.Addr().String()})
	return obey(t, traffic, func(c command) error {
		if !c.Credentials {
			return nil
		}
		live, err := liveCredentials(m)
		t.tell(event{Credentials: live})
		return err
	})
}

// vital runs what a process cannot do without: when it ends, the parent hears why, and the process ends too.
func vital(t *teller, run func() error) {
	if err := run(); !errors.Is(err, context.Canceled) {
		t.tell(event{Error: err.Error()})
		os.Exit(1)
	}
}

// obey carries the parent's commands out until it is gone.
func obey(t *teller, traffic *traffic, other func(command) error) error {
	for {
		c, err := t.next()
		if err != nil {
			return err
		}
		switch {
		case c.Dial != nil:
			traffic.dial(c.Dial)
		case c.Stop:
			go traffic.end()
		default:
			if err := other(c); err != nil {
				return err
			}
		}
	}
}

func liveCredentials(m *member.Member) (*credentials, error) {
	c := m.Live().Credentials()
	state, err := c.Bundle.Encode()
	if err != nil {
		return nil, err
	}
	lines, err := c.Registry.AppendText(nil)
	return &credentials{m.Live().Presented(), state, string(lines), c.Registry.Version().String()}, err
}
