package verify_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// naive judges each pair by itself: what Mutual must come to.
func naive(parties []verify.Party, now time.Time) []string {
	var denied []string
	for i, by := range parties {
		for j, peer := range parties {
			if i == j {
				continue
			}
			var refused bool
			for _, side := range []verify.Side{verify.Client, verify.Server} {
				never := by.Identity.Role == fingerprint.User && side == verify.Client || peer.Identity.Role == fingerprint.User && side == verify.Server
				if !never {
					_, err := by.Verifier.Peer(peer.Chain, side, verify.Member(peer.Identity), now)
					refused = refused || err != nil
				}
			}
			if refused {
				denied = append(denied, by.Identity.String()+" refuses "+peer.Identity.String())
			}
		}
	}
	slices.Sort(denied)
	return denied
}

// A103, B27: the grouped judgement of all pairs is the naive one, over random mixtures of roots, roles and dates.
func TestMutual(t *testing.T) {
	w := newWorld(t, 3)
	states := []*verify.Bundle{w.bundle(1), w.bundle(1, 2), w.bundle(2), w.bundle(3)}
	random := rand.New(rand.NewPCG(1, 2))
	denials := 0
	for range 30 {
		var parties []verify.Party
		for i := range 6 {
			role := []fingerprint.Role{fingerprint.Node, fingerprint.Node, fingerprint.User}[random.IntN(3)]
			id := w.member(role, fmt.Sprint(i))
			at := w.now.Add(-time.Duration(random.IntN(2)) * 90 * time.Minute)
			leaf := w.issue(1+random.IntN(3), id, newKey(t, keystore.P256), at)
			parties = append(parties, verify.Party{Identity: id, Chain: []*x509.Certificate{leaf}, Verifier: w.verifier(states[random.IntN(len(states))], nil)})
		}
		var got []string
		for _, d := range verify.Mutual(parties, w.now) {
			got = append(got, d.By.String()+" refuses "+d.Peer.String())
			if d.Refusal == nil || d.Refusal.Reason == "" {
				t.Errorf("%s without a reason", got[len(got)-1])
			}
		}
		slices.Sort(got)
		if want := naive(parties, w.now); !slices.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
		denials += len(got)
	}
	if denials == 0 {
		t.Error("nobody was ever refused: the mixtures show nothing")
	}
}

func parties(b *testing.B, w *world, n int) []verify.Party {
	state := w.bundle(1)
	var list []verify.Party
	for i := range n {
		id := w.member(fingerprint.Node, fmt.Sprint(i))
		list = append(list, verify.Party{Identity: id, Chain: []*x509.Certificate{w.issue(1, id, newKey(b, keystore.P256), w.now)}, Verifier: w.verifier(state, nil)})
	}
	return list
}

// All pairs of 100 nodes, against one signature check for each of them, and against each pair by itself.
func BenchmarkMutual(b *testing.B) {
	w := newWorld(b, 1)
	list := parties(b, w, 100)
	state := w.bundle(1)
	root := w.roots[0].Certificate()
	start := time.Now()
	if len(naive(list, w.now)) > 0 {
		b.Fatal("refused")
	}
	pairwise := time.Since(start)
	var mutual, limit time.Duration
	for b.Loop() {
		for i := range list {
			list[i].Verifier = w.verifier(state, nil) // nothing remembered
		}
		start := time.Now()
		if len(verify.Mutual(list, w.now)) > 0 {
			b.Fatal("refused")
		}
		mutual += time.Since(start)
		start = time.Now()
		for _, p := range list {
			if err := p.Chain[0].CheckSignatureFrom(root); err != nil {
				b.Fatal(err)
			}
		}
		limit += time.Since(start)
	}
	b.ReportMetric(float64(mutual)/float64(limit), "ratio")
	b.ReportMetric(float64(pairwise)/(float64(mutual)/float64(b.N)), "times-faster")
}
