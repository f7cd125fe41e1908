package rotation

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// ErrUnpublished says that no CA daemon has signed the present state yet, so that a next one would leave a gap in the
// chain that members follow. It passes by itself as soon as a CA daemon runs.
var ErrUnpublished = errors.New("no CA daemon has signed the present trust state yet: start one")

// ErrTooLate says that a rollover could not settle before something that it stands on ends.
var ErrTooLate = errors.New("too late for a rollover")

const trustKey = "trust"

// trustRecord is the trust state as the store holds it.
type trustRecord struct {
	bundle   *verify.Bundle
	payload  []byte
	digest   verify.Digest
	revision keystore.Revision
}

func historyKey(v fingerprint.Version) string {
	return fmt.Sprintf("history/%d-%08d", v.Term, v.Number)
}

// load reads the trust state. It is linearizable, as the store's Load is: who recorded something first and then loads
// sees every commit that the driver made without seeing the record.
func (c *Cluster) load(ctx context.Context) (*trustRecord, error) {
	r, err := c.cfg.Store.Load(ctx, trustKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoCluster
	}
	if err != nil {
		return nil, err
	}
	b, err := verify.ParseBundle(r.Value)
	if err != nil {
		return nil, fmt.Errorf("trust state at revision %d: %w", r.Revision, err)
	}
	return &trustRecord{b, r.Value, verify.DigestOf(r.Value), r.Revision}, nil
}

// put writes next where old stands now. The single compare-and-swap of the trust state is here.
func (c *Cluster) put(ctx context.Context, old keystore.Revision, next *verify.Bundle) (*trustRecord, error) {
	payload, err := next.Encode()
	if err != nil {
		return nil, err
	}
	// What is committed can be read by everybody, or it is not committed.
	next, err = verify.ParseBundle(payload)
	if err != nil {
		return nil, err
	}
	revision, err := c.cfg.Store.Replace(ctx, trustKey, old, payload)
	if err != nil {
		return nil, err
	}
	c.cfg.Log.Info("trust state committed", "state", next.Version, "phase", next.Phase, "signer", next.Signer, "digest", next.Digest())
	return &trustRecord{next, payload, next.Digest(), revision}, nil
}

// commit makes next the successor of held. The signed form of held must stand in the history first: members follow
// the chain state by state, and once the next state is committed nobody signs the one before it.
func (c *Cluster) commit(ctx context.Context, held *trustRecord, next *verify.Bundle) (*trustRecord, error) {
	if _, err := c.envelope(ctx, held.bundle.Version); err != nil {
		return nil, err
	}
	return c.put(ctx, held.revision, stamp(next, held.bundle, time.Now()))
}

// change commits what edit makes of the present state. It waits while the present state is unpublished, and starts
// over when somebody else committed first.
func (c *Cluster) change(ctx context.Context, edit func(*verify.Bundle, time.Time) (*verify.Bundle, error)) error {
	for {
		held, err := c.load(ctx)
		if err != nil {
			return err
		}
		next, err := edit(held.bundle, time.Now())
		if err != nil || next == nil {
			return err
		}
		_, err = c.commit(ctx, held, next)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, keystore.ErrConflict):
		case errors.Is(err, ErrUnpublished):
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w (%w)", err, ctx.Err())
			case <-time.After(publishPoll):
			}
		default:
			return err
		}
	}
}

// envelope returns the signed form of a state from the history; ErrUnpublished when there is none.
func (c *Cluster) envelope(ctx context.Context, v fingerprint.Version) ([]byte, error) {
	r, err := c.cfg.Store.Load(ctx, historyKey(v))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state %v: %w", v, ErrUnpublished)
	}
	return r.Value, err
}

// publish signs a committed state and keeps the signed form for good. Whoever comes first signs; the others serve what
// stands there. A daemon signs only what its reader can check: its key must be named by the state before, and by this
// one, since what a state says of its own signers counts too.
func (c *Cluster) publish(ctx context.Context, held *trustRecord, self fingerprint.Identity, documents crypto.Signer) ([]byte, error) {
	if signed, err := c.envelope(ctx, held.bundle.Version); !errors.Is(err, ErrUnpublished) {
		return signed, err
	}
	if err := c.maySign(ctx, held.bundle, self, documents); err != nil {
		return nil, err
	}
	signed, err := verify.SignBundle(held.payload, documents)
	if err != nil {
		return nil, err
	}
	_, err = c.cfg.Store.Replace(ctx, historyKey(held.bundle.Version), 0, signed)
	if errors.Is(err, keystore.ErrConflict) {
		return c.envelope(ctx, held.bundle.Version)
	}
	return signed, err
}

func (c *Cluster) maySign(ctx context.Context, b *verify.Bundle, self fingerprint.Identity, documents crypto.Signer) error {
	key, err := fingerprint.OfPublicKey(documents.Public())
	if err != nil {
		return err
	}
	by := b
	if b.Version.Number > 1 {
		previous := fingerprint.Version{Term: b.Version.Term, Number: b.Version.Number - 1}
		signed, err := c.envelope(ctx, previous)
		if err != nil {
			return err
		}
		if by, err = verify.PeekBundle(signed); err != nil {
			return err
		}
	}
	for _, state := range []*verify.Bundle{by, b} {
		if !slices.ContainsFunc(state.Control, func(x verify.Controller) bool { return x.Member == self && x.Document == key }) {
			return fmt.Errorf("state %v names no document signer %s of %q: %w", state.Version, key.Short(), self, ErrUnpublished)
		}
	}
	return nil
}

// view reads everything that the pure machine looks at: first the state, then the records, so that a member that was
// recorded before the state was read is always in it.
func (c *Cluster) view(ctx context.Context) (View, *trustRecord, error) {
	held, err := c.load(ctx)
	if err != nil {
		return View{}, nil, err
	}
	members, err := c.members(ctx)
	if err != nil {
		return View{}, nil, err
	}
	return View{State: held.bundle, Digest: held.digest, Members: members}, held, nil
}
