//go:build unix

package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Dir's other handle, with its own lock and its own list of who waits, is what another process has.

// B3: a watch hears of what other processes write, in order, removals too, by looking at the counter; and it reads only
// what changed: a record that nobody wrote may be spoilt meanwhile.
func TestWatchHearsOtherProcesses(t *testing.T) {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	d := newDir(t)
	other := reopen(t, d.path)
	_, err := d.Replace(background, "w/spoilt", 0, nil)
	must(t, err)
	last, err := d.Replace(background, "w/first", 0, nil)
	must(t, err)
	must(t, os.Truncate(filepath.Join(d.path, "records", "w", "spoilt.record"), 3))
	write := []func() error{
		func() error { _, err := other.Replace(background, "w/a", 0, []byte("1")); return err },
		func() error { _, err := other.Replace(background, "elsewhere", 0, nil); return err },
		func() error { return other.Remove(background, "w/a", last+1) },
		func() error { _, err := other.Replace(background, "w/a", 0, []byte("2")); return err },
	}
	var seen []string
	must(t, write[0]())
	for r, err := range d.Watch(ctx, "w/", last) {
		must(t, err)
		seen = append(seen, fmt.Sprintf("%d %s %q %v", r.Revision-last, r.Key, r.Value, r.Removed))
		if len(seen) == 3 {
			break
		}
		for _, next := range [][]func() error{write[1:3], write[3:]}[len(seen)-1] {
			must(t, next())
		}
	}
	want := []string{`1 w/a "1" false`, `3 w/a "" true`, `4 w/a "2" false`}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// The list of changes is a hint. Whatever is in it, a watch sees every record at its last revision.
func TestListOfChangesIsLost(t *testing.T) {
	for name, content := range map[string]string{
		"gone":        "",
		"cut off":     "1 a\n2 b\n3",
		"older":       "1 a\n",
		"of a gap":    "1 a\n2 b\n4 b\n",
		"not ours":    "1 a\n2 ../b\n3 c\n4 a\n",
		"half a line": "1 a\n2 b\n3 c\n4 a",
		"too long":    strings.Repeat("x", 2*maxChanges),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			for _, key := range []string{"a", "b", "c"} {
				_, err := d.Replace(background, key, 0, nil)
				must(t, err)
			}
			_, err := d.Replace(background, "a", 1, nil)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(d.path, changesFile), []byte(content), 0o600))
			news, now, err := d.since(background, "", 1)
			if err != nil || now != 4 || len(news) != 3 {
				t.Errorf("%v at %d, %v", news, now, err)
			}
			_, err = d.Replace(background, "b", 2, nil)
			must(t, err)
			if info, err := os.Stat(filepath.Join(d.path, changesFile)); err != nil || info.Size() > maxChanges {
				t.Errorf("the list was not begun anew: %v", err)
			}
			news, _, err = d.since(background, "", 4)
			if err != nil || len(news) != 1 || news[0].Key != "b" {
				t.Errorf("%v, %v", news, err)
			}
		})
	}
}

func TestParseChanges(t *testing.T) {
	const list = "7 b\n8 a\n9 b\n10 c/d\n"
	for _, test := range []struct {
		after, now Revision
		want       string
		ok         bool
	}{
		{10, 10, "", true},
		{9, 10, "c/d", true},
		{7, 10, "a b c/d", true},
		{6, 10, "a b c/d", true},
		{5, 10, "", false}, // 6 is not told of
		{9, 11, "", false}, // the writer of 11 was killed before it wrote its line
		{8, 9, "", false},  // the list is ahead of the counter: not of this history
	} {
		keys, ok := parseChanges([]byte(list), test.after, test.now)
		if ok != test.ok || ok && strings.Join(keys, " ") != test.want {
			t.Errorf("(%d, %d]: %q, %v", test.after, test.now, keys, ok)
		}
	}
}

// B3: no increment is lost between two handles with many goroutines each.
func TestHandlesCount(t *testing.T) {
	d := newDir(t)
	var group sync.WaitGroup
	for _, handle := range []*Dir{d, reopen(t, d.path), reopen(t, d.path)} {
		for range 4 {
			group.Go(func() {
				for range 10 {
					if err := increment(handle); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
	if r, err := d.Load(background, "counter"); err != nil || len(r.Value) != 120 || r.Revision != 120 {
		t.Errorf("%d increments at revision %d, %v", len(r.Value), r.Revision, err)
	}
}

func increment(d *Dir) error {
	for {
		var held Record
		if list, _, err := d.List(background, ""); err != nil {
			return err
		} else if len(list) > 0 {
			held = list[0]
		}
		_, err := d.Replace(background, "counter", held.Revision, append(held.Value, '+'))
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// A process that is stopped with the lock in its hands holds off writers only until their contexts end, and readers not.
func TestLockedElsewhere(t *testing.T) {
	d := newDir(t)
	first, err := d.Replace(background, "k", 0, nil)
	must(t, err)
	other := reopen(t, d.path)
	release, err := other.lock(background)
	must(t, err)
	if _, err := d.Load(background, "k"); err != nil {
		t.Errorf("load: %v", err)
	}
	ctx, cancel := context.WithCancel(background)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := d.Replace(ctx, "k", first, []byte("late")); !errors.Is(err, context.Canceled) {
				t.Errorf("replace: %v", err)
			}
		})
	}
	cancel()
	group.Wait()
	// One who is in the kernel already, waiting for the lock.
	file, err := d.tree.Root.OpenFile(lockFile, os.O_RDWR, 0)
	must(t, err)
	left := make(chan struct{})
	if waits, err := flock(ctx, file, func() { close(left) }); !waits || !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	// However many give up waiting, one goroutine, and with it one thread, waits on.
	before := runtime.NumGoroutine()
	for range 100 {
		short, cancel := context.WithTimeout(background, time.Millisecond)
		if _, err := d.Replace(short, "k", first, []byte("late")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("replace: %v", err)
		}
		cancel()
	}
	if n := runtime.NumGoroutine(); n > before+3 {
		t.Errorf("%d goroutines wait for the lock", n-before)
	}
	release()
	<-left
	if _, err := d.Replace(background, "k", first, []byte("new")); err != nil {
		t.Errorf("after the lock was given back: %v", err)
	}
}

// A reader in whose hands a file is replaced looks again: it gets a whole record, and never one older than its last.
func TestLoadWhileReplaced(t *testing.T) {
	d := newDir(t)
	first, err := d.Replace(background, "k", 0, nil)
	must(t, err)
	written := make(chan struct{})
	var group sync.WaitGroup
	for _, reader := range []*Dir{d, reopen(t, d.path)} {
		group.Go(func() {
			for last := first; ; {
				r, err := reader.Load(background, "k")
				if err != nil || r.Revision < last {
					t.Errorf("load: %d after %d, %v", r.Revision, last, err)
					return
				}
				last = r.Revision
				select {
				case <-written:
					return
				default:
				}
			}
		})
	}
	for r := first; r < 200; {
		r, err = d.Replace(background, "k", r, bytes.Repeat([]byte("x"), 1000))
		must(t, err)
	}
	close(written)
	group.Wait()
}

// Somebody removes the lock file, or puts another there, while a writer waits for it: the lock that it then gets would
// hold off nobody who comes later, so it is not taken for one.
func TestLockFileIsRemoved(t *testing.T) {
	d := newDir(t)
	name := filepath.Join(d.path, lockFile)
	file, err := os.Open(name)
	must(t, err)
	defer file.Close()
	must(t, os.Remove(name))
	info, err := file.Stat()
	must(t, err)
	if err := d.ours(lockFile, info); err == nil {
		t.Error("a file without a name passes for the lock")
	}
	release, err := d.lock(background)
	must(t, err)
	release()
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
	must(t, os.Remove(name))
	must(t, os.WriteFile(name, nil, 0o600))
	if err := d.ours(lockFile, info); !errors.Is(err, errReplaced) {
		t.Errorf("another file under the name: %v", err)
	}
}

// A restored copy is older than what a watcher has seen: it is told so, and lists again.
func TestRestoredCopy(t *testing.T) {
	d := newDir(t)
	_, err := d.Replace(background, "k", 0, []byte("1"))
	must(t, err)
	copied := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied, os.DirFS(d.path)))
	must(t, filepath.WalkDir(copied, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return errors.Join(err, os.Chmod(path, 0o600))
	}))
	seen, err := d.Replace(background, "k", 1, []byte("2"))
	must(t, err)
	restored := reopen(t, copied)
	for _, err := range restored.Watch(background, "", seen) {
		if !errors.Is(err, ErrHistoryGone) {
			t.Errorf("watch: %v", err)
		}
	}
	if r, err := restored.Load(background, "k"); err != nil || !bytes.Equal(r.Value, []byte("1")) {
		t.Errorf("%q, %v", r.Value, err)
	}
}

// Two starts at once, of which one makes the directory: both work, and neither cleans away what the other writes.
func TestOpenedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			d, err := OpenDir(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			if _, err := d.Generate(background, "k", P256); err != nil {
				t.Error(err)
			}
			if _, err := d.Replace(background, fmt.Sprintf("k-%d", i), 0, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	list, now, err := reopen(t, path).List(background, "")
	if err != nil || len(list) != 6 || now != 6 {
		t.Errorf("%d records at %d, %v", len(list), now, err)
	}
}

// After the last revision that fits there is an error, never a number used again.
func TestRevisionsEnd(t *testing.T) {
	d := newDir(t)
	must(t, d.setCounter(counter{maxRevision, maxRevision}))
	if r, err := d.Replace(background, "k", 0, nil); err == nil || r != 0 {
		t.Errorf("revision %d, %v", r, err)
	}
}
