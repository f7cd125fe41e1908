package rotation

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// ErrKeyInUse says that a request's key is, or was, somebody else's.
var ErrKeyInUse = errors.New("key is already somebody else's")

// requestKeys are the public keys that a request proves possession of.
type requestKeys struct {
	member      crypto.PublicKey
	memberKey   fingerprint.Key
	document    crypto.PublicKey // control members only
	documentKey fingerprint.Key
}

func parseKeys(r Request) (requestKeys, error) {
	var k requestKeys
	if err := r.Member.Validate(); err != nil {
		return k, err
	}
	var err error
	if k.member, k.memberKey, err = parseKey(r.CSR, r.Member); err != nil {
		return k, err
	}
	if (r.Member.Role == fingerprint.Control) != (len(r.Document) > 0) {
		return k, fmt.Errorf("%q: a control member, and nobody else, asks for a document signer", r.Member)
	}
	if len(r.Document) == 0 {
		return k, nil
	}
	if k.document, k.documentKey, err = parseKey(r.Document, r.Member); err != nil {
		return k, fmt.Errorf("document signer: %w", err)
	}
	if k.documentKey == k.memberKey {
		return k, fmt.Errorf("%q: the document signer needs a key of its own", r.Member)
	}
	return k, nil
}

func parseKey(csr []byte, member fingerprint.Identity) (crypto.PublicKey, fingerprint.Key, error) {
	public, err := ca.ParseRequest(csr, member)
	if err != nil {
		return nil, fingerprint.Key{}, err
	}
	key, err := fingerprint.OfPublicKey(public)
	return public, key, err
}

// Admit makes a new member and answers with its first certificate. Who is admitted is the caller's decision. An admit
// that was killed is finished by calling it again with the same keys; a member that exists with another key is refused
// with an error that wraps fs.ErrExist, a key that any other member has or had with ErrKeyInUse.
func (c *Cluster) Admit(ctx context.Context, r Request) (Answer, error) {
	answer, err := c.admit(ctx, r)
	if err != nil {
		return Answer{}, fmt.Errorf("rotation: admit %q: %w", r.Member, err)
	}
	return answer, nil
}

func (c *Cluster) admit(ctx context.Context, r Request) (Answer, error) {
	held, err := c.load(ctx)
	if err != nil {
		return Answer{}, err
	}
	if r.Member.Domain != held.bundle.Cluster.Domain {
		return Answer{}, fmt.Errorf("its trust domain is not %q", held.bundle.Cluster.Domain)
	}
	keys, err := parseKeys(r)
	if err != nil {
		return Answer{}, err
	}
	answer, err := c.enrol(ctx, held.bundle.Cluster, r, keys)
	if err != nil || r.Member.Role != fingerprint.Control {
		return answer, err
	}
	return c.admitControl(ctx, r, keys, answer)
}

// admitControl lists a control member in the trust state itself, and answers with the state that names it.
func (c *Cluster) admitControl(ctx context.Context, r Request, keys requestKeys, answer Answer) (Answer, error) {
	err := c.change(ctx, func(s *verify.Bundle, now time.Time) (*verify.Bundle, error) {
		if controls(s, r.Member, keys) {
			return nil, nil
		}
		control := verify.Controller{Member: r.Member, Current: keys.memberKey, Document: keys.documentKey}
		for _, root := range s.Roots {
			authority, err := c.authority(ctx, s, root.Generation)
			if err != nil {
				return nil, err
			}
			leaf, err := authority.IssueDocumentSigner(ca.DocumentRequest{Cluster: s.Cluster, Member: r.Member, PublicKey: keys.document, Now: now})
			if err != nil {
				return nil, err
			}
			control.Documents = append(control.Documents, leaf.Certificate.Raw)
		}
		next := s.Clone()
		next.Control = append(next.Control, control)
		return next, nil
	})
	if err != nil {
		return Answer{}, err
	}
	held, err := c.load(ctx)
	if err != nil {
		return Answer{}, err
	}
	answer.State = held.payload
	return answer, nil
}

func controls(b *verify.Bundle, member fingerprint.Identity, keys requestKeys) bool {
	return slices.ContainsFunc(b.Control, func(x verify.Controller) bool {
		return x.Member == member && x.Current == keys.memberKey && x.Document == keys.documentKey
	})
}

// enrol records the member, then reads the state, then issues. In this order the driver either sees the record
// before its next step or has committed the step before the state is read here: no joiner is left behind.
func (c *Cluster) enrol(ctx context.Context, id fingerprint.ClusterID, r Request, keys requestKeys) (Answer, error) {
	if err := c.unusedKey(ctx, r.Member, keys); err != nil {
		return Answer{}, err
	}
	record := Member{Identity: r.Member, Hosts: r.Hosts, Current: keys.memberKey}
	value, err := record.encode()
	if err != nil {
		return Answer{}, err
	}
	_, err = c.cfg.Store.Replace(ctx, memberKey(r.Member), 0, value)
	if errors.Is(err, keystore.ErrConflict) {
		err = c.sameMember(ctx, record)
	}
	if err != nil {
		return Answer{}, err
	}
	held, err := c.load(ctx)
	if err != nil {
		return Answer{}, err
	}
	chain, err := c.issue(ctx, held.bundle, r.Member, keys.member, func(m Member) (Member, error) { return m, nil })
	if err != nil {
		return Answer{}, err
	}
	c.cfg.Log.Info("member admitted", "cluster", id.Domain, "member", r.Member, "key", keys.memberKey.Short())
	return Answer{Chain: chain, State: held.payload}, nil
}

func (c *Cluster) sameMember(ctx context.Context, want Member) error {
	m, _, err := c.member(ctx, want.Identity)
	if err != nil {
		return err
	}
	if m.Revoked != nil {
		return ErrRevoked
	}
	if m.Current != want.Current {
		return fmt.Errorf("it is a member already, with key %s: %w", m.Current.Short(), fs.ErrExist)
	}
	return nil
}

// unusedKey refuses a key that another member, a removed one included, or the CA has or had.
func (c *Cluster) unusedKey(ctx context.Context, id fingerprint.Identity, keys requestKeys) error {
	members, err := c.members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Identity == id {
			continue
		}
		for _, k := range []fingerprint.Key{keys.memberKey, keys.documentKey} {
			if !k.IsZero() && (k == m.Current || k == m.Next) {
				return fmt.Errorf("key %s belongs to %q: %w", k.Short(), m.Identity, ErrKeyInUse)
			}
		}
	}
	held, err := c.load(ctx)
	if errors.Is(err, ErrNoCluster) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner := caKeyOwner(held.bundle, keys.memberKey); owner != "" {
		return fmt.Errorf("key %s is %s: %w", keys.memberKey.Short(), owner, ErrKeyInUse)
	}
	return nil
}

// caKeyOwner says which key of the CA k is: a root's, a retired root's or a document signer's; "" for none.
func caKeyOwner(b *verify.Bundle, k fingerprint.Key) string {
	if slices.Contains(b.Retired, k) {
		return "that of a retired root"
	}
	for _, r := range b.Roots {
		if r.Key == k {
			return "that of a root"
		}
	}
	for _, x := range b.Control {
		if x.Document == k {
			return "that of a document signer"
		}
	}
	return ""
}

// issue signs a leaf with the root that signs in b, and releases it only when the member's record says so: the record
// is written by compare-and-swap after a check that the member was not removed meanwhile. A crash in between leaves a
// recorded leaf that nobody holds; the next one takes its place.
func (c *Cluster) issue(ctx context.Context, b *verify.Bundle, id fingerprint.Identity, public crypto.PublicKey, edit func(Member) (Member, error)) ([][]byte, error) {
	m, _, err := c.member(ctx, id)
	if err != nil {
		return nil, err
	}
	authority, err := c.authority(ctx, b, b.Signer)
	if err != nil {
		return nil, err
	}
	leaf, err := authority.Issue(ca.Request{
		Cluster: b.Cluster, Identity: id, PublicKey: public, Hosts: m.Hosts,
		Lifetime: c.cfg.Lifetimes[id.Role], Clamp: true, Now: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	_, err = c.update(ctx, id, func(m Member) (Member, error) {
		if m.Revoked != nil {
			return m, ErrRevoked
		}
		m.Leaf = fingerprint.OfCertificate(leaf.Certificate.Raw)
		m.Issuer = authority.Key()
		m.NotAfter = leaf.Certificate.NotAfter
		return edit(m)
	})
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf.Certificate.Raw}, nil
}

// ErrLastControl says that a removal would leave the cluster without a control member.
var ErrLastControl = errors.New("last control member")

// Remove removes a member: nothing is issued to it any more, and every member refuses it as soon as it hears of it.
// Removal is final; the same machine comes back as a new member with a new key. The last control member is refused with
// ErrLastControl.
func (c *Cluster) Remove(ctx context.Context, id fingerprint.Identity, reason string) error {
	if err := c.remove(ctx, id, reason); err != nil {
		return fmt.Errorf("rotation: remove %q: %w", id, err)
	}
	return nil
}

func (c *Cluster) remove(ctx context.Context, id fingerprint.Identity, reason string) error {
	held, err := c.load(ctx)
	if err != nil {
		return err
	}
	if len(held.bundle.Control) == 1 && held.bundle.Control[0].Member == id {
		return ErrLastControl
	}
	_, err = c.update(ctx, id, func(m Member) (Member, error) {
		if m.Revoked == nil {
			m.Revoked = &Revocation{At: time.Now().UTC().Truncate(time.Second), Reason: reason}
		}
		return m, nil
	})
	if err != nil {
		return err
	}
	c.cfg.Log.Info("member removed", "member", id, "reason", reason)
	if id.Role != fingerprint.Control {
		return nil
	}
	// A crash here leaves a control member that is revoked but still named by the state; the driver takes it out.
	return c.change(ctx, func(s *verify.Bundle, _ time.Time) (*verify.Bundle, error) { return withoutControl(s, id), nil })
}

// withoutControl returns s without a control member, or nil when it names none such.
func withoutControl(s *verify.Bundle, id fingerprint.Identity) *verify.Bundle {
	next := s.Clone()
	next.Control = slices.DeleteFunc(next.Control, func(x verify.Controller) bool { return x.Member == id })
	if len(next.Control) == len(s.Control) || len(next.Control) == 0 {
		return nil
	}
	return next
}
