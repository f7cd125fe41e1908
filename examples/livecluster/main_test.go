package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/verify"
)

// TestMain is also the program's own processes: they are this binary again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], childPrefix) {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("CLUSTERCA_LONG") == "" {
		t.Skip("long: run ./test.sh -long")
	}
}

// runs the program as a command line does.
func runs(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var out, errors bytes.Buffer
	code = run(t.Context(), args, &out, &errors)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "livecluster-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	return code, out.String(), errors.String()
}

// The main job: leaves and root are replaced, a node and the driver are killed, and nobody is refused. B27, B38, B86.
func TestLivecluster(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "picture.svg")
	code, out, errors := runs(t, "-nodes", "3", "-algorithms", "p256,ed25519,p384", "-timeline", picture)
	t.Log(out)
	if code != 0 {
		t.Fatalf("code %d, %s", code, errors)
	}
	for _, want := range []string{
		`cluster live\.example \([0-9a-f-]{36}\)`, `root g1   [0-9a-f]{64}`, `renew one .* 1/1`, `renew all .* 4/4`,
		`root g1 → g2 \(ed25519\)  trust`, `root g2 → g3 \(p384\)  drop`, `plan +root g1 → g2 \(ed25519\): 4 leaves will be replaced, 0 members would block`, `waits: [0-9a-f]{8}… has not confirmed`, `g3 \(p384\)  settled  confirmed 4/4`,
		`SIGKILL +node`, `SIGKILL +CA daemon`, `back +node`, `all 6 pairs of nodes accept each other`,
		`CERTIFICATE +OF +ENDS +IN`, `root g3`, `document signer`, `\d+ interrupted: their other process was down \(node`,
		`(?m)^3 nodes, \d{3,} handshakes, 0 failed, root g1 [0-9a-f]{8}… → g3 [0-9a-f]{8}…, \d+ s$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output does not have %q", want)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("escape sequences where there is no terminal")
	}
	data, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	var texts int
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
		if s, ok := token.(xml.StartElement); ok && s.Name.Local == "text" {
			texts++
		}
	}
	if texts < 10 {
		t.Errorf("%d texts in the picture", texts)
	}
}

// The same change in one swap breaks handshakes, and the program says so.
func TestNaive(t *testing.T) {
	code, out, _ := runs(t, "-naive", "-nodes", "3")
	t.Log(out)
	if code != 1 || !regexp.MustCompile(`(?m)^3 nodes, \d+ handshakes, [1-9]\d* failed, root g1`).MatchString(out) {
		t.Errorf("code %d, output:\n%s", code, out)
	}
}

func TestJSON(t *testing.T) {
	code, out, _ := runs(t, "-json", "-naive", "-nodes", "2")
	if code != 1 {
		t.Errorf("code %d", code)
	}
	var last struct {
		Event string
		Value result
	}
	for line := range strings.Lines(out) {
		if err := json.Unmarshal([]byte(line), &last); err != nil && !strings.Contains(line, `"note"`) {
			t.Fatalf("%v in %s", err, line)
		}
	}
	if last.Event != "result" || last.Value.Nodes != 2 || last.Value.Failed == 0 || len(last.Value.Reasons) == 0 {
		t.Errorf("the last line is %+v", last)
	}
}

func TestWrongFlags(t *testing.T) {
	for args, says := range map[string]string{
		"-nodes 1":             "want 2 to 64",
		"-nodes 65":            "want 2 to 64",
		"-algorithms p256":     "at least two",
		"-algorithms p256,dsa": "none of",
		"-nods 3":              "not defined",
		"extra":                "unexpected argument",
		"-timeline /nonexistent/x -naive -nodes two": "invalid value",
	} {
		code, _, errors := runs(t, strings.Fields(args)...)
		if code != 2 || !strings.Contains(errors, says) {
			t.Errorf("%s: code %d, %q, want it to say %q", args, code, errors, says)
		}
	}
}

// An exchange is counted once, whoever saw it fail, with the reason of the side that looked; one whose other process was
// down is interrupted; and the kills must explain the number of those.
func TestLedger(t *testing.T) {
	now := time.Now()
	at := func(s float64) time.Time { return now.Add(time.Duration(s * float64(time.Second))) }
	refused := func(side, by, peer, client string, start float64) failure {
		return failure{Side: side, By: by, Peer: peer, Client: client, Start: at(start), End: at(start + 0.01), Reason: side + "'s reason"}
	}
	for _, test := range []struct {
		name                string
		failures            []failure
		downs               []down
		failed, interrupted int
	}{
		{"both halves", []failure{refused("client", "a", "b", "1:1", 1), refused("server", "b", "", "1:1", 1)}, nil, 1, 0},
		{"seen by the server alone", []failure{refused("server", "b", "", "1:1", 1)}, nil, 1, 0},
		{"one port twice", []failure{refused("client", "a", "b", "1:1", 1), refused("client", "a", "b", "1:1", 50), refused("server", "b", "", "1:1", 50)}, nil, 2, 0},
		{"two servers", []failure{refused("client", "a", "b", "1:1", 1), refused("server", "c", "", "1:1", 1)}, nil, 2, 0},
		{"while the server was down", []failure{refused("client", "a", "b", "", 5)}, []down{{"b", at(4), at(6)}}, 0, 1},
		{"under way at the kill", []failure{refused("client", "a", "b", "", 3.995)}, []down{{"b", at(4), at(6)}}, 0, 1},
		{"before the kill", []failure{refused("client", "a", "b", "", 3)}, []down{{"b", at(4), at(6)}}, 1, 0},
		{"after it came back", []failure{refused("client", "a", "b", "", 6.5)}, []down{{"b", at(4), at(6)}}, 1, 0},
		{"somebody else was down", []failure{refused("client", "a", "b", "", 5)}, []down{{"c", at(4), at(6)}}, 1, 0},
		{"the client was killed", []failure{refused("server", "b", "", "1:1", 3.999)}, []down{{"a", at(4), at(6)}}, 0, 1},
	} {
		l := ledger{failures: test.failures, downs: test.downs, dialers: 2}
		c := l.close()
		if len(c.failed) != test.failed || len(c.interrupted) != test.interrupted || c.excess != "" {
			t.Errorf("%s: %d failed, %d interrupted, %s", test.name, len(c.failed), len(c.interrupted), c.excess)
		}
	}
	both := merge([]failure{refused("client", "a", "b", "1:1", 1), refused("server", "b", "", "1:1", 1)})
	if len(both) != 1 || !strings.Contains(both[0].Reason, "server's reason") {
		t.Errorf("%+v", both)
	}
	many := ledger{downs: []down{{"b", at(4), at(4.1)}}, dialers: 1}
	for range 100 {
		many.failures = append(many.failures, refused("client", "a", "b", "", 4.05))
	}
	if c := many.close(); c.excess == "" {
		t.Errorf("100 interrupted exchanges of one dialer in 0.1 s are explained: %d", len(c.interrupted))
	}
}

// What must be shown: five and twenty nodes, ten times each, and nobody is ever refused.
func TestManyRuns(t *testing.T) {
	long(t)
	for _, nodes := range []string{"5", "20"} {
		for n := range 10 {
			code, out, errors := runs(t, "-nodes", nodes)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			t.Logf("run %d: %s", n+1, lines[len(lines)-1])
			if code != 0 {
				t.Fatalf("code %d, %s\n%s", code, errors, out)
			}
		}
	}
}

// B22, B34, B35: the driver is killed at a random moment of each of a hundred rollovers; each completes, and nobody is
// refused. By default a few of them.
func TestDriverIsKilled(t *testing.T) {
	times := 5
	if os.Getenv("CLUSTERCA_LONG") != "" {
		times = 100
	}
	t.Setenv("TMPDIR", t.TempDir())
	ctx := t.Context()
	c, err := newCluster(ctx, options{nodes: 3, algorithms: []keystore.Algorithm{keystore.P256}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	s := &story{cluster: c, show: newDisplay(io.Discard, false), began: time.Now(), drawing: newTimeline(time.Now())}
	for _, n := range c.nodes {
		if err := c.dial(n); err != nil {
			t.Fatal(err)
		}
	}
	phases := make(map[verify.Phase]int)
	for n := range times {
		if err := c.ca.Rollover(ctx, keystore.P256); err != nil {
			t.Fatal(err)
		}
		// Somewhere in one of the phases, each in turn.
		begun := []verify.Phase{verify.Settled, verify.Trust, verify.Switch, verify.Drop}[n%4]
		if err := s.until(ctx, func(now rotation.Status) bool {
			return now.State.Phase == begun || now.State.Phase == verify.Settled && now.State.Signer == n+2
		}); err != nil {
			t.Fatal(err)
		}
		if err := sleep(ctx, rand.N(50*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		c.daemon.kill()
		status, err := c.ca.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		phases[status.State.Phase]++
		if err := c.startDaemon(); err != nil {
			t.Fatal(err)
		}
		if err := s.until(ctx, func(now rotation.Status) bool {
			return now.State.Phase == verify.Settled && now.State.Pending == nil && now.State.Signer == n+2
		}); err != nil {
			t.Fatalf("rollover %d, killed in %s: %v", n+1, status.State.Phase, err)
		}
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	counted := c.ledger.close()
	for _, phase := range []verify.Phase{verify.Settled, verify.Trust, verify.Switch, verify.Drop} {
		if phases[phase] == 0 && times >= 100 {
			t.Errorf("the driver was never killed in %s", phase)
		}
	}
	t.Logf("%d rollovers, killed in %v, %d handshakes, %d failed", times, phases, counted.good, len(counted.failed))
	if len(counted.failed)+len(counted.interrupted) > 0 || counted.good == 0 {
		t.Errorf("failed: %+v", append(counted.failed, counted.interrupted...)[:min(5, len(counted.failed)+len(counted.interrupted))])
	}
}

// Whoever stops the program is left with nothing: no process, no directory.
func TestInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var out stopAt
	out.cancel = cancel
	code := run(ctx, []string{"-nodes", "2"}, &out, io.Discard)
	if code != 1 {
		t.Errorf("code %d", code)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "livecluster-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// stopAt stops the program when it begins to renew.
type stopAt struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (s *stopAt) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("renew one")) {
		s.cancel()
	}
	return s.Buffer.Write(b)
}

// A process of the program that cannot start says why.
func TestProcessFails(t *testing.T) {
	heard := make(chan event, 4)
	p, err := spawn("node", "node", []string{t.TempDir() + "/empty", "127.0.0.1:0", "127.0.0.1:1"}, func(e event) { heard <- e })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.address(); err == nil {
		t.Error("it serves without being enrolled")
	}
	if e := <-heard; !strings.Contains(e.Error, "enrol first") {
		t.Errorf("it said %+v", e)
	}
}
