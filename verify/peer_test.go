package verify_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

var anyone = verify.AnyOf(fingerprint.Control, fingerprint.Node, fingerprint.User)

// The matrix (A69, A75, A111, A127, A128, B71, B75): who issued × role × time × what the registry says of the key ×
// part × rule. The expected reason is written down as an operator would say it, first objection first.
func TestMatrix(t *testing.T) {
	m := newMatrix()
	cells := 0
	for issuer := range m.issuers {
		for _, role := range []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User} {
			for _, entry := range []string{"current", "next", "absent", "anothers", "revoked"} {
				leaf := m.leaf(issuer, role, entry)
				for _, when := range []string{"before", "valid", "after"} {
					for _, side := range []verify.Side{verify.Client, verify.Server} {
						for rule, verifier := range m.verifiers {
							cells++
							_, err := verifier.Peer([]*x509.Certificate{leaf}, side, anyone, at(leaf, when))
							if got, want := reasonOf(err), expected(issuer, role, entry, when, side, rule); got != want {
								t.Errorf("issuer %s, %s, key %s, %s, as %s, rule %s: %q, want %q (%v)", issuer, role, entry, when, side, rule, got, want, err)
							}
						}
					}
				}
			}
		}
	}
	if cells != 4*3*5*3*2*2 {
		t.Errorf("%d cells", cells)
	}
}

func expected(issuer string, role fingerprint.Role, entry, when string, side verify.Side, rule fingerprint.Rule) verify.Reason {
	open := rule == fingerprint.Open && role != fingerprint.Control
	switch {
	case issuer == "other cluster of that name":
		return verify.WrongCluster
	case role == fingerprint.User && side == verify.Server:
		return verify.WrongUsage
	case when == "before":
		return verify.NotYetValid
	case when == "after":
		return verify.Expired
	case issuer == "retired":
		return verify.RetiredIssuer
	case issuer == "stranger of that UUID":
		return verify.UnknownIssuer
	case entry == "revoked":
		return verify.MemberRevoked
	case entry == "anothers":
		return verify.KeyOfAnother
	case entry == "absent" && !open:
		return verify.NotInRegistry
	}
	return ""
}

func at(leaf *x509.Certificate, when string) time.Time {
	switch when {
	case "before":
		return leaf.NotBefore.Add(-time.Second)
	case "after":
		return leaf.NotAfter.Add(time.Second)
	}
	return noon
}

type matrix struct {
	*world
	issuers   map[string]*ca.Authority
	clusters  map[string]fingerprint.ClusterID
	members   map[string]fingerprint.Identity
	keys      map[string]crypto.Signer
	verifiers map[fingerprint.Rule]*verify.Verifier
}

func newMatrix() *matrix {
	w := newWorld("prod.example")
	w.rollover()
	twin := newWorld("prod.example")
	stranger := must(ca.CreateRoot(newKey(), ca.RootRequest{Cluster: w.id, Generation: 2, Now: noon.Add(-2 * day)}))
	m := &matrix{world: w,
		issuers: map[string]*ca.Authority{
			"same": w.roots[1], "retired": w.roots[0], "other cluster of that name": twin.roots[0], "stranger of that UUID": stranger,
		},
		clusters: map[string]fingerprint.ClusterID{"other cluster of that name": twin.id},
		members:  make(map[string]fingerprint.Identity), keys: make(map[string]crypto.Signer),
		verifiers: make(map[fingerprint.Rule]*verify.Verifier),
	}
	var entries []fingerprint.Entry
	var controls []verify.Controller
	for _, role := range []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User} {
		for _, entry := range []string{"current", "next", "absent", "anothers", "revoked"} {
			name := string(role) + " " + entry
			m.members[name], m.keys[name] = must(w.id.Member(role, entry)), newKey()
		}
		// Whoever is "anothers" is a listed member itself, and holds the key of "current".
		m.keys[string(role)+" anothers"] = m.keys[string(role)+" current"]
		mine, c := m.list(role)
		entries, controls = append(entries, mine...), append(controls, c...)
	}
	registry := must(fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 7}, entries))
	for _, rule := range []fingerprint.Rule{fingerprint.Open, fingerprint.Listed} {
		b := w.commit(func(b *verify.Bundle) {
			b.Control = append(b.Control[:1:1], controls...)
			b.Rules = verify.Rules{Node: rule, User: rule}
		})
		m.verifiers[rule] = must(verify.NewVerifier(b, registry))
	}
	return m
}

func (m *matrix) list(role fingerprint.Role) (entries []fingerprint.Entry, controls []verify.Controller) {
	name := func(entry string) string { return string(role) + " " + entry }
	for _, e := range []fingerprint.Entry{
		{Member: m.members[name("current")], Current: keyOf(m.keys[name("current")])},
		{Member: m.members[name("next")], Current: keyOf(newKey()), Next: keyOf(m.keys[name("next")])},
		{Member: m.members[name("anothers")], Current: keyOf(newKey())},
		{Member: m.members[name("revoked")], Current: keyOf(m.keys[name("revoked")]), Revoked: true},
	} {
		entries = append(entries, e)
		if role == fingerprint.Control {
			c := m.controller(e.Member, m.tls, newKey(), 2)
			c.Current, c.Next = e.Current, e.Next
			controls = append(controls, c)
		}
	}
	return entries, controls
}

func (m *matrix) leaf(issuer string, role fingerprint.Role, entry string) *x509.Certificate {
	name := string(role) + " " + entry
	cluster, ok := m.clusters[issuer]
	if !ok {
		cluster = m.id
	}
	return must(m.issuers[issuer].Issue(ca.Request{Cluster: cluster, Identity: m.members[name], PublicKey: m.keys[name].Public(), Now: noon})).Certificate
}

// A69: an entry counts for that very member. A key that is not the listed one is refused where keys are listed.
func TestListedKeyIsPinned(t *testing.T) {
	w := newWorld("prod.example")
	id := w.node("n1")
	registry := must(fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, []fingerprint.Entry{{Member: id, Current: keyOf(newKey())}}))
	leaf := []*x509.Certificate{w.leaf(w.roots[0], id, newKey())}
	if _, err := must(verify.NewVerifier(w.state, registry)).Peer(leaf, verify.Client, anyone, noon); err != nil {
		t.Errorf("open: %v", err)
	}
	_, err := must(verify.NewVerifier(w.commit(listed), registry)).Peer(leaf, verify.Client, anyone, noon)
	if reasonOf(err) != verify.KeyNotRegistered {
		t.Errorf("listed: %v", err)
	}
}

// A75: without a registry whoever must be listed is refused; nothing is switched off by its absence.
func TestNoRegistryIsAnEmptyOne(t *testing.T) {
	w := newWorld("prod.example")
	v := must(verify.NewVerifier(w.commit(listed), nil))
	_, err := v.Peer([]*x509.Certificate{w.leaf(w.roots[0], w.node("n1"), newKey())}, verify.Client, anyone, noon)
	if reasonOf(err) != verify.NotInRegistry {
		t.Error(err)
	}
	// A control member is listed by the state itself.
	if _, err := v.Peer([]*x509.Certificate{w.leaf(w.roots[0], w.control, w.tls)}, verify.Server, anyone, noon); err != nil {
		t.Error(err)
	}
	_, err = v.Peer([]*x509.Certificate{w.leaf(w.roots[0], w.control, newKey())}, verify.Server, anyone, noon)
	if reasonOf(err) != verify.KeyNotRegistered {
		t.Errorf("control member with another key: %v", err)
	}
}

// A129: a peer that is fine, but not the one that was meant.
func TestExpectation(t *testing.T) {
	w := newWorld("prod.example")
	v := must(verify.NewVerifier(w.state, nil))
	leaf := []*x509.Certificate{w.leaf(w.roots[0], w.node("n1"), newKey(), "n1.prod.example", "192.0.2.1", "2001:db8::1")}
	for _, row := range []struct {
		name   string
		expect verify.Expect
		want   verify.Reason
	}{
		{"this member", verify.Member(w.node("n1")), ""},
		{"another member", verify.Member(w.node("n2")), verify.WrongMember},
		{"a control member of that id", verify.Member(fingerprint.Identity{Domain: w.id.Domain, Role: fingerprint.Control, ID: "n1"}), verify.WrongRole},
		{"nobody", verify.Expect{}, verify.WrongRole},
		{"nobody in particular", verify.Member(fingerprint.Identity{}), verify.WrongRole},
		{"no role at all", verify.AnyOf(), verify.WrongRole},
		{"any node", verify.AnyOf(fingerprint.Node), ""},
		{"any control member", verify.AnyOf(fingerprint.Control), verify.WrongRole},
		{"its DNS name", verify.Host(fingerprint.Node, "n1.prod.example"), ""},
		{"its IP address", verify.Host(fingerprint.Node, "192.0.2.1"), ""},
		{"its IPv6 address", verify.Host(fingerprint.Node, "2001:db8::1"), ""},
		{"another DNS name", verify.Host(fingerprint.Node, "n2.prod.example"), verify.WrongHost},
		{"another IP address", verify.Host(fingerprint.Node, "192.0.2.2"), verify.WrongHost},
		{"no host name: not every host's", verify.Host(fingerprint.Node, ""), verify.WrongHost},
		{"its id as a host name", verify.Host(fingerprint.Node, "n1"), verify.WrongHost},
		{"its DNS name in another role", verify.Host(fingerprint.Control, "n1.prod.example"), verify.WrongRole},
	} {
		t.Run(row.name, func(t *testing.T) {
			// Twice: the second time the peer is remembered, and the expectation asked all the same.
			for range 2 {
				if _, err := v.Peer(leaf, verify.Server, row.expect, noon); reasonOf(err) != row.want {
					t.Errorf("%v, want %q", err, row.want)
				}
			}
		})
	}
}

// forged is a leaf that package ca would not issue: the CA's key signs what edit makes of a good template.
func (w *world) forged(generation int, edit func(*x509.Certificate)) *x509.Certificate {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "n1", SerialNumber: w.id.UUID},
		NotBefore: noon.Add(-minute), NotAfter: noon.Add(day), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{must(url.Parse(w.node("n1").String()))}, PublicKey: key.Public(),
	}
	edit(template)
	der := must(x509.CreateCertificate(rand.Reader, template, w.roots[generation-1].Certificate(), template.PublicKey, w.keys[generation-1]))
	return must(x509.ParseCertificate(der))
}

// A111, A128: what crypto/tls does not look at once it is told not to verify, and x509.Verify lets through. Every leaf
// here is well signed by the trusted root.
func TestWellSignedButWrong(t *testing.T) {
	w := newWorld("prod.example")
	v := must(verify.NewVerifier(w.state, nil))
	uri := func(s string) *url.URL { return must(url.Parse(s)) }
	for _, row := range []struct {
		name string
		edit func(*x509.Certificate)
		want verify.Reason
	}{
		{"nothing wrong", func(*x509.Certificate) {}, ""},
		{"a CA", func(c *x509.Certificate) { c.IsCA = true }, verify.MalformedLeaf},
		{"may sign certificates", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, verify.MalformedLeaf},
		{"may sign CRLs", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }, verify.MalformedLeaf},
		{"may not sign handshakes", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, verify.MalformedLeaf},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, verify.MalformedLeaf},
		{"no extended key usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, verify.WrongUsage},
		{"any extended key usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, verify.WrongUsage},
		{"client only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }, verify.WrongUsage},
		{"two identities", func(c *x509.Certificate) { c.URIs = append(c.URIs, uri(w.control.String())) }, verify.MalformedLeaf},
		{"an identity and a web page", func(c *x509.Certificate) { c.URIs = append(c.URIs, uri("https://prod.example/")) }, verify.MalformedLeaf},
		{"no identity", func(c *x509.Certificate) { c.URIs = nil }, verify.MalformedLeaf},
		{"identity spelled otherwise", func(c *x509.Certificate) { c.URIs[0] = uri("spiffe://prod.example/node/n_31") }, verify.MalformedLeaf},
		{"identity with a query", func(c *x509.Certificate) { c.URIs[0].RawQuery = "a" }, verify.MalformedLeaf},
		{"identity in the common name only", func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, w.node("n1").String() }, verify.MalformedLeaf},
		{"another cluster's UUID", func(c *x509.Certificate) { c.Subject.SerialNumber = fingerprint.NewUUID() }, verify.WrongCluster},
		{"no UUID", func(c *x509.Certificate) { c.Subject.SerialNumber = "" }, verify.WrongCluster},
		{"another trust domain", func(c *x509.Certificate) { c.URIs[0] = uri("spiffe://test.example/node/n1") }, verify.WrongCluster},
		{"a trust domain below ours", func(c *x509.Certificate) { c.URIs[0] = uri("spiffe://a.prod.example/node/n1") }, verify.WrongCluster},
		{"a user that may serve", func(c *x509.Certificate) { c.URIs[0] = uri("spiffe://prod.example/user/eve") }, verify.WrongUsage},
		{"the root's own key", func(c *x509.Certificate) { c.PublicKey = w.keys[0].Public() }, verify.KeyOfAnother},
		{"a document signer's key", func(c *x509.Certificate) { c.PublicKey = w.document.Public() }, verify.KeyOfAnother},
		{"a control member's key", func(c *x509.Certificate) { c.PublicKey = w.tls.Public() }, verify.KeyOfAnother},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}
		}, verify.UnknownIssuer},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := v.Peer([]*x509.Certificate{w.forged(1, row.edit)}, verify.Server, anyone, noon)
			if reasonOf(err) != row.want {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

func TestCountIsBounded(t *testing.T) {
	w := newWorld("prod.example")
	v := must(verify.NewVerifier(w.state, nil))
	if _, err := v.Peer(nil, verify.Client, anyone, noon); reasonOf(err) != verify.NoCertificate {
		t.Error(err)
	}
	chain := []*x509.Certificate{w.leaf(w.roots[0], w.node("n1"), newKey())}
	for range 4 {
		chain = append(chain, w.roots[0].Certificate())
		if _, err := v.Peer(chain, verify.Client, anyone, noon); err != nil {
			t.Errorf("%d certificates: %v", len(chain), err)
		}
	}
	chain = append(chain, w.roots[0].Certificate())
	if _, err := v.Peer(chain, verify.Client, anyone, noon); reasonOf(err) != verify.TooManyCerts {
		t.Error(err)
	}
	if _, err := v.Self(chain, noon); reasonOf(err) != verify.TooManyCerts {
		t.Error(err)
	}
}

// intermediate is a CA below a root.
func (w *world) intermediate(generation int, key crypto.Signer, edit func(*x509.Certificate)) *x509.Certificate {
	return w.forged(generation, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.URIs = true, x509.KeyUsageCertSign, nil, nil
		c.MaxPathLenZero, c.PublicKey, c.Subject.CommonName = true, key.Public(), "intermediate"
		edit(c)
	})
}

// B79, B80: links between leaf and root are judged too, and the refusal says which.
func TestIntermediates(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*x509.Certificate)
		want verify.Reason
	}{
		{"a good one", func(*x509.Certificate) {}, ""},
		{"for servers only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, verify.WrongUsage},
		{"for clients only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, ""},
		{"for documents only", func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, ca.DocumentSigning)
		}, verify.WrongUsage},
		{"expired", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-day), noon.Add(-minute) }, verify.Expired},
		{"not yet valid", func(c *x509.Certificate) { c.NotBefore = noon.Add(minute) }, verify.NotYetValid},
		{"not a CA", func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }, verify.UnknownIssuer},
		{"with the leaf's key", func(c *x509.Certificate) { c.PublicKey = shared.Public() }, verify.KeyOfAnother},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld("prod.example")
			key := newKey()
			link := w.intermediate(1, key, row.edit)
			if ca.KeyOf(link) == keyOf(shared) {
				key = shared
			}
			template := &x509.Certificate{
				SerialNumber: big.NewInt(7), Subject: pkix.Name{SerialNumber: w.id.UUID}, NotBefore: noon.Add(-minute), NotAfter: noon.Add(time.Hour),
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
				URIs: []*url.URL{must(url.Parse(w.node("n1").String()))}, AuthorityKeyId: link.SubjectKeyId,
			}
			leaf := parsed(must(x509.CreateCertificate(rand.Reader, template, link, shared.Public(), key)))
			peer, err := must(verify.NewVerifier(w.state, nil)).Peer(append(leaf, link), verify.Client, anyone, noon)
			if reasonOf(err) != row.want {
				t.Fatalf("%v, want %q", err, row.want)
			}
			if err == nil && (peer.Issuer != w.roots[0].Key() || !peer.NotAfter.Equal(leaf[0].NotAfter)) {
				t.Errorf("peer %+v", peer)
			}
		})
	}
}

var shared = newKey()

// A weak key of a CA or a leaf is refused, however well it is signed.
func TestWeakKeys(t *testing.T) {
	w := newWorld("prod.example")
	leaf := w.forged(1, func(c *x509.Certificate) { c.PublicKey = p224().Public() })
	_, err := must(verify.NewVerifier(w.state, nil)).Peer([]*x509.Certificate{leaf}, verify.Client, anyone, noon)
	if reasonOf(err) != verify.WeakKey {
		t.Error(err)
	}
}

// B80: one line that names the side, the certificate, the field, both values and what to do.
func TestRefusalIsReadable(t *testing.T) {
	w := newWorld("prod.example")
	v := must(verify.NewVerifier(w.state, nil))
	leaf := w.forged(1, func(c *x509.Certificate) { c.Subject.SerialNumber = "evil\nlog line" + strings.Repeat("!", 200) })
	_, err := v.Peer([]*x509.Certificate{leaf}, verify.Server, anyone, noon)
	line := fmt.Sprint(err)
	for _, part := range []string{"server", "spiffe://prod.example/node/n1", "wrong-cluster", "leaf", "subject serialNumber", w.id.UUID, "address"} {
		if !strings.Contains(line, part) {
			t.Errorf("%q does not say %q", line, part)
		}
	}
	if strings.Contains(line, "\n") || len(line) > 600 {
		t.Errorf("a stranger writes our log: %q", line)
	}
}

func TestTrustReasons(t *testing.T) {
	// A131: what stops a rollover is what the CA's own steps could have caused.
	for reason, want := range map[verify.Reason]bool{
		verify.UnknownIssuer: true, verify.RetiredIssuer: true, verify.NotInRegistry: true, verify.KeyNotRegistered: true, verify.KeyOfAnother: true,
		verify.WrongMember: false, verify.WrongRole: false, verify.WrongCluster: false, verify.WrongHost: false, verify.Expired: false, verify.MemberRevoked: false,
	} {
		if reason.Trust() != want {
			t.Errorf("%s: %v", reason, reason.Trust())
		}
	}
}
