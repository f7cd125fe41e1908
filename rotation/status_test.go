package rotation

import (
	"errors"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// B23, A6: what a rollover would do and who would keep it waiting is known before it is asked for, and so is that it
// would be refused.
func TestPlan(t *testing.T) {
	h := newHistory(t, "abc")
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	key, err := keystore.NewMemory().Generate(t.Context(), "root-1", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Name: "prod", Generation: 1, Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	h.state.Roots[0].Certificate = root.Certificate().Raw
	for i := range h.members {
		h.members[i].Leaf, h.members[i].Issuer = fingerprint.Certificate{byte(i + 1)}, rootKey(1)
	}
	h.report('a', 1)
	h.report('b', 1, func(r *verify.Report) { r.Digest[0] ^= 1 })
	h.report('c', 1, func(r *verify.Report) { r.Algorithms = []keystore.Algorithm{keystore.P256} })
	status := func() Status { return Status{State: h.state, Digest: h.state.Digest(), Members: h.members} }

	p, err := status().Plan(keystore.Ed25519, h.now)
	if err != nil {
		t.Fatal(err)
	}
	if p.From != 1 || p.To != 2 || p.Algorithm != keystore.Ed25519 || p.Leaves != 3 {
		t.Errorf("plan %+v", p)
	}
	if len(p.Blockers) < 2 || p.Blockers[0].Member != identities[1] || p.Blockers[0].Code != Behind || p.Blockers[len(p.Blockers)-1].Code != Algorithm {
		t.Errorf("blockers %+v", p.Blockers)
	}
	if h.state.Pending != nil {
		t.Error("a plan changed the state")
	}

	roots, err := status().Roots()
	if err != nil || len(roots) != 1 {
		t.Fatal(roots, err)
	}
	if r := roots[0]; r.Duty != Signing || r.Leaves != 3 || !r.NotAfter.Equal(root.Certificate().NotAfter) || !r.NotBefore.Equal(root.Certificate().NotBefore) {
		t.Errorf("root %+v", r)
	}

	if _, err := status().Plan("rsa1024", h.now); err == nil {
		t.Error("an unknown algorithm was planned")
	}
	if _, err := status().Plan(keystore.P256, root.Certificate().NotAfter.Add(-time.Hour)); !errors.Is(err, ErrTooLate) {
		t.Errorf("an hour before the root's end: %v", err)
	}
	h.change(requested(h.state, keystore.P256))
	if _, err := status().Plan(keystore.P256, h.now); !errors.Is(err, ErrPending) {
		t.Errorf("a second one: %v", err)
	}
}
