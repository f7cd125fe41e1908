// Package apilist answers: what is exported, and does all of it stand in an Example? The golden listing makes growth a
// line in a diff. After a change on purpose: go test ./internal/apilist -update
package apilist

import (
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden listing")

const (
	golden = "testdata/api.txt"
	module = "github.com/clusterca/clusterca"
)

// public finds every package that others can import and that is not a program.
func public(t *testing.T) (paths []string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{if ne .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		path, below := strings.CutPrefix(path, module+"/")
		if below && !strings.HasPrefix(path, "internal/") {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestAPI(t *testing.T) {
	var lines []string
	for _, p := range public(t) {
		lines = append(lines, exported(t, p)...)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
	for _, line := range lines {
		if !slices.Contains(old, line) {
			t.Errorf("new:  %s", line)
		}
	}
	for _, line := range old {
		if !slices.Contains(lines, line) {
			t.Errorf("gone: %s", line)
		}
	}
	if t.Failed() {
		t.Log("if this is meant: go test ./internal/apilist -update")
	}
}

// documentation reads a package's files, whatever system they are for, without its tests.
func documentation(t *testing.T, path string) *doc.Package {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", path, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, f, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	d, err := doc.NewFromFiles(set, parsed, path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// exported lists a package's constants, variables, types with their exported fields and methods, and functions.
func exported(t *testing.T, path string) []string {
	t.Helper()
	d := documentation(t, path)
	l := lister{path: path}
	l.values("const", d.Consts)
	l.values("var", d.Vars)
	l.funcs(d.Funcs)
	for _, typ := range d.Types {
		l.typ(typ)
	}
	return l.lines
}

type lister struct {
	path  string
	lines []string
}

func (l *lister) add(s string) { l.lines = append(l.lines, l.path+": "+s) }

func (l *lister) values(kind string, values []*doc.Value) {
	for _, v := range values {
		for _, name := range v.Names {
			if ast.IsExported(name) {
				l.add(kind + " " + name)
			}
		}
	}
}

func (l *lister) funcs(funcs []*doc.Func) {
	for _, f := range funcs {
		decl := *f.Decl
		decl.Body, decl.Doc = nil, nil
		l.add(l.text(&decl))
	}
}

func (l *lister) typ(typ *doc.Type) {
	l.values("const", typ.Consts)
	l.values("var", typ.Vars)
	l.funcs(typ.Funcs)
	l.funcs(typ.Methods)
	for _, spec := range typ.Decl.Specs {
		s := spec.(*ast.TypeSpec)
		switch body := s.Type.(type) {
		case *ast.StructType:
			l.add("type " + s.Name.Name + " struct")
			l.fields(s.Name.Name, body.Fields)
		case *ast.InterfaceType:
			l.add("type " + s.Name.Name + " interface")
			l.fields(s.Name.Name, body.Methods)
		default:
			l.add("type " + s.Name.Name + " " + l.text(s.Type))
		}
	}
}

func (l *lister) fields(of string, fields *ast.FieldList) {
	for _, f := range fields.List {
		for _, name := range f.Names {
			if name.IsExported() {
				l.add(of + "." + name.Name + " " + l.text(f.Type))
			}
		}
		if len(f.Names) == 0 {
			l.add(of + " embeds " + l.text(f.Type))
		}
	}
}

func (l *lister) text(node any) string {
	var b strings.Builder
	printer.Fprint(&b, token.NewFileSet(), node)
	return strings.Join(strings.Fields(b.String()), " ")
}
