package member_test

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation/member"
	"github.com/clusterca/clusterca/verify"
)

// What a daemon adds to its own code: the lines of the README.
func Example_daemon() {
	run := func(ctx context.Context, tcp net.Listener, peer fingerprint.Identity, address string) error {
		dir, err := keystore.OpenDir("/var/lib/example/member") // keys and one record; nobody else uses it
		if err != nil {
			return err
		}
		m, err := member.Open(ctx, member.Config{Keys: dir, Store: dir})
		if err != nil {
			return err
		}
		go m.Run(ctx, member.Remote("ca-1.example:7443")) // renews, follows, reports
		<-m.Ready()

		listener := tls.NewListener(tcp, m.Live().ServerConfig(verify.AnyOf(fingerprint.Node)))
		conn, err := tls.Dial("tcp", address, m.Live().ClientConfig(verify.Member(peer)))
		if err != nil {
			return err
		}
		log.Println(listener.Addr(), conn.ConnectionState().HandshakeComplete)
		return nil
	}
	_ = run
}

// The README's lines are those that compile above.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(readme), "```go\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("the README has no Go block")
	}
	for line := range strings.Lines(block) {
		if line = strings.Join(strings.Fields(line), " "); !strings.Contains(strings.Join(strings.Fields(string(here)), " "), line) {
			t.Errorf("no Example has the line %q", line)
		}
	}
}
