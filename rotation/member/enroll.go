package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// Enroll makes a member: its keys are born in cfg.Keys and never leave them, admit carries the request to the CA and
// brings the answer over a channel that the caller trusts, and the answer is checked before it is kept. For the first
// control member, admit creates the cluster. An enrolment that was killed is finished by calling it again; a
// directory that holds a member already is refused with an error that wraps fs.ErrExist.
func Enroll(ctx context.Context, cfg Config, who rotation.Request, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	if err := enroll(ctx, cfg, who, admit); err != nil {
		return fmt.Errorf("member: enrol %q: %w", who.Member, err)
	}
	return nil
}

func enroll(ctx context.Context, cfg Config, who rotation.Request, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	cfg = cfg.withDefaults()
	if _, err := cfg.Store.Load(ctx, recordKey); err == nil {
		return fmt.Errorf("this directory is a member's already: %w", fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := cfg.Keys.Generate(ctx, leafLabel(1), cfg.Algorithm)
	if err != nil {
		return err
	}
	if who.CSR, err = ca.NewRequest(key, who.Member); err != nil {
		return err
	}
	if who.Member.Role == fingerprint.Control {
		document, err := cfg.Keys.Generate(ctx, documentLabel, keystore.P256)
		if err != nil {
			return err
		}
		if who.Document, err = ca.NewRequest(document, who.Member); err != nil {
			return err
		}
	}
	answer, err := admit(ctx, who)
	if err != nil {
		return err
	}
	return keep(ctx, cfg, who.Member, key, answer)
}

// keep checks that the answer is usable as it stands, then makes it durable.
func keep(ctx context.Context, cfg Config, id fingerprint.Identity, key keystore.Signer, answer rotation.Answer) error {
	bundle, err := verify.ParseBundle(answer.State)
	if err != nil {
		return err
	}
	checked, err := live.New(live.Credentials{Chain: answer.Chain, Key: key, Bundle: bundle})
	if err != nil {
		return err
	}
	if got := checked.Identity(); got != id {
		return fmt.Errorf("the answer is for %q", got)
	}
	value, err := json.Marshal(record{Member: id, Serial: 1, Key: leafLabel(1), Chain: answer.Chain, State: answer.State})
	if err != nil {
		return err
	}
	_, err = cfg.Store.Replace(ctx, recordKey, 0, value)
	return err
}
