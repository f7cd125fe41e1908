package rotation

import (
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// A control member that was removed while it was being admitted leaves the state again; the last one stays.
func TestUpkeepRemovesControl(t *testing.T) {
	h := newHistory(t, "a")
	gone := Member{Identity: identities[1], Current: fingerprint.Key{8}, Revoked: &Revocation{Reason: "gone"}}
	gone.Identity.Role = fingerprint.Control
	s := h.state.Clone()
	s.Issued, s.FreshUntil = time.Now(), time.Now().Add(stateFresh)
	for n, controls := range [][]verify.Controller{{{Member: gone.Identity}}, {{Member: gone.Identity}, {Member: identities[2]}}} {
		s.Phase, s.Control = verify.Trust, controls
		next, err := new(Cluster).upkeep(t.Context(), View{State: s, Members: []Member{gone}})
		if err != nil || (next != nil) != (n == 1) || next != nil && (len(next.Control) != 1 || next.Control[0].Member != identities[2]) {
			t.Errorf("%d control members: %v, %v", len(controls), next, err)
		}
	}
}

// Close to the end of a root, a document signer's certificate that ends with it is not made again and again.
func TestDocumentsAtTheRootsEnd(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	keys := keystore.NewMemory()
	key, err := keys.Generate(t.Context(), "root-1", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	document, err := keys.Generate(t.Context(), "document", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	member, err := id.Member(fingerprint.Control, "ca-1")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1, Lifetime: 3 * 365 * 24 * time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	due := func(made, at time.Time) bool {
		leaf, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: member, PublicKey: document.Public(), Now: made})
		if err != nil {
			t.Fatal(err)
		}
		s := &verify.Bundle{Signer: 1, Roots: []verify.Root{{Generation: 1, Certificate: root.Certificate().Raw}}, Control: []verify.Controller{{Member: member, Documents: [][]byte{leaf.Certificate.Raw}}}}
		due, err := documentsDue(s, at)
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	end := root.Certificate().NotAfter
	for _, row := range []struct {
		made, at time.Time
		want     bool
	}{
		{now, now.Add(200 * 24 * time.Hour), false},
		{now, now.Add(300 * 24 * time.Hour), true},
		{end.Add(-time.Hour), end.Add(-time.Minute), false},
	} {
		if got := due(row.made, row.at); got != row.want {
			t.Errorf("made %v, at %v: due %t", row.made, row.at, got)
		}
	}
}
