// Package ladder answers: does each package import only those below it?
package ladder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/clusterca/clusterca"

// rungs, from the bottom. A package may import packages of lower rungs, and none of its own.
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
	"ca":               {"net", "crypto/tls", module + "/keystore/keytest", module + "/keystore/storetest"},
	"verify":           {"net", "crypto/tls", "os"},
	"fingerprint":      {"net", "crypto/tls", "os"},
	"internal/dsse":    {module + "/fingerprint"},
	"internal/durable": {module + "/fingerprint"},
}

// apart are those that nobody imports.
var apart = []string{"", "internal/ladder", "internal/apilist", "internal/testcount", "internal/outside"}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	packages := list(t)
	for _, p := range packages {
		for _, finding := range judge(p) {
			t.Error(finding)
		}
	}
	for path := range heights() {
		if !slices.ContainsFunc(packages, func(p listed) bool { return p.ImportPath == path }) {
			t.Errorf("%s stands on a rung and is no package", path)
		}
	}
}

// The judge itself: each row is an import that must never pass a review.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		from, imported string
		found          bool
	}{
		{"ca", module + "/keystore", false},
		{"ca", "crypto/x509", false},
		{"keystore", module + "/ca", true},
		{"rotation/live", module + "/rotation", true},
		{"rotation", module + "/rotation/live", true},
		{"keystore/keytest", module + "/keystore/storetest", true},
		{"ca", "crypto/tls", true},
		{"ca", "net", true},
		{"ca", "net/url", false},
		{"verify", "golang.org/x/crypto/ocsp", true},
		{"verify", module + "/internal/ladder", true},
		{"ca", module + "/examples/livecluster", true},
		{"rotation/rolling", "fmt", true},
	} {
		found := judge(listed{module + "/" + test.from, []string{test.imported}})
		if (len(found) > 0) != test.found {
			t.Errorf("%s imports %s: %q", test.from, test.imported, found)
		}
	}
}

func heights() map[string]int {
	of := make(map[string]int)
	for i, rung := range rungs {
		for _, p := range rung {
			of[module+"/"+p] = i + 1
		}
	}
	return of
}

// judge says which imports of p the ladder forbids.
func judge(p listed) (findings []string) {
	name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	height := heights()
	switch {
	case slices.Contains(apart, name):
		return nil
	case height[p.ImportPath] == 0:
		return []string{p.ImportPath + " stands on no rung: say in this test where it belongs"}
	}
	for _, imported := range p.Imports {
		ours := imported == module || strings.HasPrefix(imported, module+"/")
		why := ""
		switch below := height[imported]; {
		case slices.Contains(never[name], imported):
			why = "which it never may"
		case ours && (below == 0 || below >= height[p.ImportPath]):
			why = "which is not below it"
		case !ours && strings.Contains(strings.Split(imported, "/")[0], "."):
			why = "and stands on the standard library alone"
		default:
			continue
		}
		findings = append(findings, fmt.Sprintf("%s imports %s, %s", p.ImportPath, imported, why))
	}
	return findings
}

// list is every package of the root module, with what it imports itself, tests left aside.
func list(t *testing.T) (packages []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
