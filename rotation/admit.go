package rotation

import (
	"context"
	"crypto"
	"encoding/hex"
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
// with an error that wraps fs.ErrExist, unless it never reported and its first leaf has ended or was of a root that was
// dropped; a key that any other member has or had is refused with ErrKeyInUse.
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
		next.Control = slices.DeleteFunc(next.Control, func(x verify.Controller) bool { return x.Member == r.Member && x.Document == keys.documentKey })
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
	m, _, err := c.member(ctx, r.Member)
	if err == nil && m.Revoked != nil {
		err = ErrRevoked // meanwhile; upkeep takes it out of the state
	}
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
	record := Member{Identity: r.Member, Hosts: r.Hosts, Current: keys.memberKey}
	value, err := record.encode()
	if err != nil {
		return Answer{}, err
	}
	// Whatever can be refused is refused before the key is claimed: a claim is for ever.
	if err := ca.CheckHosts(r.Member.Role, r.Hosts); err != nil {
		return Answer{}, err
	}
	if m, _, err := c.member(ctx, r.Member); err == nil && m.Report != nil && m.Current != keys.memberKey && m.Next != keys.memberKey {
		return Answer{}, fmt.Errorf("it is a member already, with key %s: %w", m.Current.Short(), fs.ErrExist)
	}
	if err := c.claimAll(ctx, r.Member, keys); err != nil {
		return Answer{}, err
	}
	_, err = c.cfg.Store.Replace(ctx, memberKey(r.Member), 0, value)
	if errors.Is(err, keystore.ErrConflict) {
		err = c.sameMember(ctx, record, time.Now())
	}
	if err != nil {
		return Answer{}, err
	}
	held, err := c.load(ctx)
	if err != nil {
		return Answer{}, err
	}
	chain, err := c.issue(ctx, held.bundle, r.Member, keys.member, func(m Member) (Member, error) { return m, m.admits(keys.memberKey) })
	if err != nil {
		return Answer{}, err
	}
	c.cfg.Log.Info("member admitted", "cluster", id.Domain, "member", r.Member, "key", keys.memberKey.Short())
	return Answer{Chain: chain, State: held.payload}, nil
}

// sameMember finishes an admit that was begun. A member that never came to life, and whose first leaf nobody accepts any
// more, may come with another key: its machine was lost, or slept through a rollover, before it started.
func (c *Cluster) sameMember(ctx context.Context, want Member, now time.Time) error {
	held, err := c.load(ctx)
	if err != nil {
		return err
	}
	_, err = c.update(ctx, want.Identity, func(m Member) (Member, error) {
		accepted := now.Before(m.NotAfter) && slices.ContainsFunc(held.bundle.Roots, func(r verify.Root) bool { return r.Key == m.Issuer })
		switch {
		case m.Revoked != nil:
			return m, ErrRevoked
		case m.Current == want.Current && m.Leaf.IsZero():
			return want, nil // never released: the hosts may be others
		case m.Current == want.Current || m.Next == want.Current:
			return m, nil
		case m.Report != nil || accepted || m.Identity.Role == fingerprint.Control:
			return m, fmt.Errorf("it is a member already, with key %s: %w", m.Current.Short(), fs.ErrExist)
		}
		return want, nil
	})
	return err
}

const keysPrefix = "keys/"

// claim gives a key an owner for ever: the record is created before the key is used and never removed, so that of two
// members that come with one key at the same moment one is refused, and so is whoever comes with a key that a
// member, a removed one included, had before, or with a root's. A member's document signer is an owner of its own.
func (c *Cluster) claim(ctx context.Context, owner string, key fingerprint.Key) error {
	held, err := c.load(ctx)
	if err != nil && !errors.Is(err, ErrNoCluster) {
		return err
	}
	if err == nil && rootKnown(held.bundle, key) {
		return fmt.Errorf("key %s is a root's: %w", key.Short(), ErrKeyInUse)
	}
	name := keysPrefix + hex.EncodeToString(key[:])
	_, err = c.cfg.Store.Replace(ctx, name, 0, []byte(owner))
	if !errors.Is(err, keystore.ErrConflict) {
		return err
	}
	r, err := c.cfg.Store.Load(ctx, name)
	if err == nil && string(r.Value) != owner {
		err = fmt.Errorf("key %s belongs to %q: %w", key.Short(), r.Value, ErrKeyInUse)
	}
	return err
}

func rootKnown(b *verify.Bundle, key fingerprint.Key) bool {
	return slices.Contains(b.Retired, key) || slices.ContainsFunc(b.Roots, func(r verify.Root) bool { return r.Key == key })
}

func (c *Cluster) claimAll(ctx context.Context, id fingerprint.Identity, keys requestKeys) error {
	if err := c.claim(ctx, id.String(), keys.memberKey); err != nil || keys.document == nil {
		return err
	}
	return c.claim(ctx, "documents of "+id.String(), keys.documentKey)
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
		Lifetime: c.cfg.Lifetimes[id.Role], Backdate: c.cfg.Backdate, Clamp: true, Now: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	if leaf.Certificate.NotAfter.Equal(leaf.Issuer.NotAfter) {
		c.cfg.Log.Warn("leaf ends with its issuer: replace the root", "member", id, "ends", leaf.Issuer.NotAfter, "root", leaf.Issuer.Subject.CommonName)
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
	m, _, err := c.member(ctx, id)
	if err != nil {
		return err
	}
	revoked := &Revocation{At: time.Now().UTC().Truncate(time.Second), Reason: reason}
	m.Revoked = revoked
	if _, err := m.encode(); err != nil { // before anything is changed
		return err
	}
	// The trust state first: of two control members that are removed at the same moment, its compare-and-swap lets one
	// stay. A crash after it leaves a member that nobody accepts, and that a second call removes.
	err = c.change(ctx, func(s *verify.Bundle, _ time.Time) (*verify.Bundle, error) { return withoutControl(s, id) })
	if err != nil {
		return err
	}
	_, err = c.update(ctx, id, func(m Member) (Member, error) {
		if m.Revoked == nil {
			m.Revoked = revoked
		}
		return m, nil
	})
	if err != nil {
		return err
	}
	c.cfg.Log.Info("member removed", "member", id, "reason", reason)
	return nil
}

// withoutControl returns s without a control member, nil when it names none such, and ErrLastControl when nobody would
// be left.
func withoutControl(s *verify.Bundle, id fingerprint.Identity) (*verify.Bundle, error) {
	i := slices.IndexFunc(s.Control, func(x verify.Controller) bool { return x.Member == id })
	switch {
	case i < 0:
		return nil, nil
	case len(s.Control) == 1:
		return nil, ErrLastControl
	}
	next := s.Clone()
	next.Control = slices.Delete(next.Control, i, i+1)
	return next, nil
}
