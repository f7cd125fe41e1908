package member

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

const (
	recordKey     = "member"
	registryKey   = "registry"
	partsKey      = "registry-parts"
	documentLabel = "document"
)

// record is what a member keeps on disk: one value, replaced as a whole, so that leaf, key and trust state always fit
// together. Private keys are named by label; a key is durable before a record names it.
type record struct {
	Member   fingerprint.Identity `json:"member"`
	Boot     uint64               `json:"boot"`           // starts so far
	Requests uint64               `json:"requests"`       // next keys asked for so far
	Serial   uint64               `json:"serial"`         // keys made so far
	Key      string               `json:"key"`            // label of the key served
	Next     string               `json:"next,omitempty"` // label of the key that is to follow it
	Chain    [][]byte             `json:"chain"`          // leaf first, DER
	State    json.RawMessage      `json:"state"`          // the trust state, as committed
}

// disk is the durable side of a member. Only Run and the calls that it serialises use it.
type disk struct {
	keys     keystore.Keys
	store    keystore.Store
	record   record
	revision keystore.Revision
	held     *verify.SignedRegistry // with the head that vouches for it; nil before the first
}

// ErrNotEnrolled says that the directory holds no member yet.
var ErrNotEnrolled = errors.New("no member here: enrol first")

func openDisk(ctx context.Context, keys keystore.Keys, store keystore.Store) (*disk, error) {
	d := &disk{keys: keys, store: store}
	r, err := store.Load(ctx, recordKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(r.Value))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d.record); err != nil {
		return nil, fmt.Errorf("record %q: %w", recordKey, err)
	}
	d.revision = r.Revision
	return d, nil
}

// save makes next durable. A crash before it leaves the old record, a crash after it the new one.
func (d *disk) save(ctx context.Context, next record) error {
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	revision, err := d.store.Replace(ctx, recordKey, d.revision, value)
	if errors.Is(err, keystore.ErrConflict) {
		return fmt.Errorf("another process runs as this member: %w", err)
	}
	if err != nil {
		return err
	}
	d.record, d.revision = next, revision
	return nil
}

// credentials are what the disk holds, ready to be made live.
func (d *disk) credentials(ctx context.Context) (live.Credentials, error) {
	bundle, err := verify.ParseBundle(d.record.State)
	if err != nil {
		return live.Credentials{}, fmt.Errorf("trust state: %w", err)
	}
	key, err := d.keys.Open(ctx, d.record.Key)
	if err != nil {
		return live.Credentials{}, fmt.Errorf("key of the leaf: %w", err)
	}
	c := live.Credentials{Chain: d.record.Chain, Key: key, Bundle: bundle}
	if d.held, err = d.registry(ctx); err != nil {
		return live.Credentials{}, fmt.Errorf("registry: %w", err)
	}
	if d.held != nil {
		c.Registry = d.held.Registry
	}
	return c, nil
}

// registryParts names the signed registry on disk: what was removed stays removed across a restart without a CA daemon.
// It stands in parts, since a store's records are small; they are durable before this names them.
type registryParts struct {
	Digest verify.Digest `json:"digest"` // of all parts together
	Count  int           `json:"count"`
}

func (p registryParts) prefix() string {
	return fmt.Sprintf("%s/%s/", partsKey, p.Digest.String()[:32])
}

func (p registryParts) part(n int) string { return fmt.Sprintf("%s%04d", p.prefix(), n) }

func (d *disk) registryParts(ctx context.Context) (p registryParts, revision keystore.Revision, err error) {
	r, err := d.store.Load(ctx, registryKey)
	if errors.Is(err, fs.ErrNotExist) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	if err := json.Unmarshal(r.Value, &p); err != nil {
		return p, 0, fmt.Errorf("record %q: %w", registryKey, err)
	}
	return p, r.Revision, nil
}

// registry is the one on disk; nil when there is none.
func (d *disk) registry(ctx context.Context) (*verify.SignedRegistry, error) {
	p, revision, err := d.registryParts(ctx)
	if err != nil || revision == 0 {
		return nil, err
	}
	var document []byte
	for n := range p.Count {
		r, err := d.store.Load(ctx, p.part(n))
		if err != nil {
			return nil, err
		}
		document = append(document, r.Value...)
	}
	if verify.DigestOf(document) != p.Digest {
		return nil, errors.New("its parts do not belong together")
	}
	return verify.PeekRegistry(document)
}

func (d *disk) saveRegistry(ctx context.Context, registry *verify.SignedRegistry) error {
	_, revision, err := d.registryParts(ctx)
	if err != nil {
		return err
	}
	document, err := registry.Document(nil)
	if err != nil {
		return err
	}
	p := registryParts{Digest: verify.DigestOf(document)}
	for part := range slices.Chunk(document, registryPart) {
		// Parts are named by what they are parts of: one that is there already is the same.
		_, err := d.store.Replace(ctx, p.part(p.Count), 0, part)
		if err != nil && !errors.Is(err, keystore.ErrConflict) {
			return err
		}
		p.Count++
	}
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := d.store.Replace(ctx, registryKey, revision, value); err != nil {
		return err
	}
	d.held = registry
	return d.dropParts(ctx, p)
}

// dropParts removes the parts of other registries.
func (d *disk) dropParts(ctx context.Context, keep registryParts) error {
	records, _, err := d.store.List(ctx, partsKey+"/")
	if err != nil {
		return err
	}
	for _, r := range records {
		if strings.HasPrefix(r.Key, keep.prefix()) {
			continue
		}
		if err := d.store.Remove(ctx, r.Key, r.Revision); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// nextKey returns the key that is to follow the one served, making it first when there is none. The label is durable
// before the key, so a crash in between makes it again under the same label.
func (d *disk) nextKey(ctx context.Context, algorithm keystore.Algorithm) (keystore.Signer, error) {
	if d.record.Next == "" {
		next := d.record
		next.Serial++
		next.Requests++
		next.Next = leafLabel(next.Serial)
		if err := d.save(ctx, next); err != nil {
			return nil, err
		}
	}
	return d.keys.Generate(ctx, d.record.Next, algorithm)
}

// dropKeys destroys the keys of leaves that are neither served nor next.
func (d *disk) dropKeys(ctx context.Context) error {
	for serial := d.record.Serial; serial > 0; serial-- {
		label := leafLabel(serial)
		if label == d.record.Key || label == d.record.Next {
			continue
		}
		err := d.keys.Delete(ctx, label)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // older ones were destroyed before
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func leafLabel(serial uint64) string { return fmt.Sprintf("leaf-%d", serial) }

// documents opens the document signer of a control member; nil for everybody else.
func (d *disk) documents(ctx context.Context) (crypto.Signer, error) {
	if d.record.Member.Role != fingerprint.Control {
		return nil, nil
	}
	return d.keys.Open(ctx, documentLabel)
}
