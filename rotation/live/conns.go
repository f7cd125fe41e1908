package live

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/clusterca/clusterca/verify"
)

// Effect is what a swap of trust state or registry does to connections that were accepted before it. A renewal of the
// own leaf does nothing to them.
type Effect int

const (
	// Keep leaves them alone: the zero value.
	Keep Effect = iota
	// Drain closes them when the grace period is over, whoever the peer is.
	Drain
	// Recheck closes those whose peer would be refused now, at once.
	Recheck
)

// Policy is an effect with its grace period.
type Policy struct {
	Effect Effect
	Grace  time.Duration // of Drain; 0 closes at once
}

// tracked is one connection under a policy.
type tracked struct {
	conn   *tls.Conn
	side   verify.Side
	expect verify.Expect
	policy Policy
}

// swapped does what the policy says. l.mu is held; nothing here blocks.
func (t *tracked) swapped(l *Live) {
	switch t.policy.Effect {
	case Drain:
		time.AfterFunc(t.policy.Grace, func() { t.conn.Close() })
	case Recheck:
		// ConnectionState waits for a handshake that is under way, so it is asked beside the swap; such a handshake may
		// have been judged just before it, and is looked at again when it is done. It ends with the connection.
		go func() {
			cs := t.conn.ConnectionState()
			if cs.HandshakeComplete && l.Check(cs, t.side, t.expect) != nil {
				t.conn.Close()
			}
		}()
	}
}

// Track puts a connection under a policy until stop is called; side and expect are those with which its peer was
// accepted. Connections from a listener of Listen are tracked already.
func (l *Live) Track(conn *tls.Conn, side verify.Side, expect verify.Expect, p Policy) (stop func()) {
	if p.Effect == Keep {
		return func() {}
	}
	t := &tracked{conn, side, expect, p}
	l.track(t)
	return func() { l.untrack(t) }
}

func (l *Live) track(t *tracked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tracked[t] = struct{}{}
}

func (l *Live) untrack(t *tracked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tracked, t)
}

// Listen returns a TLS listener over inner whose connections live under the policy. config is one of ServerConfig with
// the same admit; nil makes it.
func (l *Live) Listen(inner net.Listener, config *tls.Config, admit verify.Expect, p Policy) net.Listener {
	if config == nil {
		config = l.ServerConfig(admit)
	}
	return &listener{inner, l, config, admit, p}
}

type listener struct {
	net.Listener
	live   *Live
	config *tls.Config
	admit  verify.Expect
	policy Policy
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.policy.Effect == Keep {
		return tls.Server(raw, l.config), nil
	}
	t := &tracked{side: verify.Client, expect: l.admit, policy: l.policy}
	t.conn = tls.Server(&closing{Conn: raw, stop: func() { l.live.untrack(t) }}, l.config)
	l.live.track(t)
	return t.conn, nil
}

// closing forgets a connection when it is closed.
type closing struct {
	net.Conn
	stop func()
	once sync.Once
}

func (c *closing) Close() error {
	c.once.Do(c.stop)
	return c.Conn.Close()
}

// IdleCloser is what an http.Transport is.
type IdleCloser interface{ CloseIdleConnections() }

// CloseIdle closes idle connections at each swap until ctx ends, whose error it returns: a transport would otherwise
// go on using a connection that was made with the leaf before.
func (l *Live) CloseIdle(ctx context.Context, transport IdleCloser) error {
	for {
		changed := l.Changed()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			transport.CloseIdleConnections()
		}
	}
}
