package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/clusterca/clusterca/internal/dsse"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

const registryKey = "registry"

// storedRegistry says where the registry is on disk: a long one takes many records. There are two places; the one that is
// not in use is written first, so that a crash at any moment leaves the old registry or the new one.
type storedRegistry struct {
	Place int `json:"place"` // 0 or 1
	Parts int `json:"parts"`
}

func (s storedRegistry) prefix() string { return fmt.Sprintf("%s-%d/", registryKey, s.Place) }

func (s storedRegistry) part(n int) string { return fmt.Sprintf("%s%06d", s.prefix(), n) }

// registry is the one on disk, nil when there is none: what was removed stays removed across a restart without a CA
// daemon.
func (d *disk) registry(ctx context.Context) (*verify.SignedRegistry, error) {
	stored, revision, err := d.storedRegistry(ctx)
	if err != nil || revision == 0 {
		return nil, err
	}
	var doc []byte
	for n := range stored.Parts {
		r, err := d.store.Load(ctx, stored.part(n))
		if err != nil {
			return nil, err
		}
		doc = append(doc, r.Value...)
	}
	return verify.PeekRegistry(doc)
}

// storedRegistry finds what is in use; the revision is 0 when nothing is.
func (d *disk) storedRegistry(ctx context.Context) (s storedRegistry, revision keystore.Revision, err error) {
	r, err := d.store.Load(ctx, registryKey)
	if errors.Is(err, fs.ErrNotExist) {
		return s, 0, nil
	}
	if err == nil {
		err = dsse.Decode(r.Value, &s)
	}
	if err == nil && (s.Place|1 != 1 || s.Parts < 1 || s.Parts > maxParts) {
		err = fmt.Errorf("place %d with %d parts is none", s.Place, s.Parts)
	}
	return s, r.Revision, err
}

func (d *disk) saveRegistry(ctx context.Context, registry *verify.SignedRegistry) error {
	doc, err := registry.Document(nil)
	if err != nil {
		return err
	}
	stored, revision, err := d.storedRegistry(ctx)
	if err != nil {
		return err
	}
	next := storedRegistry{Place: 1 - stored.Place, Parts: (len(doc) + keystore.MaxValue - 1) / keystore.MaxValue}
	if err := d.writeParts(ctx, next, doc); err != nil {
		return err
	}
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if _, err = d.store.Replace(ctx, registryKey, revision, value); err == nil {
		d.held = registry
	}
	return err
}

// writeParts fills a place; what an earlier, longer registry left there goes.
func (d *disk) writeParts(ctx context.Context, s storedRegistry, doc []byte) error {
	there, _, err := d.store.List(ctx, s.prefix())
	if err != nil {
		return err
	}
	old := make(map[string]keystore.Revision)
	for _, r := range there {
		old[r.Key] = r.Revision
	}
	for n := range s.Parts {
		part := doc[:min(len(doc), keystore.MaxValue)]
		if _, err := d.store.Replace(ctx, s.part(n), old[s.part(n)], part); err != nil {
			return err
		}
		delete(old, s.part(n))
		doc = doc[len(part):]
	}
	for key, revision := range old {
		if err := d.store.Remove(ctx, key, revision); err != nil {
			return err
		}
	}
	return nil
}
