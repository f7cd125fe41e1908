package verify_test

import (
	"crypto"
	"crypto/x509"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

var (
	roles = []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User}
	pins  = []string{"current", "next", "absent", "another's", "other", "revoked"}
)

// A28, A60, A69, A75, A109, A111, A128, B70-B72, B75, B79: what is decided in each cell of CA × role × key × time ×
// direction × rule. A name is the key's: "other" is a listed member that serves a key which stands nowhere.
func TestMatrix(t *testing.T) {
	m := newMatrix(t)
	cells := 0
	for issuer := range m.issuers {
		for _, role := range roles {
			for _, pin := range pins {
				leaf := m.leaf(issuer, role, pin)
				for when, now := range map[string]time.Time{"before": leaf.NotBefore.Add(-time.Second), "valid": m.now, "after": leaf.NotAfter.Add(time.Second)} {
					for _, side := range []verify.Side{verify.Client, verify.Server} {
						for rule, v := range m.verifiers {
							cells++
							_, err := v.Peer([]*x509.Certificate{leaf}, side, verify.AnyOf(role), now)
							if got, want := reason(err), expected(issuer, role, pin, when, side, rule); got != want {
								t.Errorf("%s CA, %s, %s key, %s, as %s, %s: %s, want %s (%v)", issuer, role, pin, when, side, rule, got, want, err)
							}
						}
					}
				}
			}
		}
	}
	if want := 4 * 3 * 6 * 3 * 2 * 2; cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// expected is the first objection in the order cluster, usage, dates, issuer, registry.
func expected(issuer string, role fingerprint.Role, pin, when string, side verify.Side, rule fingerprint.Rule) verify.Reason {
	open := rule == fingerprint.Open && role != fingerprint.Control
	switch {
	case issuer == "another cluster's":
		return verify.WrongCluster
	case role == fingerprint.User && side == verify.Server:
		return verify.WrongUsage
	case when == "before":
		return verify.NotYetValid
	case when == "after":
		return verify.Expired
	case issuer == "retired":
		return verify.RetiredIssuer
	case issuer == "a stranger's":
		return verify.UnknownIssuer
	case pin == "revoked":
		return verify.MemberRevoked
	case pin == "another's":
		return verify.KeyOfAnother
	case pin == "absent" && !open:
		return verify.NotInRegistry
	case pin == "other" && !open:
		return verify.KeyNotRegistered
	}
	return "accepted"
}

type matrix struct {
	*world
	twin      *world
	issuers   map[string]*ca.Authority
	keys      map[fingerprint.Identity]keystore.Signer
	verifiers map[fingerprint.Rule]*verify.Verifier
}

func newMatrix(t *testing.T) *matrix {
	m := &matrix{world: newWorld(t, 2), twin: newWorld(t, 1), keys: make(map[fingerprint.Identity]keystore.Signer),
		verifiers: make(map[fingerprint.Rule]*verify.Verifier)}
	stranger, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: m.id, Generation: 2, Now: m.now.Add(-2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	m.issuers = map[string]*ca.Authority{"the cluster's": m.roots[1], "retired": m.roots[0], "another cluster's": m.twin.roots[0], "a stranger's": stranger}
	var entries []fingerprint.Entry
	var controls []verify.Controller
	for _, role := range roles {
		listed := m.list(role)
		entries = append(entries, listed...)
		for _, e := range listed {
			if document := newKey(t, keystore.P256); role == fingerprint.Control {
				controls = append(controls, verify.Controller{Member: e.Member, Current: e.Current, Next: e.Next,
					Document: keyOf(t, document), Documents: [][]byte{m.documentCertificate(2, document)}})
			}
		}
	}
	registry, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []fingerprint.Rule{fingerprint.Open, fingerprint.Listed} {
		b := m.bundle(2).Clone()
		b.Control = append(b.Control, controls...)
		b.Rules = verify.Rules{Node: rule, User: rule}
		m.verifiers[rule] = m.verifier(m.parsed(b), registry)
	}
	return m
}

// list makes a role's members, with the keys that they serve, and their entries, with the keys that they should.
func (m *matrix) list(role fingerprint.Role) []fingerprint.Entry {
	fresh := func() keystore.Signer { return newKey(m.t, keystore.P256) }
	for _, pin := range pins {
		m.keys[m.member(role, pin)] = fresh()
	}
	m.keys[m.member(role, "another's")] = m.keys[m.member(role, "current")]
	served := func(pin string) fingerprint.Key { return keyOf(m.t, m.keys[m.member(role, pin)]) }
	return []fingerprint.Entry{
		{Member: m.member(role, "current"), Current: served("current")},
		{Member: m.member(role, "next"), Current: keyOf(m.t, fresh()), Next: served("next")},
		{Member: m.member(role, "another's"), Current: keyOf(m.t, fresh())},
		{Member: m.member(role, "other"), Current: keyOf(m.t, fresh())},
		{Member: m.member(role, "revoked"), Current: served("revoked"), Revoked: true},
	}
}

func (m *matrix) leaf(issuer string, role fingerprint.Role, pin string) *x509.Certificate {
	m.t.Helper()
	id, cluster := m.member(role, pin), m.id
	if issuer == "another cluster's" {
		cluster = m.twin.id
	}
	var key crypto.Signer = m.keys[id]
	leaf, err := m.issuers[issuer].Issue(ca.Request{Cluster: cluster, Identity: id, PublicKey: key.Public(), Lifetime: time.Hour, Now: m.now})
	if err != nil {
		m.t.Fatal(err)
	}
	return leaf.Certificate
}
