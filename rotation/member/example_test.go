package member_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// A whole cluster in one program: the CA daemon founds it, a node is enrolled, and the two lines that a daemon adds to
// its own code are the server's listener and the client's dial.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	path, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)

	cluster, address := runCA(ctx, path)
	a, b := runNode(ctx, path, "a", cluster, address), runNode(ctx, path, "b", cluster, address)

	// A server that any node may connect to.
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	listener := tls.NewListener(inner, a.Live().ServerConfig(verify.AnyOf(fingerprint.Node)))
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			io.WriteString(conn, "hello from a")
			conn.Close()
		}
	}()

	// A client that wants a and nobody else.
	conn, err := tls.Dial("tcp", inner.Addr().String(), b.Live().ClientConfig(verify.Member(a.Identity())))
	if err != nil {
		log.Fatal(err)
	}
	greeting, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(greeting))
	// Output: hello from a
}

// runCA founds a cluster and runs its CA daemon.
func runCA(ctx context.Context, path string) (*rotation.Cluster, string) {
	shared, err := keystore.OpenDir(filepath.Join(path, "ca"))
	if err != nil {
		log.Fatal(err)
	}
	own, err := keystore.OpenDir(filepath.Join(path, "control"))
	if err != nil {
		log.Fatal(err)
	}
	id, err := fingerprint.NewCluster("example.org")
	if err != nil {
		log.Fatal(err)
	}
	founder, err := id.Member(fingerprint.Control, "ca-1")
	if err != nil {
		log.Fatal(err)
	}
	cfg := rotation.Config{Keys: shared, Store: shared}
	var cluster *rotation.Cluster
	err = member.Enroll(ctx, member.Config{Keys: own, Store: own}, rotation.Request{Member: founder, Hosts: []string{"127.0.0.1"}},
		func(ctx context.Context, r rotation.Request) (answer rotation.Answer, err error) {
			cluster, answer, err = rotation.Create(ctx, cfg, id, r)
			return answer, err
		})
	if err != nil {
		log.Fatal(err)
	}

	// From here on it is what every start of the CA daemon does.
	self, err := member.Open(ctx, member.Config{Keys: own, Store: own})
	if err != nil {
		log.Fatal(err)
	}
	documents, err := self.Documents(ctx)
	if err != nil {
		log.Fatal(err)
	}
	daemon := cluster.Daemon(self.Identity(), documents)
	go daemon.Run(ctx)
	go self.Run(ctx, member.Direct(daemon))
	<-self.Ready()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, // else a peer that says nothing stays for ever
		Handler:           member.Handler(daemon),
		TLSConfig:         self.Live().ServerConfig(verify.AnyOf(fingerprint.Control, fingerprint.Node)),
	}
	go server.ServeTLS(listener, "", "")
	return cluster, listener.Addr().String()
}

// runNode enrols a node, here in the CA's own process, and runs it.
func runNode(ctx context.Context, path, name string, cluster *rotation.Cluster, address string) *member.Member {
	dir, err := keystore.OpenDir(filepath.Join(path, name))
	if err != nil {
		log.Fatal(err)
	}
	id, err := cluster.ID(ctx)
	if err != nil {
		log.Fatal(err)
	}
	who, err := id.Member(fingerprint.Node, name)
	if err != nil {
		log.Fatal(err)
	}
	cfg := member.Config{Keys: dir, Store: dir}
	if err := member.Enroll(ctx, cfg, rotation.Request{Member: who}, cluster.Admit); err != nil {
		log.Fatal(err)
	}

	// From here on it is what every start of the node does.
	m, err := member.Open(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	go m.Run(ctx, member.Remote(address))
	<-m.Ready()
	return m
}

// An operator replaces the root, watches, and asks for other things; all of it through the store, from any process.
func Example_operator() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	path, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)
	cluster, address := runCA(ctx, path)
	node := runNode(ctx, path, "a", cluster, address)

	s, err := cluster.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	plan, err := s.Plan(keystore.Ed25519, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("root g%d to g%d (%s): %d leaves, %d in the way\n", plan.From, plan.To, plan.Algorithm, plan.Leaves, len(plan.Blockers))
	if err := cluster.Rollover(ctx, keystore.Ed25519); err != nil {
		log.Fatal(err)
	}
	fmt.Println("pause:", cluster.Pause(ctx, "not before the backup is done"))
	fmt.Println("resume:", cluster.Resume(ctx))
	s = wait(ctx, cluster, func(s rotation.Status) bool { return s.State.Phase == verify.Settled && s.State.Signer == 2 })
	roots, err := s.Roots()
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range roots {
		fmt.Printf("root g%d is %s, %d leaves\n", r.Generation, r.Duty, r.Leaves)
	}
	fmt.Println("rollback:", cluster.Rollback(ctx))
	fmt.Println("forward:", cluster.Forward(ctx))

	asked, err := cluster.RequestRenewal(ctx)
	fmt.Println("asked to renew:", asked, err)
	if err := node.Rekey(ctx); err != nil {
		log.Fatal(err)
	}
	if err := node.Renew(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("remove:", cluster.Remove(ctx, node.Identity(), "it is replaced by another machine"))
	// Output:
	// root g1 to g2 (ed25519): 2 leaves, 0 in the way
	// pause: <nil>
	// resume: <nil>
	// root g2 is signing, 2 leaves
	// rollback: rotation: rollback: no rollover is running
	// forward: rotation: forward: no rollover is running
	// asked to renew: 2 <nil>
	// remove: <nil>
}

// wait looks at the status until it is as wanted. Blockers say who is waited for.
func wait(ctx context.Context, cluster *rotation.Cluster, wanted func(rotation.Status) bool) rotation.Status {
	for {
		s, err := cluster.Status(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if wanted(s) {
			return s
		}
	}
}
