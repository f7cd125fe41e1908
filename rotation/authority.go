package rotation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// authorities remembers the opened roots by key, since opening a key may cost a file read or a token session.
type authorities struct {
	mu    sync.Mutex
	byKey map[fingerprint.Key]*ca.Authority // guarded by mu
}

func (a *authorities) forget(key fingerprint.Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byKey, key)
}

// authority opens the root of a generation with its key.
func (c *Cluster) authority(ctx context.Context, b *verify.Bundle, generation int) (*ca.Authority, error) {
	root, ok := b.Root(generation)
	if !ok {
		return nil, fmt.Errorf("root g%d is not trusted in state %v", generation, b.Version)
	}
	c.roots.mu.Lock()
	defer c.roots.mu.Unlock()
	if a := c.roots.byKey[root.Key]; a != nil {
		return a, nil
	}
	signer, err := c.cfg.Keys.Open(ctx, rootLabel(generation))
	if err != nil {
		return nil, fmt.Errorf("key of root g%d: %w", generation, err)
	}
	certificate, err := x509.ParseCertificate(root.Certificate)
	if err != nil {
		return nil, err
	}
	a, err := ca.Open(certificate, signer)
	if err != nil {
		return nil, err
	}
	if c.roots.byKey == nil {
		c.roots.byKey = make(map[fingerprint.Key]*ca.Authority)
	}
	c.roots.byKey[root.Key] = a
	return a, nil
}

// makeRoot makes the key that the intent names and the certificates of its root: its own, the bridge from the root
// before it, and the canary. It may be called again after a crash: the key is found under its label, and a second set
// of certificates for it replaces a first that nobody saw.
func (c *Cluster) makeRoot(ctx context.Context, id fingerprint.ClusterID, intent *verify.Intent, before *ca.Authority) (verify.Root, *ca.Authority, error) {
	made, err := c.cfg.Keys.Generate(ctx, intent.Label, intent.Algorithm)
	if err != nil {
		return verify.Root{}, nil, err
	}
	// The key is opened again before anything is built on it: a key that its keeper cannot give back is no root.
	signer, err := c.cfg.Keys.Open(ctx, intent.Label)
	if err != nil {
		return verify.Root{}, nil, fmt.Errorf("key %q was made but cannot be opened again: %w", intent.Label, err)
	}
	if a, b := publicKey(made), publicKey(signer); a != b || a.IsZero() {
		return verify.Root{}, nil, fmt.Errorf("keeper returned key %s for %q, not the one just made (%s)", b.Short(), intent.Label, a.Short())
	}
	now := time.Now()
	a, err := ca.CreateRoot(signer, ca.RootRequest{Cluster: id, Name: c.cfg.Name, Generation: intent.Generation, Now: now})
	if err != nil {
		return verify.Root{}, nil, err
	}
	root := verify.Root{Generation: intent.Generation, Key: a.Key(), Certificate: a.Certificate().Raw}
	if before != nil {
		bridge, err := before.Bridge(a.Certificate())
		if err != nil {
			return verify.Root{}, nil, err
		}
		root.Bridge = bridge.Raw
	}
	root.Canary, err = canary(a, id, intent.Generation, now)
	return root, a, err
}

// canary issues a leaf with which members prove that they can verify the new root. Its private key is dropped
// here, so nobody can serve with it.
func canary(a *ca.Authority, id fingerprint.ClusterID, generation int, now time.Time) ([]byte, error) {
	member, err := id.Member(fingerprint.Node, fmt.Sprintf("canary-g%d", generation))
	if err != nil {
		return nil, err
	}
	key, err := keystore.NewMemory().Generate(context.Background(), "canary", keystore.P256)
	if err != nil {
		return nil, err
	}
	leaf, err := a.Issue(ca.Request{Cluster: id, Identity: member, PublicKey: key.Public(), Now: now})
	if err != nil {
		return nil, err
	}
	return leaf.Certificate.Raw, nil
}

func publicKey(s keystore.Signer) fingerprint.Key {
	k, err := fingerprint.OfPublicKey(s.Public())
	if err != nil {
		return fingerprint.Key{}
	}
	return k
}

// prepare does what the machine asked for: it makes the root of the intent and, for every control member, a
// certificate of its document signer under that root.
func (c *Cluster) prepare(ctx context.Context, held *trustRecord, intent *verify.Intent) (*verify.Bundle, error) {
	if err := forecast(held.bundle, time.Now()); err != nil { // it may have waited since it was asked for
		return nil, err
	}
	before, err := c.authority(ctx, held.bundle, held.bundle.Signer)
	if err != nil {
		return nil, err
	}
	root, to, err := c.makeRoot(ctx, held.bundle.Cluster, intent, before)
	if err != nil {
		return nil, fmt.Errorf("root g%d: %w", intent.Generation, err)
	}
	control, err := documentsUnder(held.bundle, to, time.Now())
	if err != nil {
		return nil, err
	}
	return prepared(held.bundle, root, control)
}

// documentsUnder returns the control members with one more certificate of each document signer, issued by to.
func documentsUnder(b *verify.Bundle, to *ca.Authority, now time.Time) ([]verify.Controller, error) {
	control := b.Clone().Control
	for i := range control {
		old, err := x509.ParseCertificate(control[i].Documents[len(control[i].Documents)-1])
		if err != nil {
			return nil, err
		}
		leaf, err := to.IssueDocumentSigner(ca.DocumentRequest{Cluster: b.Cluster, Member: control[i].Member, PublicKey: old.PublicKey, Now: now})
		if err != nil {
			return nil, fmt.Errorf("document signer of %q: %w", control[i].Member, err)
		}
		control[i].Documents = append(control[i].Documents, leaf.Certificate.Raw)
	}
	return control, nil
}

// destroyRetired destroys the private keys of roots that were dropped. A key is destroyed only when its public half is
// in the retired set of the committed state: a store that was restored from an older backup destroys nothing.
func (c *Cluster) destroyRetired(ctx context.Context, b *verify.Bundle) error {
	if len(b.Retired) == 0 {
		return nil
	}
	retired := make(map[fingerprint.Key]bool, len(b.Retired))
	for _, k := range b.Retired {
		retired[k] = true
	}
	labels, err := c.cfg.Keys.Labels(ctx)
	if err != nil {
		return err
	}
	for _, label := range labels {
		if !strings.HasPrefix(label, rootLabelPrefix) || inUse(b, label) {
			continue
		}
		signer, err := c.cfg.Keys.Open(ctx, label)
		if err != nil || !retired[publicKey(signer)] {
			continue
		}
		if err := c.cfg.Keys.Delete(ctx, label); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("destroy retired key %q: %w", label, err)
		}
		c.roots.forget(publicKey(signer))
		c.cfg.Log.Info("retired root key destroyed", "label", label)
	}
	return nil
}

// inUse says whether a label is that of a root which the state trusts or is about to make.
func inUse(b *verify.Bundle, label string) bool {
	return b.Pending != nil && b.Pending.Label == label ||
		slices.ContainsFunc(b.Roots, func(r verify.Root) bool { return rootLabel(r.Generation) == label })
}

// forecast refuses a rollover that stands on something about to end.
func forecast(b *verify.Bundle, now time.Time) error {
	for _, r := range b.Roots {
		certificate, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return err
		}
		if left := certificate.NotAfter.Sub(now); left < settleBound {
			return fmt.Errorf("root g%d ends %s, in %s, and a rollover may take %s: %w",
				r.Generation, certificate.NotAfter.Format(time.RFC3339), left.Round(time.Second), settleBound, ErrTooLate)
		}
	}
	return nil
}
