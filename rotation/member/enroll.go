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

// Reenroll brings a member back whose leaf nobody accepts any more, since it was off for longer than the leaf lived, or
// past a rollover. Identity and key stay, so that it is the member that it was; admit is as in Enroll, and so is the
// trust in the channel that it takes. A CA daemon that was off so long brings its own control member back first. No
// Run may be under way. The error wraps ErrNotEnrolled when no member is here, and live.ErrOlder when the answer
// is from before what the member knows.
func Reenroll(ctx context.Context, cfg Config, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	if err := reenroll(ctx, cfg.withDefaults(), admit); err != nil {
		return fmt.Errorf("member: enrol again: %w", err)
	}
	return nil
}

func reenroll(ctx context.Context, cfg Config, admit func(context.Context, rotation.Request) (rotation.Answer, error)) error {
	d, err := openDisk(ctx, cfg.Keys, cfg.Store)
	if err != nil {
		return err
	}
	who := rotation.Request{Member: d.record.Member}
	key, err := cfg.Keys.Open(ctx, d.record.Key)
	if err != nil {
		return err
	}
	if who.CSR, err = ca.NewRequest(key, who.Member); err != nil {
		return err
	}
	documents, err := d.documents(ctx)
	if err != nil {
		return err
	}
	if documents != nil {
		if who.Document, err = ca.NewRequest(documents, who.Member); err != nil {
			return err
		}
	}
	answer, err := admit(ctx, who)
	if err != nil {
		return err
	}
	held, err := verify.ParseBundle(d.record.State)
	if err != nil {
		return err
	}
	bundle, err := usable(who.Member, key, answer)
	if err != nil {
		return err
	}
	if bundle.Digest() != held.Digest() && !bundle.Supersedes(held) {
		return fmt.Errorf("the answer has state %v of %q, held is %v of %q: %w", bundle.Version, bundle.Cluster.UUID, held.Version, held.Cluster.UUID, live.ErrOlder)
	}
	next := d.record
	next.Chain, next.State = answer.Chain, answer.State
	return d.save(ctx, next)
}

// usable checks an answer as the member's own TLS will, and returns its trust state.
func usable(id fingerprint.Identity, key keystore.Signer, answer rotation.Answer) (*verify.Bundle, error) {
	bundle, err := verify.ParseBundle(answer.State)
	if err != nil {
		return nil, err
	}
	checked, err := live.New(live.Credentials{Chain: answer.Chain, Key: key, Bundle: bundle})
	if err != nil {
		return nil, err
	}
	if got := checked.Identity(); got != id {
		return nil, fmt.Errorf("the answer is for %q", got)
	}
	return bundle, nil
}

// keep checks that the answer is usable as it stands, then makes it durable.
func keep(ctx context.Context, cfg Config, id fingerprint.Identity, key keystore.Signer, answer rotation.Answer) error {
	if _, err := usable(id, key, answer); err != nil {
		return err
	}
	value, err := json.Marshal(record{Member: id, Serial: 1, Key: leafLabel(1), Chain: answer.Chain, State: answer.State})
	if err != nil {
		return err
	}
	_, err = cfg.Store.Replace(ctx, recordKey, 0, value)
	return err
}
