package live_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// world is a CA with two roots and a key for each member.
type world struct {
	t     testing.TB
	id    fingerprint.ClusterID
	keys  *keystore.Memory
	roots []*ca.Authority
}

func newWorld(t testing.TB) *world {
	t.Helper()
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, id: id, keys: keystore.NewMemory()}
	w.newRoot()
	w.newRoot()
	return w
}

func (w *world) newRoot() {
	w.t.Helper()
	n := len(w.roots) + 1
	root, err := ca.CreateRoot(w.key("root-"+string(rune('0'+n))), ca.RootRequest{Cluster: w.id, Generation: n})
	if err != nil {
		w.t.Fatal(err)
	}
	w.roots = append(w.roots, root)
}

func (w *world) key(label string) keystore.Signer {
	w.t.Helper()
	k, err := w.keys.Generate(context.Background(), label, keystore.P256)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) member(role fingerprint.Role, name string) fingerprint.Identity {
	w.t.Helper()
	id, err := w.id.Member(role, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// state makes the trust state of an epoch in which the given roots are trusted and the last of them signs.
func (w *world) state(epoch uint64, generations ...int) *verify.Bundle {
	w.t.Helper()
	document, control := w.key("document"), w.key("control-ca-1")
	now := time.Now().UTC().Truncate(time.Second)
	b := &verify.Bundle{
		Cluster: w.id, Version: fingerprint.Version{Term: 1, Number: epoch}, Phase: verify.Settled,
		Signer: generations[len(generations)-1], Generations: len(w.roots), Issued: now, FreshUntil: now.Add(time.Hour),
		Rules:   verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
		Control: []verify.Controller{{Member: w.member(fingerprint.Control, "ca-1"), Current: keyOf(w.t, control), Document: keyOf(w.t, document)}},
	}
	for _, g := range generations {
		root := w.roots[g-1]
		r := verify.Root{Generation: g, Key: root.Key(), Certificate: root.Certificate().Raw}
		if g > 1 {
			bridge, err := w.roots[g-2].Bridge(root.Certificate())
			if err != nil {
				w.t.Fatal(err)
			}
			r.Bridge = bridge.Raw
		}
		leaf, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: w.id, Member: w.member(fingerprint.Control, "ca-1"), PublicKey: document.Public()})
		if err != nil {
			w.t.Fatal(err)
		}
		canary, err := root.Issue(ca.Request{Cluster: w.id, Identity: w.member(fingerprint.Node, "canary"), PublicKey: w.key("canary").Public()})
		if err != nil {
			w.t.Fatal(err)
		}
		r.Canary = canary.Certificate.Raw
		b.Roots = append(b.Roots, r)
		b.Control[0].Documents = append(b.Control[0].Documents, leaf.Certificate.Raw)
	}
	if len(generations) == 2 {
		b.Phase, b.From, b.To = verify.Switch, generations[0], generations[1]
	}
	payload, err := b.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	parsed, err := verify.ParseBundle(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	return parsed
}

// credentials issues a leaf of the state's signer, or of the generation that is given.
func (w *world) credentials(role fingerprint.Role, name string, state *verify.Bundle, generation ...int) live.Credentials {
	w.t.Helper()
	key := w.key(string(role) + "-" + name)
	g := state.Signer
	if len(generation) > 0 {
		g = generation[0]
	}
	r := ca.Request{Cluster: w.id, Identity: w.member(role, name), PublicKey: key.Public()}
	if role != fingerprint.User {
		r.Hosts = []string{"127.0.0.1"}
	}
	leaf, err := w.roots[g-1].Issue(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return live.Credentials{Chain: [][]byte{leaf.Certificate.Raw}, Key: key, Bundle: state}
}

func (w *world) live(role fingerprint.Role, name string, state *verify.Bundle, generation ...int) *live.Live {
	w.t.Helper()
	l, err := live.New(w.credentials(role, name, state, generation...))
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// registry says that a member was removed.
func (w *world) removed(version uint64, role fingerprint.Role, name string) *fingerprint.Registry {
	w.t.Helper()
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: version}, []fingerprint.Entry{
		{Member: w.member(role, name), Current: keyOf(w.t, w.key(string(role)+"-"+name)), Revoked: true}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func keyOf(t testing.TB, s keystore.Signer) fingerprint.Key {
	t.Helper()
	k, err := fingerprint.OfPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// serve answers one byte with one byte, on real TCP, until the test ends; what it returns is where.
func serve(t testing.TB, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	l := wrap(inner)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return inner.Addr().String()
}

func serveTLS(t testing.TB, config *tls.Config) string {
	return serve(t, func(inner net.Listener) net.Listener { return tls.NewListener(inner, config) })
}

// talk dials and swaps a byte: both sides have looked when it returns nil. The connection stays open.
func talk(address string, config *tls.Config) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := again(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func again(conn *tls.Conn) error {
	if _, err := conn.Write([]byte{7}); err != nil {
		return err
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(conn, one); err != nil || one[0] != 7 {
		return errors.Join(err, errors.New("no byte came back"))
	}
	return nil
}

func leafOf(conn *tls.Conn) *x509.Certificate { return conn.ConnectionState().PeerCertificates[0] }

// exampleCredentials are what a CA would have given a node, and its renewal.
func exampleCredentials() (first, renewed live.Credentials) {
	w := newWorld(plainTB{})
	state := w.state(1, 1)
	return w.credentials(fingerprint.Node, "octopus", state), w.credentials(fingerprint.Node, "octopus", state)
}

// plainTB lets an Example use what tests use.
type plainTB struct{ testing.TB }

func (plainTB) Helper()           {}
func (plainTB) Fatal(args ...any) { panic(args) }
