package rotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// Config says where a cluster's CA lives. Keys and Store are required.
type Config struct {
	// Keys keep the roots' private keys, under the labels "root-1", "root-2", …
	Keys keystore.Keys
	// Store keeps the trust state, its history and one record a member. CA daemons of one cluster share it.
	Store keystore.Store

	// Name is for people: it goes into the organisation of what is issued. Empty: the trust domain.
	Name string
	// Algorithm of the first root. Empty: P-256.
	Algorithm keystore.Algorithm
	// Rules for nodes and users, fixed when the cluster is created. The zero value is open for both.
	Rules verify.Rules
	// Lifetimes of leaves by role. A role that is absent has the default of package ca; more than ca's cap is refused
	// when a leaf is issued.
	Lifetimes map[fingerprint.Role]time.Duration
	// Backdate is how far before its issue a leaf begins, since clocks differ. Zero: the default of package ca.
	Backdate time.Duration
	// Log hears what the CA decides. Nil: nothing is logged.
	Log *slog.Logger
}

// Cluster is the CA's side of one cluster: what an operator or a CA daemon asks of it. It holds no state of its own
// that others would have to wait for: everything stands in the Store, so that any number of processes may use the
// same cluster at once. Safe for concurrent use.
type Cluster struct {
	cfg   Config
	roots authorities
}

// Request asks for a new member's first certificate.
type Request struct {
	Member fingerprint.Identity
	Hosts  []string // DNS names and IP addresses that the member serves; none for users
	CSR    []byte   // PKCS#10, DER; only its key is taken
	// Document is the CSR of the document signer of a control member, DER; empty for the other roles.
	Document []byte
}

// Answer is what a new member needs to start. It comes over a channel that the caller trusts: it is the anchor of all
// that follows.
type Answer struct {
	Chain [][]byte // leaf first, DER
	State []byte   // the trust state in force, as committed
}

// ErrNoCluster says that the store holds no cluster yet.
var ErrNoCluster = errors.New("no cluster in this store: create one first")

// Create makes a cluster: its first root, its first trust state, and its founder, which must be a control member. A
// create that was killed is finished by calling it again with the same founder key. A store that holds another
// cluster, or another founder, is refused with an error that wraps fs.ErrExist.
func Create(ctx context.Context, cfg Config, id fingerprint.ClusterID, founder Request) (*Cluster, Answer, error) {
	answer, c, err := create(ctx, cfg, id, founder)
	if err != nil {
		return nil, Answer{}, fmt.Errorf("rotation: create cluster %q: %w", id.Domain, err)
	}
	return c, answer, nil
}

func create(ctx context.Context, cfg Config, id fingerprint.ClusterID, founder Request) (Answer, *Cluster, error) {
	c, err := newCluster(cfg)
	if err != nil {
		return Answer{}, nil, err
	}
	if err := id.Validate(); err != nil {
		return Answer{}, nil, err
	}
	if founder.Member.Role != fingerprint.Control || founder.Member.Domain != id.Domain {
		return Answer{}, nil, fmt.Errorf("the founder must be a control member of %s, not %q", id.Domain, founder.Member)
	}
	keys, err := parseKeys(founder)
	if err != nil {
		return Answer{}, nil, err
	}
	held, err := c.load(ctx)
	switch {
	case err == nil:
		// A create that was killed after its last durable write is answered again; anything else is another cluster.
		if held.bundle.Cluster != id || !controls(held.bundle, founder.Member, keys) {
			return Answer{}, nil, fmt.Errorf("the store holds cluster %s (%s): %w", held.bundle.Cluster.Domain, held.bundle.Cluster.UUID, fs.ErrExist)
		}
	case !errors.Is(err, ErrNoCluster):
		return Answer{}, nil, err
	default:
		if held, err = c.found(ctx, id, founder, keys); err != nil {
			return Answer{}, nil, err
		}
	}
	answer, err := c.enrol(ctx, held.bundle.Cluster, founder, keys)
	return answer, c, err
}

// found makes the first root and commits the first trust state. A crash before the commit leaves a key under the
// label of the first root, which the next create finds and uses.
func (c *Cluster) found(ctx context.Context, id fingerprint.ClusterID, founder Request, keys requestKeys) (*trustRecord, error) {
	intent := &verify.Intent{Generation: 1, Algorithm: c.cfg.Algorithm, Label: rootLabel(1)}
	root, authority, err := c.makeRoot(ctx, id, intent, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	document, err := authority.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: founder.Member, PublicKey: keys.document, Now: now})
	if err != nil {
		return nil, err
	}
	first := &verify.Bundle{
		Cluster:     id,
		Phase:       verify.Settled,
		Roots:       []verify.Root{root},
		Signer:      1,
		Generations: 1,
		Rules:       c.cfg.Rules,
		Control: []verify.Controller{{
			Member:    founder.Member,
			Current:   keys.memberKey,
			Document:  keys.documentKey,
			Documents: [][]byte{document.Certificate.Raw},
		}},
	}
	return c.put(ctx, 0, stamp(first, nil, now))
}

// Open opens the cluster that the store holds; ErrNoCluster when there is none.
func Open(ctx context.Context, cfg Config) (*Cluster, error) {
	c, err := newCluster(cfg)
	if err != nil {
		return nil, fmt.Errorf("rotation: open: %w", err)
	}
	if _, err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("rotation: open: %w", err)
	}
	return c, nil
}

func newCluster(cfg Config) (*Cluster, error) {
	if cfg.Keys == nil || cfg.Store == nil {
		return nil, errors.New("the configuration must name both Keys and Store")
	}
	if cfg.Algorithm == "" {
		cfg.Algorithm = keystore.P256
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rules == (verify.Rules{}) {
		cfg.Rules = verify.Rules{Node: fingerprint.Open, User: fingerprint.Open}
	}
	return &Cluster{cfg: cfg}, nil
}

// ID names the cluster.
func (c *Cluster) ID(ctx context.Context) (fingerprint.ClusterID, error) {
	held, err := c.load(ctx)
	if err != nil {
		return fingerprint.ClusterID{}, fmt.Errorf("rotation: %w", err)
	}
	return held.bundle.Cluster, nil
}

// Rollover asks for a new root with a key of the given algorithm. It returns when the request is committed: a CA
// daemon makes the key and drives the rollover. One that is asked for while another runs starts when that is settled;
// a third is refused with ErrPending. A rollover that cannot settle before a trusted root ends is refused with
// ErrTooLate.
func (c *Cluster) Rollover(ctx context.Context, a keystore.Algorithm) error {
	err := c.change(ctx, func(s *verify.Bundle, now time.Time) (*verify.Bundle, error) {
		return planned(s, a, now)
	})
	if err != nil {
		return fmt.Errorf("rotation: rollover: %w", err)
	}
	return nil
}

// Rollback turns a rollover around: the root that was being introduced leaves again by the ordinary steps. It is
// possible until the old root was dropped (ErrDropped), and once (ErrTurned); ErrIdle says that no rollover runs.
func (c *Cluster) Rollback(ctx context.Context) error {
	err := c.change(ctx, func(s *verify.Bundle, _ time.Time) (*verify.Bundle, error) { return rolledBack(s) })
	if err != nil {
		return fmt.Errorf("rotation: rollback: %w", err)
	}
	return nil
}

// Forward takes a rollback back that is still under way: the rollover begins again at trusting the new root. The errors
// are those of Rollback.
func (c *Cluster) Forward(ctx context.Context) error {
	err := c.change(ctx, func(s *verify.Bundle, _ time.Time) (*verify.Bundle, error) { return forwarded(s) })
	if err != nil {
		return fmt.Errorf("rotation: forward: %w", err)
	}
	return nil
}

// RequestRenewal asks members to replace their leaves now; none named means all. It returns how many were asked. The
// members renew when they next hear from a CA daemon, which is at once while they are connected.
func (c *Cluster) RequestRenewal(ctx context.Context, ids ...fingerprint.Identity) (int, error) {
	if len(ids) == 0 {
		members, err := c.members(ctx)
		if err != nil {
			return 0, fmt.Errorf("rotation: request renewal: %w", err)
		}
		for _, m := range members {
			if m.Revoked == nil {
				ids = append(ids, m.Identity)
			}
		}
	}
	for n, id := range ids {
		_, err := c.update(ctx, id, func(m Member) (Member, error) {
			m.Renew = []fingerprint.Certificate{m.Leaf}
			if m.Report != nil && m.Report.Leaf != m.Leaf {
				// The answer with the newer one was lost, or its report is on the way.
				m.Renew = append(m.Renew, m.Report.Leaf)
			}
			return m, nil
		})
		if err != nil {
			return n, fmt.Errorf("rotation: request renewal: %w", err)
		}
	}
	return len(ids), nil
}
