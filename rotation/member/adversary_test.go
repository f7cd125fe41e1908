package member_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// newKey makes a key that no member's directory knows.
func newKey(t *testing.T) keystore.Signer {
	t.Helper()
	key, err := keystore.NewMemory().Generate(t.Context(), "key", keystore.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// daemonOf is one more CA daemon of the control member, which does nothing by itself.
func (c *cluster) daemonOf(cluster *rotation.Cluster) *rotation.Daemon {
	c.t.Helper()
	documents, err := c.control.Documents(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return cluster.Daemon(c.control.Identity(), documents)
}

func requestFor(t *testing.T, key crypto.Signer, id fingerprint.Identity) []byte {
	t.Helper()
	csr, err := ca.NewRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// A72, B71: after a re-key the old key is worth nothing at the CA, although the old leaf has not ended: whoever stole it
// can neither have a key of his own listed nor report.
func TestStolenOldKey(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	stolen := a.Live().Credentials()
	if err := a.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.until("the key is promoted", func(rotation.Status) bool {
		m := c.record(a.Identity())
		return m.Next.IsZero() && m.Current == a.Live().Self().Key
	})
	thief := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: stolen.Chain, PrivateKey: stolen.Key}}}}}
	body, err := json.Marshal(rotation.Renewal{CSR: requestFor(t, newKey(t), a.Identity()), Counter: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	before := c.record(a.Identity())
	for _, path := range []string{"renew", "report"} {
		response, err := thief.Post("https://"+c.address+"/v1/"+path, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err) // the handshake is good: the leaf is, and the role is open
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	if m := c.record(a.Identity()); m.Next != before.Next || m.Current != before.Current || m.Leaf != before.Leaf {
		t.Error("the thief changed the member's record")
	}
	if err := a.Renew(t.Context()); err != nil {
		t.Errorf("the member itself: %v", err)
	}
}

// A stranger who claims to be a member is refused, and that is all: the rollover does not wait for it. The control member
// takes its time here, so that the strangers have theirs.
func TestStrangerStopsNoRollover(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a, b := c.node("a"), c.node("b")
	absent := c.node("absent")
	if err := absent.stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	c.until("a trusts both roots", func(s rotation.Status) bool {
		m := c.record(a.Identity())
		return s.State.Phase == verify.Trust && m.Report.State == s.State.Version
	})
	uri, err := url.Parse(b.Identity().String())
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{SerialNumber: c.id.UUID}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), AuthorityKeyId: []byte{1, 2, 3},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", a.server.Addr().String(), &tls.Config{InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		t.Fatal("a stranger got in")
	}
	if list := a.Live().Refusals(); len(list) != 1 || list[0].Peer != b.Identity() || !list[0].Reason.Trust() {
		t.Fatalf("refusals %v", list)
	}
	if err := a.Renew(t.Context()); err != nil { // and with that a report, which speaks of the refusal
		t.Fatal(err)
	}
	c.until("a reported the refusal", func(rotation.Status) bool { return len(c.record(a.Identity()).Report.Refusals) > 0 })
	c.start(absent.dir)
	c.settled(2)
}

// B71: two listed members that re-key at the same moment do not wait for each other.
func TestTwoRekeysAtOnce(t *testing.T) {
	c := newCluster(t, verify.Rules{Node: fingerprint.Listed, User: fingerprint.Open})
	nodes := []*running{c.node("a"), c.node("b"), c.node("c")}
	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			if err := n.Rekey(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	c.settled(2)
}

// Of two new members that come with one key at the same moment, one is refused, whatever the rule; the registry never
// has a key twice.
func TestOneKeyTwice(t *testing.T) {
	c := newCluster(t, verify.Rules{Node: fingerprint.Listed, User: fingerprint.Open})
	for n := range 10 {
		key, errs := newKey(t), make(chan error, 2)
		for _, name := range []string{"x", "y"} {
			id, err := c.id.Member(fingerprint.Node, fmt.Sprint(name, n))
			if err != nil {
				t.Fatal(err)
			}
			csr := requestFor(t, key, id)
			go func() {
				_, err := c.cluster.Admit(t.Context(), rotation.Request{Member: id, CSR: csr})
				errs <- err
			}()
		}
		first, second := <-errs, <-errs
		if (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), rotation.ErrKeyInUse) {
			t.Fatalf("%v and %v", first, second)
		}
	}
}

// A control member may be removed by its own CA daemon: whoever stays signs the state that says so, and the cluster goes
// on under another daemon.
func TestDaemonRemovesItself(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	second, err := c.id.Member(fingerprint.Control, "ca-2")
	if err != nil {
		t.Fatal(err)
	}
	dir := open(t, filepath.Join(c.dir, "ca-2"))
	err = member.Enroll(t.Context(), member.Config{Keys: dir, Store: dir}, rotation.Request{Member: second, Hosts: []string{"127.0.0.1"}}, c.cluster.Admit)
	if err != nil {
		t.Fatal(err)
	}
	c.until("a knows of ca-2", func(s rotation.Status) bool {
		m := c.record(a.Identity())
		return len(s.State.Control) == 2 && m.Report.State == s.State.Version
	})
	if err := c.cluster.Remove(t.Context(), c.control.Identity(), "moved to ca-2"); err != nil {
		t.Fatal(err)
	}
	// Its own daemon must not sign that: members ask for a signer that the state itself names.
	old := c.daemonOf(c.cluster)
	if _, err := old.State(t.Context(), a.Live().Self(), rotation.Ask{}); !errors.Is(err, rotation.ErrUnpublished) {
		t.Errorf("the removed daemon signs: %v", err)
	}
	c.control.stop()
	c.startControl(dir)
	c.until("a follows ca-2", func(s rotation.Status) bool {
		m := c.record(a.Identity())
		return len(s.State.Control) == 1 && m.Report.State == s.State.Version
	})
	if err := c.cluster.Remove(t.Context(), second, "x"); !errors.Is(err, rotation.ErrLastControl) {
		t.Errorf("the last one: %v", err)
	}
}

// A control member serves only when everybody knows it: before that a node would refuse it.
func TestControlWaitsUntilItIsKnown(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	second, err := c.id.Member(fingerprint.Control, "ca-2")
	if err != nil {
		t.Fatal(err)
	}
	dir := open(t, filepath.Join(c.dir, "ca-2"))
	cfg := member.Config{Keys: dir, Store: dir, BootBound: time.Hour}
	if err := member.Enroll(t.Context(), cfg, rotation.Request{Member: second, Hosts: []string{"127.0.0.1"}}, c.cluster.Admit); err != nil {
		t.Fatal(err)
	}
	m, err := member.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	go m.Run(t.Context(), member.Remote(c.address))
	first := uint64(0)
	c.until("ca-2 asked to serve", func(rotation.Status) bool {
		r := c.record(second).Report
		if r != nil && first == 0 {
			first = r.Count
		}
		return r != nil && (r.Serving || r.Count >= first+2)
	})
	if c.record(second).Report.Serving {
		t.Error("ca-2 counts before a knows it")
	}
	select {
	case <-m.Ready():
		t.Error("ca-2 serves before a knows it")
	default:
	}
	c.start(a.dir)
	await(t, m.Ready())
}

// troubled is a store that cannot be read.
type troubled struct{ keystore.Store }

var errTrouble = errors.New("the disk is gone")

func (troubled) Load(context.Context, string) (keystore.Record, error) {
	return keystore.Record{}, errTrouble
}

// A CA daemon in trouble is passed over: a member reaches the next one, and learns nothing of the first one's insides.
func TestFailover(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	dir := c.enrol(fingerprint.Node, "a")
	store := troubledAfterOpen{Store: c.cfg.Store}
	cfg := c.cfg
	cfg.Store = &store
	cluster, err := rotation.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	store.Store = troubled{c.cfg.Store}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	broken := &http.Server{
		TLSConfig: c.control.Live().ServerConfig(verify.AnyOf(fingerprint.Node)),
		Handler:   spying(member.Handler(c.daemonOf(cluster)), heard),
	}
	go broken.ServeTLS(listener, "", "")
	defer broken.Close()
	m, err := member.Open(t.Context(), member.Config{Keys: dir, Store: dir, BootBound: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	go m.Run(t.Context(), member.Remote(listener.Addr().String(), c.address))
	await(t, m.Ready())
	if c.record(m.Identity()).Report == nil {
		t.Error("it never reported")
	}
	if said := <-heard; bytes.Contains([]byte(said), []byte(errTrouble.Error())) {
		t.Errorf("a member is told %s", said)
	}
}

type troubledAfterOpen struct{ keystore.Store }

// spying hands on what a handler answers.
func spying(next http.Handler, heard chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var said bytes.Buffer
		next.ServeHTTP(&spy{w, &said}, r)
		select {
		case heard <- said.String():
		default:
		}
	})
}

type spy struct {
	http.ResponseWriter
	said *bytes.Buffer
}

func (s *spy) Write(b []byte) (int, error) {
	s.said.Write(b)
	return s.ResponseWriter.Write(b)
}

// A renewal whose answer was lost does not hide the leaf that is served from an operator's wish.
func TestRenewalAfterLostAnswer(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	before := a.Live().Self()
	daemon := c.daemonOf(c.cluster)
	if _, err := daemon.Renew(t.Context(), before, rotation.Renewal{CSR: requestFor(t, a.Live().Credentials().Key, a.Identity())}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.cluster.RequestRenewal(t.Context(), a.Identity()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	// It might as well serve the newer one, and only its report be late: then that one is to be replaced.
	newer := c.record(a.Identity()).Leaf
	held := a.Live().Credentials()
	news, err := daemon.State(t.Context(), before, rotation.Ask{State: held.Bundle.Version, Registry: held.Registry.Version(), Leaf: newer})
	if err != nil || !news.Renew {
		t.Errorf("with the newer leaf: %v, %v", news.Renew, err)
	}
	c.until("a serves a newer leaf", func(rotation.Status) bool {
		m := c.record(a.Identity())
		return m.Report.Leaf != before.Leaf && m.Report.Leaf == m.Leaf
	})
}

// A node that was admitted, but slept through a rollover before it ever started, is admitted again with another key; one
// whose first leaf is still good is not.
func TestAdmittedAndNeverStarted(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	c.node("a")
	c.enrol(fingerprint.Node, "late")
	late, err := c.id.Member(fingerprint.Node, "late")
	if err != nil {
		t.Fatal(err)
	}
	again := func() error {
		dir := keystore.NewMemory()
		return member.Enroll(t.Context(), member.Config{Keys: dir, Store: dir}, rotation.Request{Member: late}, c.cluster.Admit)
	}
	if err := again(); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("while its leaf is good: %v", err)
	}
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	c.settled(2)
	if err := again(); err != nil {
		t.Errorf("after its root was dropped: %v", err)
	}
}

// Nobody waits for a Run that has ended.
func TestAskAfterTheEnd(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.Renew(context.Background()); !errors.Is(err, member.ErrEnded) {
		t.Error(err)
	}
}

// What cannot be written so that everybody reads it again is refused, and the CA goes on: one byte must not make a record
// that nobody can read.
func TestNoTextThatIsNone(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	for _, reason := range []string{"stolen \xff", strings.Repeat("x", 2000)} {
		if err := c.cluster.Remove(t.Context(), a.Identity(), reason); err == nil {
			t.Errorf("removed for %.20q", reason)
		}
	}
	b, err := c.id.Member(fingerprint.Node, "b")
	if err != nil {
		t.Fatal(err)
	}
	csr := requestFor(t, newKey(t), b)
	for _, host := range []string{"x\xff", "Node A"} {
		if _, err := c.cluster.Admit(t.Context(), rotation.Request{Member: b, CSR: csr, Hosts: []string{host}}); err == nil {
			t.Errorf("admitted with host %q", host)
		}
	}
	// The key is not spent by what was refused, and the name is free.
	if _, err := c.cluster.Admit(t.Context(), rotation.Request{Member: b, CSR: csr, Hosts: []string{"b.example"}}); err != nil {
		t.Error(err)
	}
	if err := c.cluster.Remove(t.Context(), a.Identity(), "stolen"); err != nil {
		t.Error(err)
	}
	if _, err := c.cluster.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// A member that holds a newer state than the CA's store, which was restored then, is told so, and does not ask without
// pause.
func TestStoreIsOlderThanMember(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	daemon := c.daemonOf(c.cluster)
	for _, number := range []uint64{9, math.MaxUint64} {
		_, err := daemon.State(t.Context(), a.Live().Self(), rotation.Ask{State: fingerprint.Version{Term: 1, Number: number}, Leaf: a.Live().Self().Leaf, Wait: time.Hour})
		if !errors.Is(err, rotation.ErrRefused) || errors.Is(err, rotation.ErrUnpublished) {
			t.Errorf("state 1.%d: %v", number, err)
		}
	}
}

// A refused request for a next key leaves nothing behind.
func TestRefusedKeyIsNotClaimed(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	daemon := c.daemonOf(c.cluster)
	count := func() int {
		records, _, err := c.cfg.Store.List(t.Context(), "keys/")
		if err != nil {
			t.Fatal(err)
		}
		return len(records)
	}
	before := count()
	for range 3 {
		if _, err := daemon.Renew(t.Context(), a.Live().Self(), rotation.Renewal{CSR: requestFor(t, newKey(t), a.Identity())}); !errors.Is(err, rotation.ErrReplayed) {
			t.Error(err)
		}
	}
	if n := count(); n != before {
		t.Errorf("%d keys claimed by refused requests", n-before)
	}
}

// A member that serves its next key, of which the CA has not heard yet, is enrolled again with that one.
func TestReenrolWithNextKey(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a := c.node("a")
	documents, err := c.control.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := requestFor(t, newKey(t), a.Identity())
	daemon := c.cluster.Daemon(c.control.Identity(), documents)
	if renewed, err := daemon.Renew(t.Context(), a.Live().Self(), rotation.Renewal{CSR: next, Counter: 1}); err != nil || renewed.Wait != "" {
		t.Fatal(renewed.Wait, err)
	}
	for _, csr := range [][]byte{next, requestFor(t, a.Live().Credentials().Key, a.Identity())} {
		if _, err := c.cluster.Admit(t.Context(), rotation.Request{Member: a.Identity(), CSR: csr}); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.cluster.Admit(t.Context(), rotation.Request{Member: a.Identity(), CSR: requestFor(t, newKey(t), a.Identity())}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("with a third key: %v", err)
	}
}
