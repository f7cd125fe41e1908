package verify_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// A28, A127-A129: roles, directions and expectations.
func TestExpectations(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	leaf := func(role fingerprint.Role, name string, key crypto.Signer) []*x509.Certificate {
		return []*x509.Certificate{w.issue(1, w.member(role, name), key, w.now)}
	}
	nodeA := leaf(fingerprint.Node, "a", newKey(t, keystore.P256))
	user := leaf(fingerprint.User, "anna", newKey(t, keystore.P256))
	control := leaf(fingerprint.Control, "ca-1", w.control)
	impostor := leaf(fingerprint.Control, "ca-1", newKey(t, keystore.P256))
	stranger := leaf(fingerprint.Control, "ca-2", newKey(t, keystore.P256))
	for _, test := range []struct {
		name   string
		chain  []*x509.Certificate
		side   verify.Side
		expect verify.Expect
		want   verify.Reason
	}{
		{"node as node", nodeA, verify.Server, verify.AnyOf(fingerprint.Node), "accepted"},
		{"that node", nodeA, verify.Server, verify.Member(w.member(fingerprint.Node, "a")), "accepted"},
		{"another node", nodeA, verify.Server, verify.Member(w.member(fingerprint.Node, "b")), verify.WrongMember},
		{"node where control is expected", nodeA, verify.Server, verify.AnyOf(fingerprint.Control), verify.WrongRole},
		{"node of the same id where control is expected", nodeA, verify.Server, verify.Member(w.member(fingerprint.Control, "a")), verify.WrongRole},
		{"its host name", nodeA, verify.Server, verify.Host(fingerprint.Node, "a.example"), "accepted"},
		{"its address", nodeA, verify.Server, verify.Host(fingerprint.Node, "127.0.0.1"), "accepted"},
		{"another host name", nodeA, verify.Server, verify.Host(fingerprint.Node, "b.example"), verify.WrongHost},
		{"another address", nodeA, verify.Server, verify.Host(fingerprint.Node, "127.0.0.2"), verify.WrongHost},
		{"nobody is expected", nodeA, verify.Server, verify.Expect{}, verify.WrongRole},
		{"user as user", user, verify.Client, verify.AnyOf(fingerprint.User), "accepted"},
		{"user as node", user, verify.Client, verify.AnyOf(fingerprint.Node), verify.WrongRole},
		{"user serving", user, verify.Server, verify.AnyOf(fingerprint.User, fingerprint.Node), verify.WrongUsage},
		{"control as control", control, verify.Server, verify.AnyOf(fingerprint.Control), "accepted"},
		{"control with an unlisted key", impostor, verify.Server, verify.AnyOf(fingerprint.Control), verify.KeyNotRegistered},
		{"control that the state does not name", stranger, verify.Server, verify.AnyOf(fingerprint.Control), verify.NotInRegistry},
		{"a document signer", []*x509.Certificate{mustParse(t, w.documentCertificate(1, w.document))}, verify.Client, verify.AnyOf(fingerprint.Control), verify.MalformedLeaf},
		{"a leaf with the document signer's key", leaf(fingerprint.Node, "a", w.document), verify.Client, verify.AnyOf(fingerprint.Node), verify.KeyOfAnother},
		{"a root", []*x509.Certificate{w.roots[0].Certificate()}, verify.Client, verify.AnyOf(fingerprint.Node), verify.MalformedLeaf},
		{"nothing", nil, verify.Client, verify.AnyOf(fingerprint.Node), verify.NoCertificate},
		{"six certificates", append(nodeA[:1:1], user[0], user[0], user[0], user[0], user[0]), verify.Client, verify.AnyOf(fingerprint.Node), verify.TooManyCerts},
	} {
		for _, again := range []string{"", ", again"} {
			_, err := v.Peer(test.chain, test.side, test.expect, w.now)
			if got := reason(err); got != test.want {
				t.Errorf("%s%s: %v, want %s", test.name, again, err, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), string(test.want)) || !strings.Contains(err.Error(), string(test.side))) {
				t.Errorf("%s: %q names neither reason nor side", test.name, err)
			}
		}
	}
}

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What was accepted is remembered, but not past its dates, and not for another expectation or side.
func TestRemembered(t *testing.T) {
	w := newWorld(t, 1)
	v := w.verifier(w.bundle(1), nil)
	chain := []*x509.Certificate{w.issue(1, w.member(fingerprint.User, "anna"), newKey(t, keystore.P256), w.now)}
	for _, test := range []struct {
		side   verify.Side
		expect verify.Expect
		now    time.Time
		want   verify.Reason
	}{
		{verify.Client, verify.AnyOf(fingerprint.User), w.now, "accepted"},
		{verify.Client, verify.AnyOf(fingerprint.User), w.now.Add(2 * time.Hour), verify.Expired},
		{verify.Client, verify.AnyOf(fingerprint.User), w.now.Add(-time.Hour), verify.NotYetValid},
		{verify.Client, verify.AnyOf(fingerprint.Node), w.now, verify.WrongRole},
		{verify.Server, verify.AnyOf(fingerprint.User), w.now, verify.WrongUsage},
		{verify.Client, verify.AnyOf(fingerprint.User), w.now, "accepted"},
	} {
		if _, err := v.Peer(chain, test.side, test.expect, test.now); reason(err) != test.want {
			t.Errorf("%s at %v: %v, want %s", test.side, test.now, err, test.want)
		}
	}
}

// I4, A5: a leaf of a stolen, retired root is refused whatever public certificate is presented with it: bridges in both
// directions, each root, alone and all together. openssl with the present bundle refuses it too. In phase switch, the
// same leaf is good, and so is a leaf of the new root for a peer that only knows the old one.
func TestStolenRetiredRoot(t *testing.T) {
	w := newWorld(t, 3)
	stolen := w.issue(1, w.member(fingerprint.Node, "thief"), newKey(t, keystore.P256), w.now)
	// Every cross certificate there ever was or could have been: also old-with-new, which we never make.
	public := append([]*x509.Certificate{}, w.bridges...)
	for _, pair := range [][2]int{{1, 0}, {2, 0}, {2, 1}, {0, 2}} {
		bridge, err := w.roots[pair[0]].Bridge(w.roots[pair[1]].Certificate())
		if err != nil {
			t.Fatal(err)
		}
		public = append(public, bridge)
	}
	for _, r := range w.roots {
		public = append(public, r.Certificate())
	}
	v := w.verifier(w.bundle(3), nil)
	chains := [][]*x509.Certificate{{stolen}}
	for i := range public {
		chains = append(chains, []*x509.Certificate{stolen, public[i]})
		for j := range public {
			chains = append(chains, []*x509.Certificate{stolen, public[i], public[j]})
		}
	}
	for _, chain := range chains {
		for _, side := range []verify.Side{verify.Client, verify.Server} {
			if _, err := v.Peer(chain, side, verify.AnyOf(fingerprint.Node), w.now); reason(err) != verify.RetiredIssuer {
				t.Errorf("with %d more certificates: %v", len(chain)-1, err)
			}
		}
	}
	// openssl knows nothing of retired keys: for it, only what we ever published counts. That is new-with-old alone.
	openssl(t, false, []*x509.Certificate{w.roots[2].Certificate()}, w.bridges, stolen)
	openssl(t, true, []*x509.Certificate{w.roots[0].Certificate()}, nil, stolen)

	during := w.verifier(w.bundle(1, 2), nil)
	if _, err := during.Peer([]*x509.Certificate{stolen}, verify.Client, verify.AnyOf(fingerprint.Node), w.now); err != nil {
		t.Errorf("during the switch: %v", err)
	}
	fresh := w.issue(2, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)
	behind := w.verifier(w.bundle(1), nil)
	if p, err := behind.Peer([]*x509.Certificate{fresh, w.bridges[0]}, verify.Server, verify.AnyOf(fingerprint.Node), w.now); err != nil || p.Issuer != w.roots[0].Key() {
		t.Errorf("over the bridge: %v", err)
	}
	if _, err := behind.Peer([]*x509.Certificate{fresh}, verify.Server, verify.AnyOf(fingerprint.Node), w.now); reason(err) != verify.UnknownIssuer {
		t.Errorf("without the bridge: %v", err)
	}
}

// openssl is asked in a test of its own, which is counted as skipped where openssl is missing.
func openssl(t *testing.T, good bool, roots, between []*x509.Certificate, leaf *x509.Certificate) {
	t.Run("openssl", func(t *testing.T) {
		askOpenSSL(t, outside.Program(t, "openssl"), good, roots, between, leaf)
	})
}

func askOpenSSL(t *testing.T, path string, good bool, roots, between []*x509.Certificate, leaf *x509.Certificate) {
	t.Helper()
	write := func(certificates ...*x509.Certificate) string {
		name := fmt.Sprintf("%s/%d.pem", t.TempDir(), len(certificates))
		var data []byte
		for _, c := range certificates {
			data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	args := []string{"verify", "-x509_strict", "-CAfile", write(roots...)}
	if len(between) > 0 {
		args = append(args, "-untrusted", write(between...))
	}
	out, err := exec.Command(path, append(args, write(leaf))...).CombinedOutput()
	if (err == nil) != good {
		t.Errorf("openssl: %v, want good %t\n%s", err, good, out)
	}
}

// B26, B28, B38: a canary is judged as a node's leaf but for the registry; its own end does not matter, its issuer does.
func TestCanary(t *testing.T) {
	w := newWorld(t, 2)
	b := w.bundle(1, 2).Clone()
	b.Rules.Node = fingerprint.Listed
	b = w.parsed(b)
	v := w.verifier(b, nil)
	for _, root := range b.Roots {
		for _, now := range []time.Time{w.now, w.now.Add(48 * time.Hour)} {
			if err := v.Canary(root, now); err != nil {
				t.Errorf("g%d: %v", root.Generation, err)
			}
		}
	}
	swapped := b.Roots[0]
	swapped.Canary = b.Roots[1].Canary
	if v.Canary(swapped, w.now) == nil {
		t.Error("the canary of another root proves a root")
	}
	control := b.Roots[0]
	control.Canary = w.issue(1, w.member(fingerprint.Control, "canary"), newKey(t, keystore.P256), w.now).Raw
	if v.Canary(control, w.now) == nil {
		t.Error("a control member's leaf passes for a canary")
	}
	if w.verifier(w.bundle(1), nil).Canary(b.Roots[1], w.now) == nil {
		t.Error("a root that is not trusted is proven")
	}
}
