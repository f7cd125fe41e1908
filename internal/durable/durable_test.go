package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func tree(t *testing.T) *Tree {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	tree := &Tree{Root: root}
	if err := tree.MkdirAll(Temp); err != nil {
		t.Fatal(err)
	}
	return tree
}

var errFault = errors.New("fault")

// failFrom lets n calls of Fault pass; then every one fails, as after a kill, or only the first, as of a bad disk.
func failFrom(n int, killed bool, trace *[]string) func(string, bool) error {
	return func(operation string, done bool) error {
		if done {
			operation += " done"
		}
		n--
		if n == -1 || n < 0 && killed {
			*trace = append(*trace, operation)
			return errFault
		}
		return nil
	}
}

// A50: whichever step fails or is the last one before a kill, the file is the old one or the new one, and what is left
// over is removed by the next start.
func TestWriteFailsAtEveryStep(t *testing.T) {
	for _, killed := range []bool{true, false} {
		last := ""
		for n := 0; ; n++ {
			tree := tree(t)
			if err := tree.Write("file", []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			var trace []string
			tree.Fault = failFrom(n, killed, &trace)
			err := tree.Write("file", []byte("new and longer"), 0o600)
			tree.Fault = nil
			if len(trace) == 0 {
				if last != "flush directory done" {
					t.Errorf("the last step is %q", last)
				}
				break
			}
			last = trace[0]
			if !errors.Is(err, errFault) {
				t.Errorf("killed %v at %s: %v", killed, last, err)
			}
			data, err := tree.Root.ReadFile("file")
			if got := string(data); err != nil || got != "old" && got != "new and longer" {
				t.Errorf("killed %v at %s: holds %q, %v", killed, last, got, err)
			}
			if renamed := last == "rename done" || strings.HasPrefix(last, "flush directory"); renamed != (string(data) != "old") {
				t.Errorf("killed %v at %s: holds %q", killed, last, data)
			}
			if err := tree.Clean(); err != nil {
				t.Error(err)
			}
			if left, err := fs.ReadDir(tree.Root.FS(), Temp); err != nil || len(left) != 0 {
				t.Errorf("killed %v at %s: %d files left over, %v", killed, last, len(left), err)
			}
		}
	}
}

// A kill leaves a temporary file, or the test above would prove nothing about Clean.
func TestKillLeavesTemporaryFile(t *testing.T) {
	tree := tree(t)
	var trace []string
	tree.Fault = failFrom(3, true, &trace)
	if err := tree.Write("file", []byte("new"), 0o600); err == nil {
		t.Fatal("no error")
	}
	if left, _ := fs.ReadDir(tree.Root.FS(), Temp); len(left) != 1 {
		t.Errorf("%d files left over after %q", len(left), trace)
	}
}

// An error of a bad disk, and not a kill: nothing of a key stays behind in the temporary directory.
func TestErrorLeavesNoTemporaryFile(t *testing.T) {
	tree := tree(t)
	var trace []string
	tree.Fault = failFrom(3, false, &trace)
	if err := tree.Write("file", []byte("new"), 0o600); err == nil {
		t.Fatal("no error")
	}
	if left, _ := fs.ReadDir(tree.Root.FS(), Temp); len(left) != 0 {
		t.Errorf("%d files left over after %q", len(left), trace)
	}
}

// DESIGN §9: two fsync calls, of the file before its rename and of the directory after it.
func TestWriteSyncsTwice(t *testing.T) {
	tree := tree(t)
	before := tree.Syncs()
	var order []string
	tree.Fault = func(operation string, done bool) error {
		if done {
			order = append(order, operation)
		}
		return nil
	}
	if err := tree.Write("file", []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := tree.Syncs() - before; n != 2 {
		t.Errorf("%d fsync calls, want 2", n)
	}
	if got := strings.Join(order, ", "); got != "create, write, mode, flush, rename, flush directory" {
		t.Errorf("order: %s", got)
	}
}

// A caller that was killed after the removal and before the flush removes again: only then is it durable.
func TestRemoveAgainFlushes(t *testing.T) {
	tree := tree(t)
	if err := tree.Write("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var trace []string
	tree.Fault = failFrom(1, true, &trace)
	if err := tree.Remove("file"); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	tree.Fault = nil
	before := tree.Syncs()
	if err := tree.Remove("file"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errFault) {
		t.Errorf("removed again: %v, want fs.ErrNotExist", err)
	}
	if tree.Syncs() == before {
		t.Error("the absence was not flushed")
	}
}

func TestMkdirAll(t *testing.T) {
	tree := tree(t)
	if err := tree.MkdirAll("a/b/c"); err != nil {
		t.Fatal(err)
	}
	before := tree.Syncs()
	if err := tree.MkdirAll("a/b/c"); err != nil || tree.Syncs() != before {
		t.Errorf("again: %v, %d fsync calls", err, tree.Syncs()-before)
	}
	if err := tree.Write("a/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tree.Root.Symlink("b", "a/link"); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{"a/file", "a/file/below", "a/link"} {
		if err := tree.MkdirAll(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want an error that says it is no directory", name, err)
		}
	}
}

func TestInPlace(t *testing.T) {
	tree := tree(t)
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	holds := func(name, want string) {
		t.Helper()
		if data, err := tree.Root.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v, want %q", name, data, err, want)
		}
	}
	before := tree.Syncs()
	step(tree.Overwrite("count", []byte("0001")))
	step(tree.Overwrite("count", []byte("0002")))
	holds("count", "0002")
	step(tree.Append("list", []byte("one\n"), false))
	step(tree.Append("list", []byte("two\n"), false))
	holds("list", "one\ntwo\n")
	step(tree.Append("list", []byte("three\n"), true))
	holds("list", "three\n")
	if n := tree.Syncs() - before; n != 0 {
		t.Errorf("%d fsync calls for hints", n)
	}
}

// Nothing outside the tree is written, whatever the name.
func TestStaysInside(t *testing.T) {
	tree := tree(t)
	if err := tree.Write("../outside", []byte("x"), 0o600); err == nil {
		t.Error("wrote outside")
	}
	if _, err := os.Stat(filepath.Join(tree.Root.Name(), "../outside")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Place leaves the flush of the directory to another call, Move and Put make theirs.
func TestFlushesOfTheDirectory(t *testing.T) {
	tree := tree(t)
	for _, test := range []struct {
		name string
		do   func() error
		want uint64
	}{
		{"place", func() error { return tree.Place("a", File{Mode: 0o440}) }, 1},
		{"put", func() error { return tree.Put("b", File{Mode: 0o440}) }, 2},
		{"move", func() error { return tree.Move("a", "b") }, 1},
		{"drop", func() error { return tree.Drop("b") }, 0},
		{"drop what is not there", func() error { return tree.Drop("b") }, 0},
	} {
		before := tree.Syncs()
		if err := test.do(); err != nil {
			t.Fatal(err)
		}
		if n := tree.Syncs() - before; n != test.want {
			t.Errorf("%s: %d fsync calls, want %d", test.name, n, test.want)
		}
	}
}

// A file is of its owner before others can read it, and others' never in between.
func TestPutOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	tree := tree(t)
	var order []string
	tree.Fault = func(operation string, done bool) error {
		if done {
			order = append(order, operation)
		}
		return nil
	}
	if err := tree.Put("file", File{Mode: 0o440, Owner: &Owner{12345, 23456}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ", "); got != "create, write, owner, mode, flush, rename, flush directory" {
		t.Errorf("order: %s", got)
	}
	if info, err := tree.Root.Stat("file"); err != nil || info.Mode() != 0o440 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
