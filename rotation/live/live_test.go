package live_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// A28, A127-A129, A131: on real TCP, who is refused by whom, and with which reason on the side that refused.
func TestHandshakes(t *testing.T) {
	w, other := newWorld(t), newWorld(t) // two clusters of one name
	state := w.state(1, 1)
	nodes, control := verify.AnyOf(fingerprint.Node), verify.AnyOf(fingerprint.Control)
	a, b := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	user := w.live(fingerprint.User, "anna", state)
	stranger := other.live(fingerprint.Node, "a", other.state(1, 1))
	isB := verify.Member(w.member(fingerprint.Node, "b"))
	for _, test := range []struct {
		name           string
		client, server *live.Live
		admit, expect  verify.Expect
		by             verify.Side // who refuses: the part that the refused plays
		want           verify.Reason
	}{
		{"node and node", a, b, nodes, isB, "", ""},
		{"user where users are admitted", user, b, verify.AnyOf(fingerprint.User), isB, "", ""},
		{"user certificate as a node", user, b, nodes, isB, verify.Client, verify.WrongRole},
		{"node where control is expected", a, b, control, isB, verify.Client, verify.WrongRole},
		{"node of another cluster of the same name", stranger, b, nodes, verify.AnyOf(fingerprint.Node), verify.Server, verify.WrongCluster},
		{"user certificate as a server", a, user, nodes, nodes, verify.Server, verify.WrongUsage},
		{"an IP address that leads to another member", a, b, nodes, verify.Member(w.member(fingerprint.Node, "c")), verify.Server, verify.WrongMember},
		{"an IP address that the certificate does not name", a, b, nodes, verify.Host(fingerprint.Node, "127.0.0.2"), verify.Server, verify.WrongHost},
		{"an IP address that it names", a, b, nodes, verify.Host(fingerprint.Node, "127.0.0.1"), "", ""},
		{"a server that admits nobody", a, b, verify.Expect{}, isB, verify.Client, verify.WrongRole},
	} {
		t.Run(test.name, func(t *testing.T) {
			heard := make(chan *verify.Refusal, 4)
			test.server.OnRefusal(func(r *verify.Refusal) { heard <- r })
			defer test.server.OnRefusal(nil)
			conn, err := talk(serveTLS(t, test.server.ServerConfig(test.admit)), test.client.ClientConfig(test.expect))
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				peer, err := live.PeerOf(conn.ConnectionState())
				if err != nil || peer.Identity != test.server.Identity() || !conn.ConnectionState().HandshakeComplete {
					t.Errorf("peer %v, %v", peer.Identity, err)
				}
				conn.Close()
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			var refusal *verify.Refusal
			if test.by == verify.Client {
				refusal = <-heard // the client sees an alert only
			} else if !errors.As(err, &refusal) {
				t.Fatalf("the client's error is %v", err)
			}
			if refusal.Reason != test.want || refusal.Side != test.by || refusal.Remedy == "" {
				t.Errorf("refused for %v", refusal)
			}
		})
	}
}

// A member of another cluster of the same name is refused by our server too, when it asks no questions itself.
func TestStrangerOfOurName(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	a, stranger := w.live(fingerprint.Node, "a", w.state(1, 1)), other.live(fingerprint.Node, "b", other.state(1, 1))
	heard := make(chan *verify.Refusal, 1)
	a.OnRefusal(func(r *verify.Refusal) { heard <- r })
	c := stranger.Credentials()
	_, err := talk(serveTLS(t, a.ServerConfig(verify.AnyOf(fingerprint.Node))), &tls.Config{InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: c.Chain, PrivateKey: c.Key}}})
	if err == nil {
		t.Fatal("accepted")
	}
	if r := <-heard; r.Reason != verify.WrongCluster || r.Side != verify.Client || r.Peer != stranger.Identity().String() {
		t.Errorf("refused for %v", r)
	}
}

// A client that presents nothing is refused, and TLS 1.2 is too unless the host lowers the floor.
func TestNoCertificate(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	a, b := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	nodes := verify.AnyOf(fingerprint.Node)
	address := serveTLS(t, b.ServerConfig(nodes))
	if _, err := talk(address, &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a client without a certificate got in")
	}
	config := a.ClientConfig(nodes)
	config.MaxVersion = tls.VersionTLS12
	config.MinVersion = tls.VersionTLS12
	if _, err := talk(address, config); err == nil {
		t.Error("TLS 1.2 got in")
	}
	lowered := b.ServerConfig(nodes)
	lowered.MinVersion = tls.VersionTLS12
	if _, err := talk(serveTLS(t, lowered), config); err != nil {
		t.Errorf("TLS 1.2 where the host asked for it: %v", err)
	}
}

// B70, B75, A69: sessions are resumed only where a host turns tickets on, and a removed member is refused on them too.
func TestResumption(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	a, b := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	nodes := verify.AnyOf(fingerprint.Node)
	client := a.ClientConfig(nodes)
	client.SessionTicketsDisabled = false
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client.ServerName = "b"
	dial := func(address string) (*tls.Conn, error) { return talk(address, client) }

	plain := serveTLS(t, b.ServerConfig(nodes))
	for range 2 {
		conn, err := dial(plain)
		if err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed although tickets are off")
		}
		conn.Close()
	}
	tickets := b.ServerConfig(nodes)
	tickets.SessionTicketsDisabled = false
	address := serveTLS(t, tickets)
	for i := range 2 {
		conn, err := dial(address)
		if err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume != (i == 1) {
			t.Fatalf("connection %d resumed: %t", i, conn.ConnectionState().DidResume)
		}
		conn.Close()
	}
	c := b.Credentials()
	c.Registry = w.removed(1, fingerprint.Node, "a")
	if err := b.Install(c); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *verify.Refusal, 4)
	b.OnRefusal(func(r *verify.Refusal) { heard <- r })
	if conn, err := dial(address); err == nil {
		t.Fatalf("a removed member got in; resumed: %t", conn.ConnectionState().DidResume)
	}
	if r := <-heard; r.Reason != verify.MemberRevoked {
		t.Errorf("refused for %v", r)
	}
	if list := b.Refusals(); len(list) != 1 || list[0].Peer != a.Identity() || list[0].Reason != verify.MemberRevoked {
		t.Errorf("for the report: %v", list)
	}
}

// B67: a session that was made under a root is not resumed after the root was dropped, though the ticket is good.
func TestResumptionAfterDrop(t *testing.T) {
	w := newWorld(t)
	a, b := w.live(fingerprint.Node, "a", w.state(1, 1)), w.live(fingerprint.Node, "b", w.state(1, 1))
	nodes := verify.AnyOf(fingerprint.Node)
	client, server := a.ClientConfig(nodes), b.ServerConfig(nodes)
	client.SessionTicketsDisabled, server.SessionTicketsDisabled = false, false
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	client.ServerName = "b"
	// Only the server's judgement is wanted: the client would refuse b's new leaf too.
	client.VerifyConnection = nil
	address := serveTLS(t, server)
	for i := range 2 {
		conn, err := talk(address, client)
		if err != nil || conn.ConnectionState().DidResume != (i == 1) {
			t.Fatalf("connection %d: %v", i, err)
		}
		conn.Close()
	}
	heard := make(chan *verify.Refusal, 4)
	b.OnRefusal(func(r *verify.Refusal) { heard <- r })
	for _, c := range []live.Credentials{w.credentials(fingerprint.Node, "b", w.state(3, 1, 2)), w.credentials(fingerprint.Node, "b", w.state(4, 2))} {
		changed := b.Changed()
		if err := b.Install(c); err != nil {
			t.Fatal(err)
		}
		<-changed // B68: whoever watches hears of each swap
	}
	if conn, err := talk(address, client); err == nil {
		t.Fatalf("a leaf of the dropped root got in; resumed: %t", conn.ConnectionState().DidResume)
	}
	if r := <-heard; !r.Reason.Trust() {
		t.Errorf("refused for %v", r)
	}
}

// A83, B60, B61, B64, B65: leaf and trust are swapped under handshakes that never stop, through a whole rollover, with
// configurations that were made once; none fails, and at the end the new leaf is presented.
func TestSwapUnderHandshakes(t *testing.T) {
	w := newWorld(t)
	both := w.state(2, 1, 2)
	trust := both.Clone()
	trust.Phase, trust.Signer = verify.Trust, 1
	steps := []func(name string) live.Credentials{
		func(name string) live.Credentials { return w.credentials(fingerprint.Node, name, reparse(t, trust)) },
		func(name string) live.Credentials { return w.credentials(fingerprint.Node, name, w.state(3, 1, 2), 1) },
		func(name string) live.Credentials { return w.credentials(fingerprint.Node, name, w.state(3, 1, 2)) },
		func(name string) live.Credentials { return w.credentials(fingerprint.Node, name, w.state(4, 2)) },
	}
	names := []string{"a", "b"}
	lives := []*live.Live{w.live(fingerprint.Node, "a", w.state(1, 1)), w.live(fingerprint.Node, "b", w.state(1, 1))}
	nodes := verify.AnyOf(fingerprint.Node)
	server, client := lives[0].ServerConfig(nodes), lives[1].ClientConfig(verify.Member(lives[0].Identity()))
	address := serveTLS(t, server)
	var stop atomic.Bool
	var good counted
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for !stop.Load() {
				conn, err := talk(address, client)
				good.add(err)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		})
	}
	// Each step is made by both before the next begins, as the machine would; within a step either may be first. The same
	// state has the same bytes for both.
	var shared []*verify.Bundle
	for _, step := range steps {
		shared = append(shared, step("a").Bundle)
	}
	for n, step := range steps {
		for i, name := range names {
			c := step(name)
			c.Bundle = shared[n]
			if n == 1 { // the state first, with the leaf that is live
				c.Chain = lives[i].Credentials().Chain
			}
			if n == 2 {
				c.Bundle = shared[1]
			}
			if err := lives[i].Install(c); err != nil {
				t.Fatalf("step %d of %s: %v", n, name, err)
			}
			good.more(20)
		}
	}
	stop.Store(true)
	group.Wait()
	conn, err := talk(address, client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !leafOf(conn).Equal(lives[0].Leaf()) {
		t.Error("another leaf is presented than the live one")
	}
	if n := len(conn.ConnectionState().PeerCertificates); n != 1 {
		t.Errorf("%d certificates are presented after the drop", n)
	}
	t.Logf("%d handshakes", good.n)
}

// counted counts handshakes, for whoever waits for more of them.
type counted struct {
	mu     sync.Mutex
	n      int
	failed bool
	change chan struct{} // closed at the next
}

func (c *counted) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.failed = c.failed || err != nil
	if c.change != nil {
		close(c.change)
		c.change = nil
	}
}

// more returns when so many more were made, or one failed.
func (c *counted) more(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for until := c.n + n; c.n < until && !c.failed; {
		if c.change == nil {
			c.change = make(chan struct{})
		}
		next := c.change
		c.mu.Unlock()
		<-next
		c.mu.Lock()
	}
}

func reparse(t *testing.T, b *verify.Bundle) *verify.Bundle {
	t.Helper()
	payload, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := verify.ParseBundle(payload)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// B63 and the rules of a member: what is not installed, and that the last good stays.
func TestInstallRefuses(t *testing.T) {
	w := newWorld(t)
	held := w.state(5, 1, 2)
	l := w.live(fingerprint.Node, "a", held)
	good := l.Credentials()
	withRegistry := good
	withRegistry.Registry = w.removed(3, fingerprint.Node, "x")
	if err := l.Install(withRegistry); err != nil {
		t.Fatal(err)
	}
	good = withRegistry
	change := func(edit func(*live.Credentials)) live.Credentials {
		c := good
		edit(&c)
		return c
	}
	for _, test := range []struct {
		name string
		c    live.Credentials
		want error
	}{
		{"an older state", change(func(c *live.Credentials) { c.Bundle = w.state(4, 1, 2) }), live.ErrOlder},
		{"another state of the same number", change(func(c *live.Credentials) {
			b := held.Clone()
			b.FreshUntil = b.FreshUntil.Add(time.Hour)
			c.Bundle = reparse(t, b)
		}), live.ErrOlder},
		{"an older registry", change(func(c *live.Credentials) { c.Registry = w.removed(2, fingerprint.Node, "x") }), live.ErrOlder},
		{"no registry any more", change(func(c *live.Credentials) { c.Registry = nil }), live.ErrOlder},
		{"a leaf of the root that does not sign any more", w.credentials(fingerprint.Node, "a", held, 1), live.ErrFence},
		{"another member's leaf and key", w.credentials(fingerprint.Node, "b", held), live.ErrIdentity},
		{"another key", change(func(c *live.Credentials) { c.Key = w.key("node-b") }), live.ErrPair},
	} {
		test.c.Registry = registryOr(test.c.Registry, good.Registry, test.name)
		if err := l.Install(test.c); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if c := l.Credentials(); c.Bundle.Digest() != held.Digest() || c.Registry.Version() != good.Registry.Version() || string(c.Chain[0]) != string(good.Chain[0]) {
		t.Error("what was live is not live any more")
	}
	if err := l.Install(change(func(c *live.Credentials) { c.Bundle = w.state(6, 1) })); err == nil {
		t.Error("a state that refuses one's own leaf was installed")
	}
}

func registryOr(r, otherwise *fingerprint.Registry, name string) *fingerprint.Registry {
	if r == nil && name != "no registry any more" {
		return otherwise
	}
	return r
}

// The bridge is presented from switch to drop, by holders of a leaf of the new root, and never otherwise.
func TestBridgeIsPresented(t *testing.T) {
	w := newWorld(t)
	trust := w.state(2, 1, 2).Clone()
	trust.Phase, trust.Signer = verify.Trust, 1
	back := w.state(2, 1, 2).Clone() // a rollback from g2 to g1
	back.From, back.To, back.Signer = 2, 1, 1
	for _, test := range []struct {
		name  string
		state *verify.Bundle
		leaf  int
		want  int
	}{
		{"settled", w.state(1, 1), 1, 1},
		{"trust", reparse(t, trust), 1, 1},
		{"switch, old leaf", w.state(3, 1, 2), 1, 1},
		{"switch, new leaf", w.state(3, 1, 2), 2, 2},
		{"rollback", reparse(t, back), 1, 1},
		{"settled again", w.state(4, 2), 2, 1},
	} {
		l := w.live(fingerprint.Node, "a", test.state, test.leaf)
		if got := len(l.Presented()); got != test.want {
			t.Errorf("%s: %d certificates, want %d", test.name, got, test.want)
		}
	}
}

// A84, B66: what a swap does to connections that live: nothing, an end after a grace period, or an end for those who
// would be refused now.
func TestEffects(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	nodes := verify.AnyOf(fingerprint.Node)
	for _, test := range []struct {
		name          string
		policy        live.Policy
		removed, stay bool // whether the connection of the removed and of the other member lives on
	}{
		{"keep", live.Policy{}, true, true},
		{"drain", live.Policy{Effect: live.Drain, Grace: time.Millisecond}, false, false},
		{"recheck", live.Policy{Effect: live.Recheck}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b, c := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state), w.live(fingerprint.Node, "c", state)
			address := serve(t, func(inner net.Listener) net.Listener { return c.Listen(inner, nil, nodes, test.policy) })
			removed, err := talk(address, a.ClientConfig(nodes))
			if err != nil {
				t.Fatal(err)
			}
			defer removed.Close()
			stays, err := talk(address, b.ClientConfig(nodes))
			if err != nil {
				t.Fatal(err)
			}
			defer stays.Close()
			// A renewal of the own leaf does nothing to connections.
			renewed := w.credentials(fingerprint.Node, "c", state)
			if err := c.Install(renewed); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(again(removed), again(stays)); err != nil {
				t.Fatalf("after a renewal: %v", err)
			}
			renewed.Registry = w.removed(1, fingerprint.Node, "a")
			if err := c.Install(renewed); err != nil {
				t.Fatal(err)
			}
			for name, x := range map[string]struct {
				conn  *tls.Conn
				lives bool
			}{"removed": {removed, test.removed}, "other": {stays, test.stay}} {
				if !x.lives {
					if _, err := x.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s member's connection: %v", name, err)
					}
				} else if err := again(x.conn); err != nil {
					t.Errorf("%s member's connection was closed: %v", name, err)
				}
			}
		})
	}
}

// Track does the same for connections that were dialled.
func TestTrack(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	nodes := verify.AnyOf(fingerprint.Node)
	a, b := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	address := serveTLS(t, b.ServerConfig(nodes))
	conn, err := talk(address, a.ClientConfig(nodes))
	if err != nil {
		t.Fatal(err)
	}
	stop := a.Track(conn, verify.Server, nodes, live.Policy{Effect: live.Recheck})
	defer stop()
	c := a.Credentials()
	c.Registry = w.removed(1, fingerprint.Node, "b")
	if err := a.Install(c); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection to a removed member lives on")
	}
}

// B42, B43, B45: the moment is within its window, the same at each look, and spread; and the tiers follow it.
func TestRenewalMoment(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	seen := make(map[int]int)
	for range 200 {
		l := w.live(fingerprint.Node, "a", state)
		leaf := l.Leaf()
		at := l.RenewAt()
		if again := live.RenewalMoment(l.Identity(), leaf); !again.Equal(at) {
			t.Fatalf("%v, then %v", at, again)
		}
		life := leaf.NotAfter.Sub(leaf.NotBefore)
		part := float64(at.Sub(leaf.NotBefore)) / float64(life)
		if part < 0.5 || part > 0.8334 {
			t.Fatalf("at %.3f of the lifetime", part)
		}
		seen[int((part-0.5)*30)]++
		for when, want := range map[time.Time]live.Urgency{
			at.Add(-time.Second): live.Normal, at: live.Due, leaf.NotAfter.Add(-life / 20): live.Urgent, leaf.NotAfter.Add(time.Second): live.Expired,
		} {
			if got := live.UrgencyOf(l.Identity(), leaf, when); got != want {
				t.Fatalf("%s at %v, want %s", got, when, want)
			}
		}
	}
	if len(seen) < 8 {
		t.Errorf("the moments are not spread: %v", seen)
	}
}

// An idle connection of an http.Transport does not outlive a swap.
func TestCloseIdle(t *testing.T) {
	w := newWorld(t)
	state := w.state(1, 1)
	nodes := verify.AnyOf(fingerprint.Node)
	a, b := w.live(fingerprint.Node, "a", state), w.live(fingerprint.Node, "b", state)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	leaves := make(chan string, 4)
	server := &http.Server{
		TLSConfig: b.ServerConfig(nodes),
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			leaves <- string(r.TLS.PeerCertificates[0].Raw)
		}),
	}
	go server.ServeTLS(inner, "", "")
	defer server.Close()
	transport := &http.Transport{TLSClientConfig: a.ClientConfig(nodes)}
	closed := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching := make(chan struct{})
	go func() {
		close(watching)
		a.CloseIdle(ctx, closer{transport, closed})
	}()
	get := func() string {
		response, err := (&http.Client{Transport: transport}).Get("https://" + inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return <-leaves
	}
	<-watching
	first := get()
	if get() != first {
		t.Fatal("another leaf without a swap")
	}
	// The watcher may still be on its way to watching: swap until it has heard.
	for heard := false; !heard; {
		if err := a.Install(w.credentials(fingerprint.Node, "a", state)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-closed:
			heard = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if got := get(); got == first || got != string(a.Leaf().Raw) {
		t.Error("the connection made with the leaf before was used")
	}
}

type closer struct {
	*http.Transport
	closed chan struct{}
}

func (c closer) CloseIdleConnections() {
	c.Transport.CloseIdleConnections()
	c.closed <- struct{}{}
}
