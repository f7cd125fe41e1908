package member_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// record is a member's record at the CA.
func (c *cluster) record(id fingerprint.Identity) rotation.Member {
	c.t.Helper()
	s, err := c.cluster.Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	i := slices.IndexFunc(s.Members, func(m rotation.Member) bool { return m.Identity == id })
	if i < 0 {
		c.t.Fatalf("no record of %s", id)
	}
	return s.Members[i]
}

// A79, A80, A81, A82: one leaf is renewed, by the member and from elsewhere, then all; keys stay.
func TestRenewal(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a, b := c.node("a"), c.node("b")
	stop := c.traffic()
	first := a.Live().Leaf()
	if err := a.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := a.Live().Leaf()
	if second.Equal(first) || string(second.RawSubjectPublicKeyInfo) != string(first.RawSubjectPublicKeyInfo) {
		t.Error("a renewal gives a new certificate of the same key")
	}
	theirs := fingerprint.OfCertificate(b.Live().Leaf().Raw)
	if n, err := c.cluster.RequestRenewal(t.Context(), b.Identity()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	c.until("b is renewed", func(s rotation.Status) bool {
		m := c.record(b.Identity())
		return m.Report.Leaf != theirs && m.Report.Leaf == m.Leaf
	})
	if !a.Live().Leaf().Equal(second) {
		t.Error("renewing b renewed a")
	}
	before, err := c.cluster.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.cluster.RequestRenewal(t.Context()); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	c.until("all are renewed", func(s rotation.Status) bool {
		for i, m := range s.Members {
			if m.Report.Leaf == before.Members[i].Report.Leaf || m.Report.Leaf != m.Leaf {
				return false
			}
		}
		return true
	})
	if good, failures := stop(); len(failures) > 0 || good == 0 {
		t.Errorf("%d good, failures: %v", good, failures)
	}
	if _, err := c.cluster.RequestRenewal(t.Context(), fingerprint.Identity{Domain: c.id.Domain, Role: fingerprint.Node, ID: "nobody"}); !errors.Is(err, rotation.ErrUnknownMember) {
		t.Errorf("renew nobody: %v", err)
	}
}

// A72, B71, and the serve and promote rules of the registry: a re-key under traffic, where nodes are open and where they
// are listed. Both keys are known while one follows the other; the old one is destroyed.
func TestRekey(t *testing.T) {
	for _, rule := range []fingerprint.Rule{fingerprint.Open, fingerprint.Listed} {
		t.Run(string(rule), func(t *testing.T) {
			c := newCluster(t, verify.Rules{Node: rule, User: fingerprint.Open})
			a := c.node("a")
			c.node("b")
			c.node("c")
			stop := c.traffic()
			old := c.record(a.Identity()).Current
			if err := a.Rekey(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.until("the key is promoted", func(rotation.Status) bool {
				m := c.record(a.Identity())
				return m.Next.IsZero() && m.Current != old && m.Report.Key == m.Current
			})
			if good, failures := stop(); len(failures) > 0 || good == 0 {
				t.Errorf("%d good, failures: %v", good, failures)
			}
			if err := a.Rekey(t.Context()); err != nil {
				t.Errorf("again: %v", err)
			}
			if err := a.Renew(t.Context()); err != nil { // after all that the re-key left to do
				t.Error(err)
			}
			labels, err := a.dir.Labels(t.Context())
			if err != nil || len(labels) != 1 {
				t.Errorf("keys left: %q, %v", labels, err)
			}
		})
	}
}

// A control member's keys stand in the trust state: a re-key of the CA daemon's own changes it twice.
func TestRekeyOfControl(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	c.node("a")
	old := c.record(c.control.Identity()).Current
	if err := c.control.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := c.until("the state names the new key alone", func(s rotation.Status) bool {
		x := s.State.Control[0]
		return x.Current != old && x.Next.IsZero()
	})
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	c.settled(s.State.Generations + 1)
}

// A69, A76, B70, B75: a removed member is refused by the others: on new connections, on one that lives, on a resumed
// session, and by the CA daemon.
func TestRemoved(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	a, b := c.node("a"), c.node("b")

	// A server that hands out tickets, which ours does not by itself, and looks at live connections again.
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	nodes := verify.AnyOf(fingerprint.Node)
	config := a.Live().ServerConfig(nodes)
	config.SessionTicketsDisabled = false
	refused := make(chan *verify.Refusal, 16)
	a.Live().OnRefusal(func(r *verify.Refusal) { refused <- r })
	go echo(a.Live().Listen(inner, config, nodes, live.Policy{Effect: live.Recheck}))

	dialer := b.Live().ClientConfig(verify.Member(a.Identity()))
	dialer.SessionTicketsDisabled = false
	dialer.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	dialer.ServerName = "a" // names the session, nobody is expected by it
	connect := func() (*tls.Conn, error) {
		conn, err := tls.Dial("tcp", inner.Addr().String(), dialer)
		if err != nil {
			return nil, err
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Write([]byte{1}); err != nil {
			return conn, err
		}
		_, err = io.ReadFull(conn, make([]byte, 1))
		return conn, err
	}
	for i := range 2 {
		conn, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
			t.Fatalf("connection %d resumed: %t", i, resumed)
		}
		conn.Close()
	}
	living, err := tls.Dial("tcp", inner.Addr().String(), dialer)
	if err != nil {
		t.Fatal(err)
	}
	living.SetDeadline(time.Now().Add(20 * time.Second))

	if err := c.cluster.Remove(t.Context(), b.Identity(), "the test wants it gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := living.Read(make([]byte, 1)); err == nil {
		t.Error("the connection that lived was not closed")
	}
	if r := <-refused; r.Reason != verify.MemberRevoked {
		t.Errorf("refused for %v", r)
	}
	if conn, err := connect(); err == nil {
		t.Errorf("a removed member got in, resumed: %t", conn.ConnectionState().DidResume)
	}
	if r := <-refused; r.Reason != verify.MemberRevoked || r.Side != verify.Client {
		t.Errorf("refused for %v", r)
	}
	if err := exchange(t.Context(), b, a); err == nil {
		t.Error("a removed member got in where it was never before")
	}
	b.stop()
	if err := c.cluster.Remove(t.Context(), c.control.Identity(), "x"); !errors.Is(err, rotation.ErrLastControl) {
		t.Errorf("remove the last control member: %v", err)
	}
	// What was removed stays so, and its key with it.
	if err := member.Enroll(t.Context(), member.Config{Keys: b.dir, Store: keystore.NewMemory()}, rotation.Request{Member: b.Identity()}, c.cluster.Admit); !errors.Is(err, rotation.ErrRevoked) {
		t.Errorf("admit it again: %v", err)
	}
	other, err := c.id.Member(fingerprint.Node, "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Enroll(t.Context(), member.Config{Keys: b.dir, Store: keystore.NewMemory()}, rotation.Request{Member: other}, c.cluster.Admit); !errors.Is(err, rotation.ErrKeyInUse) {
		t.Errorf("admit its key under another name: %v", err)
	}
}

// B33, B34: a rollover that waits is turned around, and the cluster is where it was, with all handshakes good; a number
// of a generation is never used again.
func TestRollback(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	for _, name := range []string{"a", "b"} {
		c.node(name)
	}
	absent := c.node("absent")
	c.nodes = c.nodes[:2]
	if err := c.cluster.Rollback(t.Context()); !errors.Is(err, rotation.ErrIdle) {
		t.Errorf("rollback of nothing: %v", err)
	}
	dir := absent.dir
	absent.stop()
	stop := c.traffic()
	if err := c.cluster.Rollover(t.Context(), keystore.P384); err != nil {
		t.Fatal(err)
	}
	s := c.until("only the absent node blocks", func(s rotation.Status) bool {
		return s.State.Phase == verify.Trust && len(s.Blockers) == 1
	})
	if b := s.Blockers[0]; b.Member != absent.Identity() || b.Code != rotation.Behind || !strings.Contains(b.Reason, "absent") || b.Remedy == "" {
		t.Errorf("blocker %+v", b)
	}
	if err := c.cluster.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := c.start(dir)
	c.settled(1)
	if good, failures := stop(); len(failures) > 0 || good == 0 {
		t.Errorf("%d good, failures: %v", good, failures)
	}
	if err := exchange(t.Context(), back, c.nodes[0]); err != nil {
		t.Errorf("the node that was away: %v", err)
	}
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	if s := c.settled(3); s.State.Generations != 3 || len(s.State.Retired) != 2 {
		t.Errorf("%d generations, %d retired keys", s.State.Generations, len(s.State.Retired))
	}
	labels, err := c.cfg.Keys.Labels(t.Context())
	if err != nil || !slices.Equal(labels, []string{"root-3"}) {
		t.Errorf("keys of roots left: %q, %v; retired ones are destroyed", labels, err)
	}
}

// B36: a second rollover that is asked for while one runs waits for it; a third is refused.
func TestSecondRollover(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	c.node("a")
	absent := c.node("absent")
	absent.stop()
	for _, a := range []keystore.Algorithm{keystore.P256, keystore.Ed25519} {
		if err := c.cluster.Rollover(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		c.until("the request is taken up", func(s rotation.Status) bool { return s.State.Phase == verify.Trust })
	}
	if err := c.cluster.Rollover(t.Context(), keystore.P256); !errors.Is(err, rotation.ErrPending) {
		t.Errorf("a third rollover: %v", err)
	}
	c.start(absent.dir)
	c.settled(3)
}

// B22, B35: the CA daemon is stopped in each phase and started again; the rollover completes. Here it ends between two
// calls; livecluster's tests kill its process at any instruction.
func TestDriverIsReplaced(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	c.node("a")
	absent := c.node("absent")
	absent.stop()
	if err := c.cluster.Rollover(t.Context(), keystore.P256); err != nil {
		t.Fatal(err)
	}
	c.until("the new root is trusted", func(s rotation.Status) bool { return s.State.Phase == verify.Trust })
	for range 3 {
		c.control.stop()
		c.startControl(c.control.dir)
	}
	c.start(absent.dir)
	c.settled(2)
}

// B58's neighbour: what enrolment refuses, and that it is finished by running it again.
func TestEnrol(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	id, err := c.id.Member(fingerprint.Node, "a")
	if err != nil {
		t.Fatal(err)
	}
	dir := open(t, t.TempDir()+"/a")
	cfg := member.Config{Keys: dir, Store: dir}
	lost := errors.New("the answer is lost")
	err = member.Enroll(t.Context(), cfg, rotation.Request{Member: id}, func(ctx context.Context, r rotation.Request) (rotation.Answer, error) {
		if _, err := c.cluster.Admit(ctx, r); err != nil {
			t.Fatal(err)
		}
		return rotation.Answer{}, lost
	})
	if !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if _, err := member.Open(t.Context(), cfg); !errors.Is(err, member.ErrNotEnrolled) {
		t.Errorf("open before it is enrolled: %v", err)
	}
	if err := member.Enroll(t.Context(), cfg, rotation.Request{Member: id}, c.cluster.Admit); err != nil {
		t.Errorf("run again: %v", err)
	}
	if err := member.Enroll(t.Context(), cfg, rotation.Request{Member: id}, c.cluster.Admit); !errors.Is(err, fs.ErrExist) {
		t.Errorf("enrolled twice: %v", err)
	}
	thief := open(t, t.TempDir()+"/thief")
	if err := member.Enroll(t.Context(), member.Config{Keys: thief, Store: thief}, rotation.Request{Member: id}, c.cluster.Admit); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another key for the same member: %v", err)
	}
	if _, err := rotation.Open(t.Context(), rotation.Config{Keys: thief, Store: thief}); !errors.Is(err, rotation.ErrNoCluster) {
		t.Errorf("open a store without a cluster: %v", err)
	}
}

// N6: with no CA daemon a member serves what its disk holds after a bounded wait, and rejoins when one comes.
func TestBootWithoutCA(t *testing.T) {
	c := newCluster(t, verify.Rules{})
	dir := c.enrol(fingerprint.Node, "a")
	control := c.control.dir
	c.control.stop()
	m, err := member.Open(t.Context(), member.Config{Keys: dir, Store: dir, BootBound: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx, member.Remote(c.address)) }()
	await(t, m.Ready())
	if r := c.record(m.Identity()).Report; r != nil {
		t.Errorf("it is counted without having been heard: %+v", r)
	}
	c.startControl(control)
	c.until("it rejoined", func(rotation.Status) bool {
		r := c.record(m.Identity()).Report
		return r != nil && r.Serving
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("run ended with %v", err)
	}
}
