package ca_test

import (
	"errors"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// A policy refuses or shortens, and whatever it does otherwise changes nothing.
func TestPolicy(t *testing.T) {
	id := newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	quota := errors.New("quota")
	for _, test := range []struct {
		name   string
		policy func(ca.Request, time.Duration) (time.Duration, error)
		life   time.Duration
		err    error
	}{
		{"none", nil, 10 * time.Hour, nil},
		{"as it is", func(ca.Request, time.Duration) (time.Duration, error) { return 0, nil }, 10 * time.Hour, nil},
		{"shorter", func(_ ca.Request, granted time.Duration) (time.Duration, error) { return granted / 2, nil }, 5 * time.Hour, nil},
		{"longer", func(ca.Request, time.Duration) (time.Duration, error) { return 1000 * time.Hour, nil }, 10 * time.Hour, nil},
		{"negative", func(ca.Request, time.Duration) (time.Duration, error) { return -1, nil }, 0, ca.ErrPolicy},
		{"refuses", func(ca.Request, time.Duration) (time.Duration, error) { return time.Hour, quota }, 0, quota},
		{"changes the hosts", func(r ca.Request, _ time.Duration) (time.Duration, error) {
			r.Hosts[0], r.Identity.ID = "evil.example", "evil"
			return 0, nil
		}, 10 * time.Hour, nil},
	} {
		now := time.Now()
		hosts := []string{"a.example"}
		leaf, err := root.Under(ca.Rules{Policy: test.policy}).Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"),
			PublicKey: newKey(t, keystore.P256).Public(), Hosts: hosts, Lifetime: 10 * time.Hour, Now: now})
		if test.err != nil {
			if !errors.Is(err, test.err) || !errors.Is(err, ca.ErrPolicy) {
				t.Errorf("%s: %v, want %v", test.name, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		c := leaf.Certificate
		if got := c.NotAfter.Sub(now.Truncate(time.Second)); got != test.life || c.DNSNames[0] != "a.example" || hosts[0] != "a.example" || c.Subject.CommonName != "n" {
			t.Errorf("%s: lives %s, hosts %v, named %s", test.name, got, c.DNSNames, c.Subject.CommonName)
		}
	}
	if _, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()}); err != nil {
		t.Errorf("the authority without rules: %v", err)
	}
}

// A12: an authority's rules may raise the cap of leaves for members that are renewed by hand, and never past the
// issuer.
func TestLongestLeaf(t *testing.T) {
	id := newID(t)
	day := 24 * time.Hour
	root := newRoot(t, id, 1, keystore.P256).Under(ca.Rules{LongestLeaf: 375 * day})
	issue := func(life time.Duration) error {
		_, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public(), Lifetime: life})
		return err
	}
	if err := issue(375 * day); err != nil {
		t.Error(err)
	}
	if err := issue(376 * day); !errors.Is(err, ca.ErrLifetime) {
		t.Errorf("over the raised cap: %v", err)
	}
	root = root.Under(ca.Rules{LongestLeaf: time.Hour})
	for _, job := range []bool{false, true} {
		_, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public(), Lifetime: 2 * time.Hour, Job: job})
		if !errors.Is(err, ca.ErrLifetime) {
			t.Errorf("over a lowered cap, job %t: %v", job, err)
		}
	}
}

// A27, B7: with the registry as the policy, a key that another member has, or that was revoked with its member, is refused,
// whatever proof of possession came with it; a renewal with the member's own key is not.
func TestPolicyRefusesKeysOfOthers(t *testing.T) {
	id := newID(t)
	mine, theirs, revoked := newKey(t, keystore.P256), newKey(t, keystore.P256), newKey(t, keystore.P256)
	entry := func(name string, k keystore.Signer, gone bool) fingerprint.Entry {
		f, err := fingerprint.OfPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return fingerprint.Entry{Member: member(t, id, fingerprint.Node, name), Current: f, Revoked: gone}
	}
	registry, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, []fingerprint.Entry{entry("a", mine, false), entry("b", theirs, false), entry("c", revoked, true)})
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(t, id, 1, keystore.P256).Under(ca.Rules{Policy: func(r ca.Request, granted time.Duration) (time.Duration, error) {
		key, err := fingerprint.OfPublicKey(r.PublicKey)
		if owner, known := registry.ByKey(key); known && (owner.Member != r.Identity || owner.Revoked) {
			err = errors.New("the key is " + owner.Member.String() + "'s")
		}
		return granted, err
	}})
	for name, test := range map[string]struct {
		key     keystore.Signer
		refused bool
	}{"its own": {mine, false}, "a new one": {newKey(t, keystore.P256), false}, "another's": {theirs, true}, "a revoked one": {revoked, true}} {
		_, err := root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "a"), PublicKey: test.key.Public()})
		if errors.Is(err, ca.ErrPolicy) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
