package live_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation/live"
	"github.com/clusterca/clusterca/verify"
)

// What a daemon does with its credentials: configurations are made once and stay right, whatever is installed later.
// (A member of package rotation/member does the installing by itself.)
func Example() {
	first, renewed := exampleCredentials()
	l, err := live.New(first)
	if err != nil {
		log.Fatal(err)
	}
	l.OnRefusal(func(r *verify.Refusal) { log.Print(r) })
	admit := verify.AnyOf(fingerprint.Node)

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	// Connections of members that would be refused after a change are closed.
	listener := l.Listen(inner, l.ServerConfig(admit), admit, live.Policy{Effect: live.Recheck})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
		}
	}()
	changed := l.Changed()
	if err := l.Install(renewed); err != nil {
		log.Fatal(err)
	}
	<-changed

	expect := verify.Member(l.Identity())
	conn, err := tls.Dial("tcp", inner.Addr().String(), l.ClientConfig(expect))
	if err != nil {
		log.Fatal(err)
	}
	defer l.Track(conn, verify.Server, expect, live.Policy{Effect: live.Drain, Grace: time.Minute})()
	peer, err := live.PeerOf(conn.ConnectionState())
	fmt.Println(peer.Identity, err)
	fmt.Println(live.UrgencyOf(l.Identity(), l.Leaf(), time.Now()), l.RenewAt().Equal(live.RenewalMoment(l.Identity(), l.Leaf())))
	fmt.Println(len(l.Presented()), len(l.Proven(time.Now())), len(l.Refusals()), l.Credentials().Bundle.Phase, l.Self().Key == peer.Key)
	// Output:
	// spiffe://prod.example/node/octopus <nil>
	// normal true
	// 1 1 0 settled true
}
