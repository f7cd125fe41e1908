// Testcount reads the output of "go test -json" and says what a person wants to know: each package's result, the output
// of what failed, why tests were skipped, and on its last line "N passed, N failed, N skipped". It exits with 1 when
// anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of test2json.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// name is a test in its package; an empty Test is the package itself.
type name struct{ pkg, test string }

type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[name][]string
	broken                  map[string]bool // packages in which a test failed
	reasons                 map[string]int  // of skipped tests
}

func main() { os.Exit(count(os.Stdin, os.Stdout)) }

func count(in io.Reader, out io.Writer) int {
	c := &counter{out: out, output: make(map[name][]string), broken: make(map[string]bool), reasons: make(map[string]int)}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		c.take(e)
	}
	for reason, n := range c.reasons {
		fmt.Fprintf(out, "skipped %d: %s\n", n, reason)
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if c.failed > 0 || c.passed == 0 || lines.Err() != nil {
		return 1
	}
	return 0
}

func (c *counter) take(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		c.output[n] = append(c.output[n], e.Output)
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "pass":
		c.pass(e)
	case "skip":
		if e.Test != "" {
			c.skipped++
			c.reasons[reason(c.output[n])]++
		}
	case "fail":
		c.fail(e)
	default:
		return
	}
	if e.Action != "output" {
		delete(c.output, n)
	}
}

func (c *counter) pass(e event) {
	if e.Test == "" {
		fmt.Fprintf(c.out, "ok    %-60s %6.1f s\n", e.Package, e.Elapsed)
		return
	}
	c.passed++
}

// fail counts a package that failed without a test that did: it did not build, panicked, or ran out of time.
func (c *counter) fail(e event) {
	if e.Test != "" {
		c.broken[e.Package] = true
	}
	if e.Test != "" || !c.broken[e.Package] {
		c.failed++
		fmt.Fprintf(c.out, "FAIL  %s %s\n%s", e.Package, e.Test, strings.Join(c.output[name{e.Package, e.Test}], ""))
	}
}

// reason is the line that t.Skip printed.
func reason(output []string) string {
	for _, line := range output {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "without a reason"
}
