package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterca/clusterca/rotation/live"
)

const (
	exchangeTimeout = 10 * time.Second
	afterFailure    = 20 * time.Millisecond // before dialling again: a process that is down refuses at once
	tellEvery       = 200 * time.Millisecond
)

// traffic is a node's part in the exchanges: it answers, and dials its peers without pause and without resumption.
type traffic struct {
	self   string
	teller *teller
	config func(peer) *tls.Config // for dialling; asked once for each exchange
	good   atomic.Int64
	stop   chan struct{}
	group  sync.WaitGroup
}

func newTraffic(self string, t *teller, config func(peer) *tls.Config) *traffic {
	return &traffic{self: self, teller: t, config: config, stop: make(chan struct{})}
}

// serve answers each connection's one byte with one byte.
func (t *traffic) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go t.answer(conn.(*tls.Conn))
	}
}

// answer is the server's half of an exchange: it fails when the handshake does, or when the client's byte does not come.
func (t *traffic) answer(conn *tls.Conn) {
	defer conn.Close()
	start := time.Now()
	conn.SetDeadline(start.Add(exchangeTimeout))
	one := make([]byte, 1)
	err := conn.Handshake()
	if err == nil {
		_, err = io.ReadFull(conn, one)
	}
	if err == nil {
		_, err = conn.Write(one)
	}
	if err == nil {
		return
	}
	f := &failure{Side: "server", By: t.self, Client: conn.RemoteAddr().String(), Start: start, End: time.Now(), Reason: err.Error()}
	if p, err := live.PeerOf(conn.ConnectionState()); err == nil {
		f.Peer = p.Identity.ID
	}
	t.teller.tell(event{Failure: f})
}

// dial begins to dial the peers, one goroutine for each.
func (t *traffic) dial(peers []peer) {
	for _, p := range peers {
		t.group.Go(func() { t.dialOne(p) })
	}
	go t.count()
}

func (t *traffic) dialOne(p peer) {
	for {
		select {
		case <-t.stop:
			return
		default:
		}
		if t.exchange(p) {
			t.good.Add(1)
			continue
		}
		select {
		case <-t.stop:
			return
		case <-time.After(afterFailure):
		}
	}
}

// exchange is good only when one byte went each way after both handshakes: in TLS 1.3 a client's handshake succeeds
// before the server has looked at its certificate.
func (t *traffic) exchange(p peer) bool {
	f := failure{Side: "client", By: t.self, Peer: p.ID, Start: time.Now()}
	raw, err := net.DialTimeout("tcp", p.Address, exchangeTimeout)
	if err == nil {
		f.Client = raw.LocalAddr().String()
		err = swapBytes(tls.Client(raw, t.config(p)))
	}
	if err == nil {
		return true
	}
	f.End, f.Reason = time.Now(), err.Error()
	t.teller.tell(event{Failure: &f})
	return false
}

func swapBytes(conn *tls.Conn) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(exchangeTimeout))
	if err := conn.Handshake(); err != nil {
		return err
	}
	one := []byte{'?'}
	if _, err := conn.Write(one); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, one); err != nil {
		return fmt.Errorf("no byte came back: %w", err)
	}
	if one[0] != '?' {
		return errors.New("another byte came back")
	}
	return nil
}

// count tells the parent how many were good since it last did.
func (t *traffic) count() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.flush()
		}
	}
}

func (t *traffic) flush() {
	if n := t.good.Swap(0); n > 0 {
		t.teller.tell(event{Good: int(n)})
	}
}

// end finishes the exchanges under way and says so.
func (t *traffic) end() {
	close(t.stop)
	t.group.Wait()
	t.flush()
	t.teller.tell(event{Stopped: true})
}
