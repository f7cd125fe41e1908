// Package ladder keeps the import direction: each package imports only those below it.
package ladder

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/clusterca/clusterca"

// rungs, from the bottom. A package may import packages of lower rungs, and of its own rung's internal ones none.
var rungs = [][]string{
	{"internal/durable", "internal/dsse"},
	{"fingerprint"},
	{"keystore"},
	{"keystore/keytest", "keystore/storetest"},
	{"ca"},
	{"verify"},
	{"rotation/live"},
	{"rotation"},
	{"rotation/member"},
	{"examples/livecluster"},
}

// never are imports that a ladder alone would allow.
var never = map[string][]string{
	"rotation":         {module + "/rotation/live", "crypto/tls", "net"},
	"rotation/live":    {module + "/rotation"},
	"ca":               {"net", "crypto/tls"},
	"verify":           {"net", "crypto/tls", "os"},
	"fingerprint":      {"net", "crypto/tls", "os"},
	"internal/dsse":    {module + "/fingerprint"},
	"internal/durable": {module + "/fingerprint"},
}

// free of the ladder: they are imported by nobody.
var apart = []string{"", "internal/ladder", "internal/apilist", "internal/testcount"}

type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func TestImports(t *testing.T) {
	packages := list(t, "-e", "./...")
	height := make(map[string]int)
	for i, rung := range rungs {
		for _, p := range rung {
			height[module+suffix(p)] = i + 1
		}
	}
	for path, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		if slices.Contains(apart, name) {
			continue
		}
		if height[path] == 0 {
			t.Errorf("%s stands on no rung: say in this test where it belongs", path)
			continue
		}
		for _, imported := range p.Imports {
			switch below, ours := height[imported]; {
			case ours && below >= height[path]:
				t.Errorf("%s imports %s, which is not below it", path, imported)
			case slices.Contains(never[name], imported):
				t.Errorf("%s imports %s", path, imported)
			case !ours && strings.Contains(strings.Split(imported, "/")[0], "."):
				t.Errorf("%s imports %s: the standard library alone", path, imported)
			}
		}
	}
}

func suffix(p string) string { return "/" + p }

func list(t *testing.T, args ...string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := make(map[string]listed)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}
