package member_test

import (
	"context"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// virtual is a cluster in virtual time: no network, everything else as it is.
type virtual struct {
	t       *testing.T
	id      fingerprint.ClusterID
	cluster *rotation.Cluster
	store   *keystore.Memory
	daemon  *rotation.Daemon
	members []*member.Member
}

func (v *virtual) enrol(role fingerprint.Role, name string, admit func(context.Context, rotation.Request) (rotation.Answer, error)) *member.Member {
	v.t.Helper()
	who, err := v.id.Member(role, name)
	if err != nil {
		v.t.Fatal(err)
	}
	own := keystore.NewMemory()
	cfg := member.Config{Keys: own, Store: own, Log: logger(v.t)}
	if err := member.Enroll(v.t.Context(), cfg, rotation.Request{Member: who}, admit); err != nil {
		v.t.Fatal(err)
	}
	m, err := member.Open(v.t.Context(), cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	v.members = append(v.members, m)
	return m
}

// newVirtual runs a CA daemon and nodes until ctx ends.
func newVirtual(ctx context.Context, t *testing.T, lifetimes map[fingerprint.Role]time.Duration, nodes ...string) *virtual {
	t.Helper()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	v := &virtual{t: t, id: id, store: keystore.NewMemory()}
	cfg := rotation.Config{Keys: v.store, Store: v.store, Lifetimes: lifetimes, Log: logger(t)}
	control := v.enrol(fingerprint.Control, "ca-1", func(ctx context.Context, r rotation.Request) (answer rotation.Answer, err error) {
		v.cluster, answer, err = rotation.Create(ctx, cfg, id, r)
		return answer, err
	})
	documents, err := control.Documents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v.daemon = v.cluster.Daemon(control.Identity(), documents)
	go v.daemon.Run(ctx)
	for _, name := range nodes {
		v.enrol(fingerprint.Node, name, v.cluster.Admit)
	}
	for _, m := range v.members {
		go m.Run(ctx, member.Direct(v.daemon))
		<-m.Ready()
	}
	return v
}

// refused judges every pair by what is live now.
func (v *virtual) refused() []verify.Denial {
	v.t.Helper()
	var parties []verify.Party
	for _, m := range v.members {
		c := m.Live().Credentials()
		verifier, err := verify.NewVerifier(c.Bundle, c.Registry)
		if err != nil {
			v.t.Fatal(err)
		}
		p := verify.Party{Identity: m.Identity(), Verifier: verifier}
		for _, der := range m.Live().Presented() {
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				v.t.Fatal(err)
			}
			p.Chain = append(p.Chain, certificate)
		}
		parties = append(parties, p)
	}
	return verify.Mutual(parties, time.Now())
}

// A lifetime of minutes works too: the moment of renewal always lies ahead.
func TestShortLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := newVirtual(ctx, t, map[fingerprint.Role]time.Duration{fingerprint.Node: 2 * time.Minute}, "a", "b")
		before := v.members[1].Live().Leaf()
		renewed := 0
		for range 60 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if now := v.members[1].Live().Leaf(); !now.Equal(before) {
				before, renewed = now, renewed+1
			}
			if denied := v.refused(); len(denied) > 0 {
				t.Fatal(denied[0].Refusal)
			}
		}
		if renewed < 5 || renewed > 15 {
			t.Errorf("renewed %d times in ten minutes", renewed)
		}
		cancel()
	})
}

// The trust state stays fresh by itself, document signers get new certificates, and four rollovers go by.
// After each drop no certificate of a retired key is to be found with a later root's signature: old-with-new is
// nowhere, in what is in force and in all that is public of the past.
func TestRolloversInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := newVirtual(ctx, t, map[fingerprint.Role]time.Duration{fingerprint.Node: 7 * 24 * time.Hour}, "a", "b")
		algorithms := []keystore.Algorithm{keystore.Ed25519, keystore.P384, keystore.P256, keystore.P256}
		for n, algorithm := range algorithms {
			for range 1 {
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if denied := v.refused(); len(denied) > 0 {
					t.Fatalf("before rollover %d: %v", n+1, denied[0].Refusal)
				}
			}
			s, err := v.cluster.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if time.Now().After(s.State.FreshUntil) {
				t.Errorf("the state went stale at %v", s.State.FreshUntil)
			}
			if err := v.cluster.Rollover(ctx, algorithm); err != nil {
				t.Fatal(err)
			}
			for s.State.Signer != n+2 || s.State.Phase != verify.Settled {
				time.Sleep(time.Second)
				if s, err = v.cluster.Status(ctx); err != nil {
					t.Fatal(err)
				}
				if denied := v.refused(); len(denied) > 0 {
					t.Fatalf("in rollover %d, %s: %v", n+1, s.State.Phase, denied[0].Refusal)
				}
			}
			v.noOldWithNew(s.State)
		}
		s, err := v.cluster.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		document, err := x509.ParseCertificate(s.State.Control[0].Documents[0])
		if err != nil || time.Until(document.NotAfter) < 100*24*time.Hour {
			t.Errorf("the document signer ends %v, %v", document.NotAfter, err)
		}
		cancel()
	})
}

// noOldWithNew looks through all that was ever published.
func (v *virtual) noOldWithNew(now *verify.Bundle) {
	v.t.Helper()
	history, _, err := v.store.List(v.t.Context(), "history/")
	if err != nil {
		v.t.Fatal(err)
	}
	signers := make(map[fingerprint.Key]int)
	var public []*x509.Certificate
	states := []*verify.Bundle{now}
	for _, r := range history {
		b, err := verify.PeekBundle(r.Value)
		if err != nil {
			v.t.Fatal(err)
		}
		states = append(states, b)
	}
	for _, b := range states {
		for _, r := range b.Roots {
			signers[r.Key] = r.Generation
			for _, der := range [][]byte{r.Certificate, r.Bridge} {
				if c, err := x509.ParseCertificate(der); err == nil {
					public = append(public, c)
				}
			}
		}
	}
	for _, b := range states {
		for _, r := range b.Roots {
			issuer, err := x509.ParseCertificate(r.Certificate)
			if err != nil {
				v.t.Fatal(err)
			}
			for _, c := range public {
				of := signers[fingerprint.OfKey(c.RawSubjectPublicKeyInfo)]
				if of < r.Generation && c.CheckSignatureFrom(issuer) == nil {
					v.t.Errorf("the key of g%d is certified by g%d", of, r.Generation)
				}
			}
		}
	}
}
