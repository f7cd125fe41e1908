//go:build unix

package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// full is a directory whose disk can be made full and emptied again.
type full struct {
	path        string
	fill, empty func()
	is          error // what the system then says
}

// limitVariable makes a run of the test binary the one whose files may not grow: go test writes a file of its own at
// the end.
const limitVariable = "KEYSTORE_TEST_LIMIT"

// bySize stands for a full disk where no small one can be had: no file may grow beyond its first bytes.
func bySize(t *testing.T) full {
	t.Helper()
	var before syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	signal.Ignore(syscall.SIGXFSZ)
	set := func(l syscall.Rlimit) func() { return func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)) } }
	few := before
	few.Cur = 100 // the revision counter, which is written in place, still fits
	f := full{filepath.Join(t.TempDir(), "dir"), set(few), set(before), syscall.EFBIG}
	t.Cleanup(func() { f.empty(); signal.Reset(syscall.SIGXFSZ) })
	return f
}

// issue 3, B62, B102: on a full disk each write is an error that says so, what was there stays and is read, and nothing
// of a key is left over; when there is room again, the same calls do what they did not, and no revision is used twice.
func TestFullDisk(t *testing.T) {
	for name, make := range map[string]func(*testing.T) full{"full": bySpace, "limit": bySize} {
		for kind, c := range map[string]DirConfig{"plain": {}, "encrypted": {Passphrase: says("horse")}} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				if name == "limit" && os.Getenv(limitVariable) == "" {
					again(t)
					return
				}
				fillsUp(t, make(t), c)
			})
		}
	}
}

// again runs the same test in a process of its own.
func again(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), limitVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func fillsUp(t *testing.T, f full, c DirConfig) {
	d := reopenAs(t, c, f.path)
	kept, err := d.Generate(background, "kept", P256)
	must(t, err)
	old, err := d.Replace(background, "old", 0, []byte("old"))
	must(t, err)

	f.fill()
	big := bytes.Repeat([]byte("x"), 5000)
	for what, err := range map[string]error{
		"replace":  second(d.Replace(background, "old", old, big)),
		"create":   second(d.Replace(background, "new", 0, big)),
		"generate": second(d.Generate(background, "new", P256)),
	} {
		if !errors.Is(err, f.is) || !strings.HasPrefix(err.Error(), "keystore: "+strings.Replace(what, "create", "replace", 1)) {
			t.Errorf("%s: %v, want %v", what, err, f.is)
		}
	}
	if again, err := d.Generate(background, "kept", P256); err != nil || !bytes.Equal(marshalPublic(t, again.Public()), marshalPublic(t, kept.Public())) {
		t.Errorf("the key that was there: %v", err)
	}
	list, seen, err := d.List(background, "")
	if err != nil || len(list) != 1 || string(list[0].Value) != "old" {
		t.Errorf("%v, %v", list, err)
	}
	if labels, err := d.Labels(background); err != nil || len(labels) != 1 {
		t.Errorf("labels %q, %v", labels, err)
	}
	if left, err := d.entries("tmp"); err != nil || len(left) != 0 {
		t.Errorf("%d temporary files, %v", len(left), err)
	}
	restarted := reopenAs(t, c, f.path) // which a full disk does not keep from starting

	f.empty()
	for i, d := range []*Dir{d, restarted} {
		must(t, second(d.Generate(background, fmt.Sprintf("new-%d", i), P256)))
		r, err := d.Replace(background, fmt.Sprintf("new-%d", i), 0, big)
		if err != nil || r <= seen {
			t.Errorf("revision %d, %v; %d was seen", r, err, seen)
		}
		seen = r
	}
	if r, err := d.Replace(background, "old", old, big); err != nil || r <= seen {
		t.Errorf("revision %d, %v", r, err)
	}
}

// issue 3: nothing here depends on the clock. Under one that was set back by decades, so that every file is from the
// future, keys and records are found, revisions grow, and a watch hears of them.
func TestClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	d := reopen(t, path)
	s, err := d.Generate(background, "k", P256)
	must(t, err)
	r, err := d.Replace(background, "k", 0, []byte("new"))
	must(t, err)
	must(t, d.Close())
	synctest.Test(t, func(t *testing.T) {
		info, err := os.Stat(filepath.Join(path, "keys", "k.pem"))
		must(t, err)
		if ahead := time.Until(info.ModTime()); ahead < 20*365*24*time.Hour {
			t.Fatalf("the file is only %v ahead", ahead)
		}
		d, err := OpenDir(path)
		must(t, err)
		defer d.Close()
		again, err := d.Generate(background, "k", P256)
		if err != nil || !bytes.Equal(marshalPublic(t, again.Public()), marshalPublic(t, s.Public())) {
			t.Errorf("another key, %v", err)
		}
		next, err := d.Replace(background, "k", r, []byte("newer"))
		if err != nil || next != r+1 {
			t.Errorf("revision %d after %d, %v", next, r, err)
		}
		for record, err := range d.Watch(background, "", r) {
			if err != nil || string(record.Value) != "newer" {
				t.Errorf("%q, %v", record.Value, err)
			}
			break
		}
	})
}
