package live_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// DESIGN §9: the reload callback, against an atomic load. Must: 10 ns and no allocation.
func BenchmarkReloadCallback(b *testing.B) {
	w := newWorld(b)
	l := w.live(fingerprint.Node, "a", w.state(1, 1))
	get := l.ServerConfig(verify.AnyOf(fingerprint.Node)).GetCertificate
	hello := &tls.ClientHelloInfo{}
	var pointer atomic.Pointer[tls.Certificate]
	pointer.Store(new(tls.Certificate))
	var ours, limit time.Duration
	const batch = 1000
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range batch {
			if c, err := get(hello); err != nil || c == nil {
				b.Fatal(err)
			}
		}
		middle := time.Now()
		for range batch {
			if pointer.Load() == nil {
				b.Fatal("nil")
			}
		}
		ours += middle.Sub(start)
		limit += time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(batch*b.N), "ns/call")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
}

// DESIGN §9: a whole handshake, both sides judged, against a static tls.Config that verifies with pools. Must: 1.01. First
// contact is after a swap, when nobody is remembered.
func BenchmarkHandshake(b *testing.B) {
	for _, row := range []struct {
		name  string
		roots []int
		first bool
	}{
		{"seen before", []int{2}, false},
		{"seen before, in switch", []int{1, 2}, false},
		{"first contact", []int{2}, true},
		{"first contact, in switch", []int{1, 2}, true},
	} {
		b.Run(row.name, func(b *testing.B) {
			w := newWorld(b)
			ours := newPair(w, w.state(1, row.roots...), row.first)
			compare(b, ours.shake(b), handshaker(b, static(b, w, "a"), static(b, w, "b")))
		})
	}
}

// DESIGN §9: a whole handshake, at first contact, with two trusted roots against one. Must: 1.01.
func BenchmarkHandshakeRoots(b *testing.B) {
	w := newWorld(b)
	trust := w.state(1, 1, 2).Clone()
	trust.Phase, trust.Signer = verify.Trust, 1
	payload, err := trust.Encode()
	if err != nil {
		b.Fatal(err)
	}
	two, err := verify.ParseBundle(payload)
	if err != nil {
		b.Fatal(err)
	}
	compare(b, newPair(w, two, true).shake(b), newPair(w, w.state(1, 1), true).shake(b))
}

// pair is a server and a client.
type pair struct {
	server, client *live.Live
	first          bool // forget everybody before each handshake
}

func newPair(w *world, state *verify.Bundle, first bool) pair {
	return pair{w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state), first}
}

// shake returns a function that makes one handshake and times it.
func (p pair) shake(b *testing.B) func() time.Duration {
	shake := handshaker(b, p.server.ServerConfig(verify.AnyOf(fingerprint.Node)), p.client.ClientConfig(verify.Member(p.server.Identity())))
	return func() time.Duration {
		for _, l := range []*live.Live{p.server, p.client} {
			if p.first { // a swap makes a new memory
				if err := l.Install(l.Credentials()); err != nil {
					b.Fatal(err)
				}
			}
		}
		return shake()
	}
}

// static is what a daemon without us would have: one root, one leaf of it, verified by crypto/tls.
func static(b *testing.B, w *world, name string) *tls.Config {
	b.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.roots[1].Certificate())
	c := w.credentials(fingerprint.Node, name, w.state(1, 2))
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: c.Chain, PrivateKey: c.Key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	}
}

// compare measures in turns, so that whatever else the machine does falls on both.
func compare(b *testing.B, ours, limit func() time.Duration) {
	var mine, theirs time.Duration
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			mine += ours()
			theirs += limit()
		} else {
			theirs += limit()
			mine += ours()
		}
	}
	b.ReportMetric(float64(mine)/float64(theirs), "ratio")
}

// handshaker returns a function that makes one full handshake over loopback TCP, with a byte each way, and times it.
func handshaker(b *testing.B, server, client *tls.Config) func() time.Duration {
	b.Helper()
	address := serve(b, func(inner net.Listener) net.Listener { return tls.NewListener(inner, server) })
	return func() time.Duration {
		start := time.Now()
		conn, err := talk(address, client)
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		conn.Close()
		return took
	}
}

// DESIGN §9: a peer that was seen before is authorised, as on a resumed session. Must: 500 ns and no allocation.
func BenchmarkCheckResumed(b *testing.B) {
	w := newWorld(b)
	state := w.state(1, 1)
	a, peer := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	cs := tls.ConnectionState{HandshakeComplete: true, DidResume: true, PeerCertificates: []*x509.Certificate{peer.Leaf()}}
	expect := verify.AnyOf(fingerprint.Node)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Check(cs, verify.Client, expect); err != nil {
			b.Fatal(err)
		}
	}
}
