package member

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// A registry of any size survives on disk, in records that a store takes; what it replaced goes.
func TestRegistryOnDisk(t *testing.T) {
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	store := keystore.NewMemory()
	d := &disk{store: store}
	key, err := store.Generate(t.Context(), "document", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	for number, size := range []int{0, 1, 3000, 10} {
		var entries []fingerprint.Entry
		for n := range size {
			member, err := id.Member(fingerprint.Node, fingerprint.NewUUID())
			if err != nil {
				t.Fatal(err)
			}
			var key fingerprint.Key
			binary.BigEndian.PutUint32(key[:], uint32(n+1))
			entries = append(entries, fingerprint.Entry{Member: member, Current: key})
		}
		registry, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: uint64(number + 1)}, entries)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		want, err := verify.SignRegistry(&verify.Bundle{Cluster: id}, registry, verify.Digest{}, now, now.Add(time.Hour), key)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // again, as after a crash before it was known to be done
			if err := d.saveRegistry(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		got, err := d.registry(t.Context())
		if err != nil || got.Registry.Digest() != registry.Digest() || got.Registry.Version() != registry.Version() || !bytes.Equal(got.Head, want.Head) {
			t.Fatalf("%d entries: %v", size, err)
		}
		parts, _, err := store.List(t.Context(), partsKey+"/")
		if err != nil || len(parts) > 1+size*200/registryPart {
			t.Errorf("%d entries: %d parts are kept, %v", size, len(parts), err)
		}
	}
	p, _, err := d.registryParts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Load(t.Context(), p.part(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Replace(t.Context(), r.Key, r.Revision, r.Value[:len(r.Value)/2]); err != nil {
		t.Fatal(err)
	}
	if _, err := d.registry(t.Context()); err == nil {
		t.Error("half a registry is taken for a whole one")
	}
}
