package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/clusterca/clusterca/keystore"
)

const pauseKey = "pause"

// Pause is an operator's wish that no rollover takes a step. All else goes on: renewals, removals, upkeep.
type Pause struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Pause keeps every rollover where it stands, one that is asked for later included, until Resume. A step that a CA daemon
// is about to commit may still be taken. Pausing again replaces the reason.
func (c *Cluster) Pause(ctx context.Context, reason string) error {
	if len(reason) > maxReason {
		return fmt.Errorf("rotation: pause: reason of %d bytes, at most %d", len(reason), maxReason)
	}
	value, err := json.Marshal(Pause{time.Now().UTC().Truncate(time.Second), reason})
	if err != nil {
		return fmt.Errorf("rotation: pause: %w", err)
	}
	for {
		_, revision, err := c.paused(ctx)
		if err == nil {
			_, err = c.cfg.Store.Replace(ctx, pauseKey, revision, value)
		}
		if errors.Is(err, keystore.ErrConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("rotation: pause: %w", err)
		}
		c.cfg.Log.Info("rollovers paused", "reason", reason)
		return nil
	}
}

// Resume ends a pause; without one it does nothing.
func (c *Cluster) Resume(ctx context.Context) error {
	for {
		pause, revision, err := c.paused(ctx)
		if err == nil && pause != nil {
			err = c.cfg.Store.Remove(ctx, pauseKey, revision)
		}
		switch {
		case errors.Is(err, keystore.ErrConflict), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("rotation: resume: %w", err)
		}
		return nil
	}
}

// paused reads the pause; nil when there is none.
func (c *Cluster) paused(ctx context.Context) (*Pause, keystore.Revision, error) {
	r, err := c.cfg.Store.Load(ctx, pauseKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var p Pause
	if err := json.Unmarshal(r.Value, &p); err != nil {
		return nil, 0, fmt.Errorf("record %q: %w", pauseKey, err)
	}
	return &p, r.Revision, nil
}
