// Testcount reads the output of "go test -json" and says what a person wants to know: each package's result, the output
// of what failed, why tests were skipped, and on its last line "N passed, N failed, N skipped". Every test counts, those
// inside others too, and an Example is one. It exits with 1 when anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// event is a line of test2json, or one that test.sh adds when go test has ended in a module: {"Action":"module"}.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	Status                        int // of a module's go test
}

// name is a test in its package; an empty Test is the package itself.
type name struct{ pkg, test string }

type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	before                  int // failed when the last module ended
	output                  map[name][]string
	broken                  map[string]bool     // packages in which a test failed
	reasons                 map[string][]string // of skipped tests: their names
}

func main() { os.Exit(count(os.Stdin, os.Stdout)) }

func count(in io.Reader, out io.Writer) int {
	c := &counter{out: out, output: make(map[name][]string), broken: make(map[string]bool), reasons: make(map[string][]string)}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		c.take(e)
	}
	if err := lines.Err(); err != nil {
		c.failed++
		fmt.Fprintf(out, "FAIL  what go test said could not be read to its end: %v\n", err)
	}
	c.last()
	if c.failed > 0 || c.passed == 0 {
		return 1
	}
	return 0
}

// maxLine bounds a line of JSON: go test splits a test's output into lines, and the longest are those of a program.
const maxLine = 16 << 20

func (c *counter) take(e event) {
	n := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		c.output[n] = append(c.output[n], e.Output)
		return
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "pass":
		c.pass(e)
	case "skip":
		c.skip(e)
	case "fail":
		c.fail(e)
	case "module":
		c.module(e)
	default:
		return
	}
	delete(c.output, n)
}

func (c *counter) pass(e event) {
	if e.Test == "" {
		fmt.Fprintf(c.out, "ok    %-60s %6.1f s\n", e.Package, e.Elapsed)
		return
	}
	c.passed++
}

// skip leaves out packages without tests.
func (c *counter) skip(e event) {
	if e.Test == "" {
		return
	}
	c.skipped++
	why := reason(c.output[name{e.Package, e.Test}])
	c.reasons[why] = append(c.reasons[why], e.Test)
}

// fail counts a package that failed without a test that did: it did not build, panicked, or ran out of time.
func (c *counter) fail(e event) {
	if e.Test != "" {
		c.broken[e.Package] = true
	}
	if e.Test != "" || !c.broken[e.Package] {
		c.failed++
	}
	fmt.Fprintf(c.out, "FAIL  %s %s\n%s", e.Package, e.Test, strings.Join(c.output[name{e.Package, e.Test}], ""))
}

// module counts a go test that failed and named no test: a go.mod that cannot be read would otherwise pass in silence.
func (c *counter) module(e event) {
	if e.Status != 0 && c.failed == c.before {
		c.failed++
		fmt.Fprintf(c.out, "FAIL  module %s: go test exited with %d and named no test that failed\n", e.Package, e.Status)
	}
	c.before = c.failed
}

func (c *counter) last() {
	for _, why := range slices.Sorted(maps.Keys(c.reasons)) {
		fmt.Fprintf(c.out, "skip  %s: %s\n", strings.Join(c.reasons[why], ", "), why)
	}
	fmt.Fprintf(c.out, "\n%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
}

// reason is what t.Skip printed, with the lines that continue it.
func reason(output []string) string {
	for i, line := range output {
		_, text, ok := strings.Cut(line, ".go:")
		if !ok {
			continue
		}
		_, text, _ = strings.Cut(text, ": ")
		for _, more := range output[i+1:] {
			if strings.HasPrefix(strings.TrimSpace(more), "---") {
				break
			}
			text += more
		}
		return strings.Join(strings.Fields(text), " ")
	}
	return "without a reason"
}
