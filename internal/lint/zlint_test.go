package lint

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// rfcLints are zlint's lints of IETF standards. Those of the public web's rules are not for a cluster: they want other
// lifetimes, policies and public names.
func rfcLints(t *testing.T) lint.Registry {
	t.Helper()
	var sources lint.SourceList
	for _, source := range lint.GlobalRegistry().Sources() {
		if strings.HasPrefix(string(source), "RFC") {
			sources = append(sources, source)
		}
	}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: sources})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(registry.Names()); n < 100 {
		t.Fatalf("%d lints of %v: zlint gives its sources other names now", n, sources)
	}
	return registry
}

// findings are the errors, warnings and failures of zlint itself, sorted, and how many lints had something to look at.
func findings(t *testing.T, registry lint.Registry, der []byte) (found []string, looked int) {
	t.Helper()
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, result := range zlint.LintCertificateEx(c, registry).Results {
		switch result.Status {
		case lint.Warn, lint.Error, lint.Fatal:
			found = append(found, fmt.Sprintf("%s: %s %s", name, result.Status, result.Details))
		case lint.Pass, lint.Notice:
			looked++
		}
	}
	slices.Sort(found)
	return found, looked
}

// The judge itself: what crypto/x509 makes of a template that sets only what it must is not without findings.
func TestZLintFinds(t *testing.T) {
	key, err := keystore.NewMemory().Generate(context.Background(), "k", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a"}, NotBefore: time.Now(), NotAfter: time.Now()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := findings(t, rfcLints(t), der); len(found) < 2 {
		t.Errorf("findings in a bare certificate: %q", found)
	}
}

type maker struct {
	t       *testing.T
	keys    keystore.Keys
	cluster fingerprint.ClusterID
}

// key makes the key of a label, or finds it: RSA takes long.
func (m *maker) key(label string, a keystore.Algorithm) keystore.Signer {
	m.t.Helper()
	k, err := m.keys.Generate(context.Background(), label, a)
	if err != nil {
		m.t.Fatal(err)
	}
	return k
}

func (m *maker) root(generation int, a keystore.Algorithm, now time.Time) *ca.Authority {
	m.t.Helper()
	root, err := ca.CreateRoot(m.key(fmt.Sprintf("root-%d", generation), a), ca.RootRequest{Cluster: m.cluster, Generation: generation, Name: "Example & Co", Now: now})
	if err != nil {
		m.t.Fatal(err)
	}
	return root
}

func (m *maker) intermediate(root *ca.Authority, a keystore.Algorithm, now time.Time) *ca.Authority {
	m.t.Helper()
	key := m.key("intermediate", a)
	request, err := ca.NewIntermediateRequest(key, m.cluster)
	if err != nil {
		m.t.Fatal(err)
	}
	response, err := root.SignIntermediate(request, ca.IntermediateRequest{Now: now})
	if err != nil {
		m.t.Fatal(err)
	}
	intermediate, err := ca.AcceptIntermediate(response, key, root.Certificate(), now)
	if err != nil {
		m.t.Fatal(err)
	}
	return intermediate
}

// below makes one certificate of each kind of leaf.
func (m *maker) below(by *ca.Authority, a keystore.Algorithm, now time.Time) map[string]*x509.Certificate {
	m.t.Helper()
	made := make(map[string]*x509.Certificate)
	for _, role := range []fingerprint.Role{fingerprint.Control, fingerprint.Node, fingerprint.User} {
		r := ca.Request{Cluster: m.cluster, Identity: fingerprint.Identity{Domain: m.cluster.Domain, Role: role, ID: "octo_pus 1"}, PublicKey: m.key("leaf", a).Public(), Now: now}
		if role != fingerprint.User {
			r.Hosts = []string{"octopus.example", "a", "10.0.0.8", "2001:db8::1"}
		}
		leaf, err := by.Issue(r)
		if err != nil {
			m.t.Fatal(err)
		}
		made[string(role)] = leaf.Certificate
	}
	member := fingerprint.Identity{Domain: m.cluster.Domain, Role: fingerprint.Control, ID: "ca-1"}
	document, err := by.IssueDocumentSigner(ca.DocumentRequest{Cluster: m.cluster, Member: member, PublicKey: m.key("leaf", a).Public(), Now: now})
	if err != nil {
		m.t.Fatal(err)
	}
	made["document signer"] = document.Certificate
	return made
}

// A18, A10, B8: zlint finds no error and nothing to warn of in any certificate that we make, of any algorithm, before
// and after the year in which the form of dates changes.
func TestZLint(t *testing.T) {
	registry := rfcLints(t)
	for _, a := range []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA3072, keystore.RSA2048} {
		t.Run(string(a), func(t *testing.T) {
			cluster, err := fingerprint.NewCluster("prod.example")
			if err != nil {
				t.Fatal(err)
			}
			m := &maker{t: t, keys: keystore.NewMemory(), cluster: cluster}
			for _, now := range []time.Time{time.Now(), time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)} {
				root, next := m.root(1, a, now), m.root(2, a, now)
				bridge, err := root.Bridge(next.Certificate())
				if err != nil {
					t.Fatal(err)
				}
				intermediate := m.intermediate(root, a, now)
				all := m.below(root, a, now)
				for name, c := range m.below(intermediate, a, now) {
					all[name+" of the intermediate"] = c
				}
				all["root"], all["next root"], all["bridge"], all["intermediate"] = root.Certificate(), next.Certificate(), bridge, intermediate.Certificate()
				for name, c := range all {
					found, looked := findings(t, registry, c.Raw)
					if len(found) > 0 {
						t.Errorf("%s:\n%s\n%s", name, strings.Join(found, "\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
					}
					if looked < 40 {
						t.Errorf("%s: only %d lints had anything to look at", name, looked)
					}
				}
			}
		})
	}
}
