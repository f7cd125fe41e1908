package verify_test

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// DESIGN §9: a peer authorised that was seen before, against the SHA-256 of its key. Must: 500 ns, no allocation.
func BenchmarkPeerSeenBefore(b *testing.B) {
	w := newWorld(b, 1)
	v := w.verifier(w.bundle(1), nil)
	id := w.member(fingerprint.Node, "a")
	chain := []*x509.Certificate{w.issue(1, id, newKey(b, keystore.P256), w.now)}
	expect := verify.Member(id)
	spki := chain[0].RawSubjectPublicKeyInfo
	var limit, ours time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range 100 {
			sink = sha256.Sum256(spki)
		}
		middle := time.Now()
		for range 100 {
			if _, err := v.Peer(chain, verify.Client, expect, w.now); err != nil {
				b.Fatal(err)
			}
		}
		limit += middle.Sub(start)
		ours += time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(100*b.N), "ns/peer")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
}

var sink [32]byte

// DESIGN §9: two and ten trusted roots against one, for a peer never seen. Must: 1.01 times, of a whole handshake.
func BenchmarkRoots(b *testing.B) {
	for name, generations := range map[string]int{"two": 2, "ten": 10} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, generations)
			id := w.member(fingerprint.Node, "a")
			chain := []*x509.Certificate{w.issue(1, id, newKey(b, keystore.P256), w.now)}
			one := w.bundle(1)
			many := one.Clone() // more than a bundle ever has: the cost of roots, not of phases
			for g := 2; g <= generations; g++ {
				many.Roots = append(many.Roots, w.root(g))
			}
			judge := func(v *verify.Verifier) time.Duration {
				v.Forget()
				start := time.Now()
				if _, err := v.Peer(chain, verify.Client, verify.Member(id), w.now); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			first, second := w.verifier(one, nil), w.verifier(many, nil)
			var alone, among time.Duration
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 { // whoever goes first has the colder caches
					alone += judge(first)
					among += judge(second)
				} else {
					among += judge(second)
					alone += judge(first)
				}
			}
			b.ReportMetric(float64(alone)/float64(b.N), "ns/first-time")
			b.ReportMetric(float64(among)/float64(alone), "ratio")
		})
	}
}

// Chain against x509.Certificate.Verify, of leaf, intermediate and root, both P-256 throughout. Medians, so that what
// else the machine does falls out.
func BenchmarkChain(b *testing.B) {
	f := newForgery(b)
	m := f.make()
	o, presented := m.options(), m.presented()
	links := x509.NewCertPool()
	links.AddCert(m.link)
	var standard, ours []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		if _, err := m.leaf.Verify(x509.VerifyOptions{Roots: o.Roots, Intermediates: links, CurrentTime: f.now}); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if _, err := verify.Chain(presented, o, f.now); err != nil {
			b.Fatal(err)
		}
		standard, ours = append(standard, middle.Sub(start)), append(ours, time.Since(middle))
	}
	slices.Sort(standard)
	slices.Sort(ours)
	b.ReportMetric(float64(ours[len(ours)/2]), "ns/chain")
	b.ReportMetric(float64(ours[len(ours)/2])/float64(standard[len(standard)/2]), "ratio")
}
