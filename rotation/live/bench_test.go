package live_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
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

// DESIGN §9: a whole handshake, both sides judged, against a static tls.Config that verifies with pools. Must: 1.01.
func BenchmarkHandshake(b *testing.B) {
	for name, generations := range map[string][]int{"settled": {2}, "switch": {1, 2}} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			state := w.state(1, generations...)
			server, client := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
			pool := x509.NewCertPool()
			pool.AddCert(w.roots[1].Certificate())
			static := func(side interface{ Presented() [][]byte }, key tls.Certificate) *tls.Config {
				return &tls.Config{
					Certificates: []tls.Certificate{key}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
					ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
				}
			}
			pair := func(name string) tls.Certificate {
				c := w.credentials(fingerprint.Node, name, state)
				return tls.Certificate{Certificate: c.Chain, PrivateKey: c.Key}
			}
			nodes := verify.AnyOf(fingerprint.Node)
			ours := handshaker(b, server.ServerConfig(nodes), client.ClientConfig(verify.Member(server.Identity())))
			theirs := handshaker(b, static(server, pair("a")), static(client, pair("b")))
			var mine, limit time.Duration
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					mine += ours()
					limit += theirs()
				} else {
					limit += theirs()
					mine += ours()
				}
			}
			b.ReportMetric(float64(mine)/float64(limit), "ratio")
		})
	}
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
