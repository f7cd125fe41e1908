package member_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// Everybody was off for longer than any leaf lives, the control member of the CA daemon included. Each comes back as the
// member that it was, with its own key, by an enrolment of the same kind as its first; an answer from before what it
// knows is refused.
func TestReenroll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v := newVirtual(ctx, t, nil, "a", "b")
		early := v.fresh().State
		v.rollover(keystore.P256, 2)
		cancel()
		synctest.Wait()

		time.Sleep(10 * 24 * time.Hour)
		ctx, cancel = context.WithCancel(t.Context())
		for i, m := range v.members {
			if _, err := member.Open(ctx, v.config(i)); err == nil {
				t.Fatalf("%s opens with a leaf that ended", m.Identity())
			}
			key := m.Live().Self().Key
			v.members[i] = v.back(ctx, i)
			if v.members[i].Live().Self().Key != key {
				t.Errorf("%s came back with another key", m.Identity())
			}
		}
		v.rollover(keystore.P256, 3)

		payload, err := early.Encode()
		if err != nil {
			t.Fatal(err)
		}
		err = member.Reenroll(ctx, v.config(1), func(ctx context.Context, r rotation.Request) (rotation.Answer, error) {
			answer, err := v.cluster.Admit(ctx, r)
			answer.State, answer.Chain = payload, v.first[1]
			return answer, err
		})
		if err == nil {
			t.Error("an answer from before is taken")
		}
		cancel()
	})
}

// config is what the member was enrolled with.
func (v *virtual) config(i int) member.Config {
	return member.Config{Keys: v.stores[i], Store: v.stores[i], Log: logger(v.t)}
}

// back enrols a member again and runs it; the first is the CA daemon's.
func (v *virtual) back(ctx context.Context, i int) *member.Member {
	v.t.Helper()
	if err := member.Reenroll(ctx, v.config(i), v.cluster.Admit); err != nil {
		v.t.Fatal(err)
	}
	m, err := member.Open(ctx, v.config(i))
	if err != nil {
		v.t.Fatal(err)
	}
	if i == 0 {
		documents, err := m.Documents(ctx)
		if err != nil {
			v.t.Fatal(err)
		}
		v.daemon = v.cluster.Daemon(m.Identity(), documents)
		go v.daemon.Run(ctx)
	}
	go m.Run(ctx, member.Direct(v.daemon))
	<-m.Ready()
	return m
}

// virtual is a cluster in virtual time: no network, everything else as it is.
type virtual struct {
	t       *testing.T
	id      fingerprint.ClusterID
	cluster *rotation.Cluster
	store   *keystore.Memory
	stores  []*keystore.Memory // the members' own
	daemon  *rotation.Daemon
	members []*member.Member
	first   [][][]byte // the chains that they were enrolled with
}

func (v *virtual) enrol(role fingerprint.Role, name string, admit func(context.Context, rotation.Request) (rotation.Answer, error)) *member.Member {
	v.t.Helper()
	who, err := v.id.Member(role, name)
	if err != nil {
		v.t.Fatal(err)
	}
	own := keystore.NewMemory()
	v.stores = append(v.stores, own)
	cfg := member.Config{Keys: own, Store: own, Log: logger(v.t)}
	if err := member.Enroll(v.t.Context(), cfg, rotation.Request{Member: who}, admit); err != nil {
		v.t.Fatal(err)
	}
	m, err := member.Open(v.t.Context(), cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	v.members = append(v.members, m)
	v.first = append(v.first, m.Live().Credentials().Chain)
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

// Leaves renew by themselves between a half and five sixths of their lifetime, each node at its own moment, and while
// they do every pair of members accepts each other (A79, A95, A96, B42, B43, B50).
func TestRenewalByItself(t *testing.T) {
	days := 2
	if os.Getenv("CLUSTERCA_LONG") != "" {
		days = 30
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		nodes := []string{"a", "b", "c", "d", "e"}
		v := newVirtual(ctx, t, nil, nodes...)
		seen := make([]*x509.Certificate, len(v.members))
		renewed := make([]int, len(v.members))
		hours := make(map[int]bool)
		for hour := range days * 24 {
			for i, m := range v.members {
				leaf := m.Live().Leaf()
				if seen[i] != nil && !leaf.Equal(seen[i]) {
					renewed[i]++
					if m.Identity().Role == fingerprint.Node {
						hours[hour%24] = true
						v.renewedInTime(seen[i], leaf)
					}
				}
				seen[i] = leaf
			}
			if denied := v.refused(); len(denied) > 0 {
				t.Fatalf("hour %d: %v", hour, denied[0].Refusal)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		for i, m := range v.members {
			if m.Identity().Role != fingerprint.Node {
				continue
			}
			// A leaf of 24 hours is replaced after 12 to 20.
			if low, high := days*24/20-1, days*24/12; renewed[i] < low || renewed[i] > high {
				t.Errorf("%s: renewed %d times in %d days, want %d to %d", m.Identity(), renewed[i], days, low, high)
			}
		}
		if want := min(12, days*2); len(hours) < want {
			t.Errorf("all renewals fell into %d hours of the day", len(hours))
		}
		t.Logf("renewed in %d days: %v; in %d different hours of the day", days, renewed, len(hours))
		cancel()
	})
}

// renewedInTime: with a sixth of its life left, four hours of a day, a leaf was replaced by one that does not outlive
// its issuer.
func (v *virtual) renewedInTime(old, leaf *x509.Certificate) {
	v.t.Helper()
	if left := old.NotAfter.Sub(leaf.NotBefore); left < 4*time.Hour {
		v.t.Errorf("%s: replaced with %s left", leaf.URIs, left)
	}
	b := v.members[0].Live().Credentials().Bundle
	root, err := b.RootCertificate(b.Signer)
	if err != nil {
		v.t.Fatal(err)
	}
	if leaf.NotAfter.After(root.NotAfter) {
		v.t.Errorf("%s: ends after its issuer", leaf.URIs)
	}
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

// Most of a year: the trust state stays fresh by itself, document signers get new certificates, and four rollovers go by.
// After each drop no certificate of a retired key is to be found with a later root's signature: old-with-new is
// nowhere, in what is in force and in all that is public of the past (A9, B22, B38).
func TestUpkeep(t *testing.T) {
	quiet := 16 // days: a state is issued again after 15
	algorithms := []keystore.Algorithm{keystore.Ed25519, keystore.P384, keystore.P256, keystore.P256}
	if os.Getenv("CLUSTERCA_LONG") != "" {
		quiet = 250 // a document signer's certificate after 243
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := newVirtual(ctx, t, map[fingerprint.Role]time.Duration{fingerprint.Node: 7 * 24 * time.Hour}, "a", "b")
		first := v.fresh().State
		v.pass(quiet)
		s := v.fresh().State
		if s.Version == first.Version {
			t.Errorf("after %d days state %v is still in force", quiet, s.Version)
		}
		if same := bytes.Equal(s.Control[0].Documents[0], first.Control[0].Documents[0]); same != (quiet < 243) {
			t.Errorf("after %d days the document signer's certificate is the first one still: %v", quiet, same)
		}
		for n, algorithm := range algorithms {
			v.rollover(algorithm, n+2)
		}
		cancel()
	})
}

// B34: a paused rollover stands where it is, in each phase, while renewals go on; it is resumed by whoever wants.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := newVirtual(ctx, t, map[fingerprint.Role]time.Duration{fingerprint.Node: time.Hour}, "a", "b")
		if err := v.cluster.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if err := v.cluster.Pause(ctx, "the night before a holiday"); err != nil {
			t.Fatal(err)
		}
		if err := v.cluster.Rollover(ctx, keystore.P256); err != nil {
			t.Fatal(err)
		}
		for _, phase := range []verify.Phase{verify.Settled, verify.Trust, verify.Switch, verify.Drop} {
			leaf := v.members[1].Live().Leaf()
			time.Sleep(time.Hour)
			synctest.Wait()
			s := v.fresh()
			if s.State.Phase != phase || s.Paused == nil || s.Paused.Reason != "the night before a holiday" {
				t.Fatalf("phase %s, want %s, paused %v", s.State.Phase, phase, s.Paused)
			}
			if v.members[1].Live().Leaf().Equal(leaf) {
				t.Errorf("%s: nothing was renewed", phase)
			}
			// One step further, and paused again before the next: a step takes longer than these two calls.
			if err := errors.Join(v.cluster.Resume(ctx), v.stepped(phase), v.cluster.Pause(ctx, "the night before a holiday")); err != nil {
				t.Fatal(err)
			}
		}
		if err := v.cluster.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := v.fresh(); s.State.Signer != 2 || s.State.Phase != verify.Settled {
			t.Errorf("g%d signs in %s", s.State.Signer, s.State.Phase)
		}
		cancel()
	})
}

// stepped returns when the cluster is in another phase than this one.
func (v *virtual) stepped(from verify.Phase) error {
	for _, err := range v.store.Watch(v.t.Context(), "", 0) {
		if err != nil {
			return err
		}
		if s, err := v.cluster.Status(v.t.Context()); err != nil || s.State.Phase != from {
			return err
		}
	}
	return nil
}

// pass lets days go by and looks at each.
func (v *virtual) pass(days int) {
	for range days {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		v.fresh()
	}
}

// fresh: nobody holds anything stale, and everybody accepts everybody.
func (v *virtual) fresh() rotation.Status {
	v.t.Helper()
	s, err := v.cluster.Status(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	now := time.Now()
	for _, m := range v.members {
		c := m.Live().Credentials()
		if now.After(c.Bundle.FreshUntil) || c.Bundle.Version != s.State.Version {
			v.t.Errorf("%v: %s holds state %v, fresh until %v; in force is %v", now, m.Identity(), c.Bundle.Version, c.Bundle.FreshUntil, s.State.Version)
		}
	}
	if denied := v.refused(); len(denied) > 0 {
		v.t.Fatalf("%v: %v", now, denied[0].Refusal)
	}
	return s
}

// rollover replaces the root and looks at every pair each second of it.
func (v *virtual) rollover(algorithm keystore.Algorithm, generation int) {
	v.t.Helper()
	ctx := v.t.Context()
	if err := v.cluster.Rollover(ctx, algorithm); err != nil {
		v.t.Fatal(err)
	}
	for {
		s, err := v.cluster.Status(ctx)
		if err != nil {
			v.t.Fatal(err)
		}
		if denied := v.refused(); len(denied) > 0 {
			v.t.Fatalf("in rollover to g%d, %s: %v", generation, s.State.Phase, denied[0].Refusal)
		}
		v.duties(s)
		if s.State.Signer == generation && s.State.Phase == verify.Settled {
			v.noOldWithNew(s.State)
			return
		}
		time.Sleep(time.Second)
	}
}

// duties: every trusted root is listed with what it is there for, and each member's leaf is of one of them (A5, A6).
func (v *virtual) duties(s rotation.Status) {
	v.t.Helper()
	want := map[verify.Phase][]rotation.Duty{
		verify.Settled: {rotation.Signing},
		verify.Trust:   {rotation.Signing, rotation.Coming},
		verify.Switch:  {rotation.Retiring, rotation.Signing},
		verify.Drop:    {rotation.Signing},
	}[s.State.Phase]
	roots, err := s.Roots()
	if err != nil || len(roots) != len(want) {
		v.t.Fatalf("%s: %d roots, %v", s.State.Phase, len(roots), err)
	}
	leaves := 0
	for i, r := range roots {
		leaves += r.Leaves
		if r.Duty != want[i] {
			v.t.Errorf("%s: root g%d is %s, want %s", s.State.Phase, r.Generation, r.Duty, want[i])
		}
	}
	if leaves != len(v.members) {
		v.t.Errorf("%s: %d leaves of %d members", s.State.Phase, leaves, len(v.members))
	}
}

// noOldWithNew looks through all that the CA and its members hold, the history of signed states included.
func (v *virtual) noOldWithNew(now *verify.Bundle) {
	v.t.Helper()
	generation := make(map[fingerprint.Key]int)
	var public []*x509.Certificate
	for _, store := range append(v.stores, v.store) {
		records, _, err := store.List(v.t.Context(), "")
		if err != nil {
			v.t.Fatal(err)
		}
		for _, r := range records {
			public = append(public, certificatesIn(r.Value)...)
		}
	}
	var roots []*x509.Certificate
	for _, c := range public {
		key := fingerprint.OfKey(c.RawSubjectPublicKeyInfo)
		if _, known := generation[key]; c.IsCA && !known && bytes.Equal(c.RawIssuer, c.RawSubject) {
			var n int
			if _, err := fmt.Sscanf(c.Subject.CommonName, v.id.Domain+" root g%d", &n); err != nil {
				v.t.Fatal(err)
			}
			generation[key] = n
			roots = append(roots, c)
		}
	}
	if len(roots) != now.Generations || len(public) < 10*len(roots) {
		v.t.Fatalf("found %d roots of %d, %d certificates", len(roots), now.Generations, len(public))
	}
	for _, c := range public {
		of := generation[fingerprint.OfKey(c.RawSubjectPublicKeyInfo)]
		for _, issuer := range roots {
			if g := generation[fingerprint.OfKey(issuer.RawSubjectPublicKeyInfo)]; of > 0 && of < g && c.CheckSignatureFrom(issuer) == nil {
				v.t.Errorf("the key of g%d is certified by g%d", of, g)
			}
		}
	}
}

var base64Text = regexp.MustCompile(`"[A-Za-z0-9+/]{40,}={0,2}"`)

// certificatesIn finds every certificate in a record, in signed documents within it too.
func certificatesIn(value []byte) (found []*x509.Certificate) {
	for _, text := range base64Text.FindAll(value, -1) {
		data, err := base64.StdEncoding.DecodeString(string(text[1 : len(text)-1]))
		if err != nil {
			continue
		}
		if c, err := x509.ParseCertificate(data); err == nil {
			found = append(found, c)
			continue
		}
		found = append(found, certificatesIn(data)...)
	}
	return found
}
