package main

import (
	"bytes"
	"strings"
	"testing"
)

// Lines of go test -json, shortened to what counts.
const (
	pass = `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`
	skip = `{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    x_test.go:3: long: run ./test.sh -long\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
`
	fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"    x_test.go:9: the reason\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p"}
`
	unbuilt = `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"output","Package":"q","Output":"FAIL\tq [build failed]\n"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
`
	untested = `{"Action":"output","Package":"r","Output":"?   \tr\t[no test files]\n"}
{"Action":"skip","Package":"r"}
`
	ended  = `{"Action":"module","Package":".","Status":0}` + "\n"
	failed = `{"Action":"module","Package":"./n","Status":1}` + "\n"
)

func TestCount(t *testing.T) {
	for _, test := range []struct {
		name, in, last string
		says           string
		code           int
	}{
		{"all well", pass + skip + ended, "1 passed, 0 failed, 1 skipped", "skip  TestB: long: run ./test.sh -long\n", 0},
		{"a package's time", pass, "1 passed, 0 failed, 0 skipped", "1.5 s", 0},
		{"one failed", pass + fail + failed, "1 passed, 1 failed, 0 skipped", "the reason", 1},
		{"nothing ran", "", "0 passed, 0 failed, 0 skipped", "", 1},
		{"only skipped", skip + ended, "0 passed, 0 failed, 1 skipped", "", 1},
		{"does not build", pass + unbuilt + failed, "1 passed, 1 failed, 0 skipped", "undefined: x", 1},
		{"a race after the tests", pass + `{"Action":"output","Package":"s","Output":"testing: race detected outside of test execution\n"}
{"Action":"fail","Package":"s"}`, "1 passed, 1 failed, 0 skipped", "race detected", 1},
		{"no tests in a package", pass + untested + ended, "1 passed, 0 failed, 0 skipped", "", 0},
		{"a warning that is not JSON", pass + "go: downloading\n" + ended, "1 passed, 0 failed, 0 skipped", "go: downloading", 0},
		{"a module that cannot be read", pass + ended + "go: errors parsing go.mod\n" + failed, "1 passed, 1 failed, 0 skipped", "FAIL  module ./n", 1},
		{"a line too long", pass + strings.Repeat("x", maxLine+1), "1 passed, 1 failed, 0 skipped", "could not be read", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := count(strings.NewReader(test.in), &out)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got := lines[len(lines)-1]; got != test.last || code != test.code || !strings.Contains(out.String(), test.says) {
				t.Errorf("code %d, want %d and %q, output:\n%.2000s", code, test.code, test.last, &out)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for _, test := range []struct{ output, want string }{
		{"=== RUN   T\n|    x_test.go:3: no openssl\n|--- SKIP: T (0.00s)\n", "no openssl"},
		{"    x_test.go:3: only root\n|        gives files away\n", "only root gives files away"},
		{"    --- SKIP: T (0.00s)\n", "without a reason"},
	} {
		if got := reason(strings.Split(test.output, "|")); got != test.want {
			t.Errorf("reason of %q is %q, want %q", test.output, got, test.want)
		}
	}
}
