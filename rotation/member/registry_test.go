package member_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

const differenceForm = "clusterca registry difference"

// B74, B75, A68: who holds a recent registry is sent what changed, everybody else all of it, and both lead to the same.
func TestStateSendsDifferences(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a, b := c.node("a"), c.node("b")
	documents, err := c.control.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	daemon := c.cluster.Daemon(c.control.Identity(), documents)
	held := a.Live().Credentials().Bundle
	ask := func(v fingerprint.Version, have *verify.SignedRegistry) (*verify.SignedRegistry, []byte) {
		t.Helper()
		news, err := daemon.State(t.Context(), a.Live().Self(), rotation.Ask{State: held.Version, Registry: v})
		if err != nil {
			t.Fatal(err)
		}
		r, err := verify.OpenRegistry(held, have, news.Registry, held.Issued)
		if err != nil {
			t.Fatal(err)
		}
		return r, news.Registry
	}
	first, doc := ask(fingerprint.Version{}, nil)
	if bytes.Contains(doc, []byte(differenceForm)) {
		t.Errorf("a difference for who has nothing: %s", doc)
	}
	for i := range 3 { // so that the list is longer than what changes
		c.enrol(fingerprint.Node, fmt.Sprint("old", i))
		id := a.Identity()
		id.ID = fmt.Sprint("old", i)
		if err := c.cluster.Remove(t.Context(), id, "it is old"); err != nil {
			t.Fatal(err)
		}
	}
	second, _ := ask(first.Registry.Version(), first)
	if err := c.cluster.Remove(t.Context(), b.Identity(), "the test wants it gone"); err != nil {
		t.Fatal(err)
	}
	third, doc := ask(second.Registry.Version(), second)
	if !bytes.Contains(doc, []byte(differenceForm)) || bytes.Count(doc, []byte("\n+")) != 1 || !bytes.Contains(doc, []byte("\n+"+b.Identity().String()+" ")) {
		t.Errorf("not what changed: %s", doc)
	}
	if e, ok := third.Registry.Member(b.Identity()); !ok || !e.Revoked {
		t.Error("the difference lost the removal")
	}
	whole, doc := ask(fingerprint.Version{}, nil)
	if bytes.Contains(doc, []byte(differenceForm)) || whole.Registry.Digest() != third.Registry.Digest() {
		t.Errorf("the whole list: %s", doc)
	}
	if skipped, doc := ask(first.Registry.Version(), first); skipped.Registry.Digest() != third.Registry.Digest() {
		t.Errorf("two steps at once: %s", doc)
	}
}

// A68, B75: a registry that is longer than a record is kept on disk, is there after a restart without a CA daemon, and a
// crash between its parts leaves the one before.
func TestLongRegistryOnDisk(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	held := a.Live().Credentials().Bundle
	documents, err := c.control.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone := a.Identity()
	sign := func(number uint64, n int) *verify.SignedRegistry {
		var entries []fingerprint.Entry
		for i := range n {
			gone.ID = fmt.Sprint("gone", i)
			entries = append(entries, fingerprint.Entry{Member: gone, Current: fingerprint.OfKey([]byte(gone.ID)), Revoked: true})
		}
		r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: number}, entries)
		if err != nil {
			t.Fatal(err)
		}
		s, err := verify.SignRegistry(held, r, verify.Digest{}, held.Issued, held.FreshUntil, documents)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	long, longer, short := sign(101, 5000), sign(102, 9000), sign(103, 1)
	check := func(name string, want *verify.SignedRegistry) {
		t.Helper()
		got, err := member.StoredRegistry(t.Context(), a.dir, a.dir)
		if err != nil || got.Registry.Digest() != want.Registry.Digest() || !bytes.Equal(got.Head, want.Head) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, s := range []*verify.SignedRegistry{long, longer, short, longer} {
		if err := member.StoreRegistry(t.Context(), a.dir, a.dir, s); err != nil {
			t.Fatal(err)
		}
		check("stored", s)
	}
	for writes := range 4 { // three parts and the record that names them
		if err := member.StoreRegistry(t.Context(), a.dir, &failing{Store: a.dir, writes: writes}, long); !errors.Is(err, errPower) {
			t.Fatalf("after %d writes: %v", writes, err)
		}
		check(fmt.Sprintf("a crash after %d writes", writes), longer)
	}
	again, err := member.Open(t.Context(), member.Config{Keys: a.dir, Store: a.dir})
	if err != nil || again.Live().Credentials().Registry.Digest() != longer.Registry.Digest() {
		t.Errorf("after a restart: %v", err)
	}
}

var errPower = errors.New("the power is gone")

// failing is a store that lets so many writes pass and no more.
type failing struct {
	keystore.Store
	writes int
}

func (f *failing) Replace(ctx context.Context, key string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if f.writes--; f.writes < 0 {
		return 0, errPower
	}
	return f.Store.Replace(ctx, key, old, value)
}
