package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

const registryKey = "registry"

// registryRecord numbers the registry's content. The content itself is derived from the members' records and never
// stored whole.
type registryRecord struct {
	Version  fingerprint.Version `json:"version"`
	Digest   verify.Digest       `json:"digest"`
	Previous verify.Digest       `json:"previous,omitzero"` // of the content that had the number before
	Issued   time.Time           `json:"issued"`
}

// numbered is the registry under its number, with the records that it was made of.
type numbered struct {
	registry *fingerprint.Registry
	record   registryRecord
	members  []Member
}

// entries are the lines of the registry: everybody who was removed, and who must be listed to be accepted.
func entries(b *verify.Bundle, members []Member) []fingerprint.Entry {
	var list []fingerprint.Entry
	for _, m := range members {
		if m.Revoked != nil || b.RuleFor(m.Identity.Role) == fingerprint.Listed {
			list = append(list, fingerprint.Entry{Member: m.Identity, Current: m.Current, Next: m.Next, Revoked: m.Revoked != nil})
		}
	}
	return list
}

// numbered returns the registry as the records say now, under a number of its own, and the records. The number is read before the
// records and written by compare-and-swap after them, so a higher number never stands for older records, and two
// daemons never give one number to different content.
func (c *Cluster) numbered(ctx context.Context, b *verify.Bundle) (*numbered, error) {
	for {
		held, revision, err := c.registryRecord(ctx)
		if err != nil {
			return nil, err
		}
		members, err := c.members(ctx)
		if err != nil {
			return nil, err
		}
		registry, err := fingerprint.NewRegistry(held.Version, entries(b, members))
		if err != nil {
			return nil, err
		}
		now := time.Now().UTC().Truncate(time.Second)
		if revision != 0 && held.Digest == verify.Digest(registry.Digest()) && now.Sub(held.Issued) < registryFresh/2 {
			return &numbered{registry, held, members}, nil
		}
		next := registryRecord{
			Version: fingerprint.Version{Term: b.Version.Term, Number: held.Version.Number + 1},
			Digest:  registry.Digest(), Previous: held.Digest, Issued: now,
		}
		value, err := json.Marshal(next)
		if err != nil {
			return nil, err
		}
		_, err = c.cfg.Store.Replace(ctx, registryKey, revision, value)
		if errors.Is(err, keystore.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		registry, err = fingerprint.NewRegistry(next.Version, entries(b, members))
		return &numbered{registry, next, members}, err
	}
}

// registries are what the daemon published last, oldest first: a member that holds one of them is sent what changed.
type registries []*fingerprint.Registry

// with takes a registry up and lets go of the oldest beyond the bounds.
func (list registries) with(r *fingerprint.Registry) registries {
	kept := registries{r}
	size := r.Len()
	for _, old := range slices.Backward(list) {
		if size += old.Len(); len(kept) == maxRegistries || size > maxKeptEntries || old.Version() == r.Version() {
			break
		}
		kept = append(kept, old)
	}
	slices.Reverse(kept)
	return kept
}

// of finds that of a version; nil when it is not kept.
func (list registries) of(v fingerprint.Version) *fingerprint.Registry {
	for _, r := range list {
		if r.Version() == v {
			return r
		}
	}
	return nil
}

func (c *Cluster) registryRecord(ctx context.Context) (registryRecord, keystore.Revision, error) {
	r, err := c.cfg.Store.Load(ctx, registryKey)
	if errors.Is(err, fs.ErrNotExist) {
		return registryRecord{}, 0, nil
	}
	if err != nil {
		return registryRecord{}, 0, err
	}
	var held registryRecord
	if err := json.Unmarshal(r.Value, &held); err != nil {
		return registryRecord{}, 0, fmt.Errorf("record %q: %w", registryKey, err)
	}
	return held, r.Revision, nil
}
