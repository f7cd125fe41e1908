// Package outside answers, for tests: where is the independent program that judges what we made?
package outside

import (
	"os"
	"os/exec"
	"testing"
)

// Program finds a program, such as openssl or certtool. Where it is missing the test is skipped, and counted so; in CI,
// where test.sh has installed it, its absence is a failure: a judge that was never asked must not pass for content.
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing: test.sh installs it", name)
	default:
		t.Skipf("%s is missing: test.sh installs it", name)
	}
	return ""
}
