package member

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

const (
	recordKey     = "member"
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
