//go:build unix

package keystore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A50, B102: whichever durable operation fails, before or after it was done, a reload finds the old value or the new
// one, and the operation run again completes.
func TestWriteFailsAtEveryStep(t *testing.T) {
	crash := errors.New("crash")
	for step := 0; ; step++ {
		path := t.TempDir() + "/dir"
		d, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		old, err := d.Replace(context.Background(), "a/k", 0, []byte("old"))
		if err != nil {
			t.Fatal(err)
		}
		left := step
		d.tree.Fault = func(string, bool) error {
			if left--; left < 0 {
				return crash
			}
			return nil
		}
		_, err = d.Replace(context.Background(), "a/k", old, []byte("new"))
		d.Close()
		if err == nil {
			if step == 0 {
				t.Fatal("no step could fail")
			}
			t.Logf("%d points", step)
			return
		}
		if !errors.Is(err, crash) {
			t.Fatalf("step %d: %v", step, err)
		}
		d, err = OpenDir(path)
		if err != nil {
			t.Fatalf("step %d: reopen: %v", step, err)
		}
		r, err := d.Load(context.Background(), "a/k")
		if err != nil || string(r.Value) != "old" && string(r.Value) != "new" {
			t.Fatalf("step %d: holds %q, %v", step, r.Value, err)
		}
		if next, err := d.Replace(context.Background(), "a/k", r.Revision, []byte("again")); err != nil || next <= r.Revision {
			t.Fatalf("step %d: run again: %d after %d, %v", step, next, r.Revision, err)
		}
		if entries, _ := d.entries("tmp"); len(entries) != 0 {
			t.Errorf("step %d: %d stray files", step, len(entries))
		}
		d.Close()
	}
}

// A50: a key is there whole or not at all, and Generate run again completes.
func TestGenerateFailsAtEveryStep(t *testing.T) {
	crash := errors.New("crash")
	for step := 0; ; step++ {
		d, err := OpenDir(t.TempDir() + "/dir")
		if err != nil {
			t.Fatal(err)
		}
		left := step
		d.tree.Fault = func(string, bool) error {
			if left--; left < 0 {
				return crash
			}
			return nil
		}
		_, err = d.Generate(context.Background(), "k", P256)
		d.tree.Fault = nil
		if err == nil {
			return
		}
		if _, err := d.Open(context.Background(), "k"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("step %d: half a key: %v", step, err)
		}
		if _, err := d.Generate(context.Background(), "k", P256); err != nil {
			t.Fatalf("step %d: run again: %v", step, err)
		}
	}
}

// DESIGN §9: a durable replacement costs two fsync calls.
func TestTwoSyncs(t *testing.T) {
	d, err := OpenDir(t.TempDir() + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r, err := d.Replace(context.Background(), "k", 0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	before := d.tree.Syncs()
	if _, err := d.Replace(context.Background(), "k", r, []byte("2")); err != nil {
		t.Fatal(err)
	}
	if n := d.tree.Syncs() - before; n != 2 {
		t.Errorf("a replacement took %d fsync calls, want 2", n)
	}
	before = d.tree.Syncs()
	if _, err := d.Generate(context.Background(), "k", P256); err != nil {
		t.Fatal(err)
	}
	if n := d.tree.Syncs() - before; n != 2 {
		t.Errorf("a key took %d fsync calls, want 2", n)
	}
}

// TestMain is also the other processes of the tests below.
func TestMain(m *testing.M) {
	if path := os.Getenv("KEYSTORE_TEST_COUNT"); path != "" {
		count(path)
		return
	}
	os.Exit(m.Run())
}

// count increments by compare-and-swap and says each number that is durable.
func count(path string) {
	d, err := OpenDir(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		r, err := d.Load(context.Background(), "counter")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Println("error", err)
			os.Exit(1)
		}
		n, _ := strconv.Atoi(string(r.Value))
		if _, err := d.Replace(context.Background(), "counter", r.Revision, []byte(strconv.Itoa(n+1))); err == nil {
			fmt.Println(n + 1)
		} else if !errors.Is(err, ErrConflict) {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
}

// A50: two processes count together while they are killed and started again: no number that one of them said is lost,
// and none is said twice.
func TestProcessesAreKilled(t *testing.T) {
	path := t.TempDir() + "/dir"
	said := make(map[int]bool)
	highest := 0
	for round := range 8 {
		for _, n := range countTogether(t, path, 10+round) {
			if said[n] {
				t.Errorf("round %d: %d was said twice", round, n)
			}
			said[n] = true
			highest = max(highest, n)
		}
		d, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Load(context.Background(), "counter")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		if n, _ := strconv.Atoi(string(r.Value)); n < highest {
			t.Errorf("round %d: counter is %d, %d was durable", round, n, highest)
		}
	}
	t.Logf("%d increments", highest)
}

// countTogether runs two counting processes and kills both when one has said enough numbers.
func countTogether(t *testing.T, path string, enough int) []int {
	t.Helper()
	numbers := make(chan int, 1<<16)
	done := make(chan struct{}, 2)
	var processes []*exec.Cmd
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KEYSTORE_TEST_COUNT="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, cmd)
		go func() {
			defer func() { done <- struct{}{} }()
			for lines := bufio.NewScanner(out); lines.Scan(); {
				n, err := strconv.Atoi(lines.Text())
				if err != nil {
					t.Errorf("process said %q", lines.Text())
					return
				}
				numbers <- n
			}
		}()
	}
	var all []int
	for len(all) < enough {
		all = append(all, <-numbers)
	}
	for _, cmd := range processes {
		cmd.Process.Kill()
	}
	<-done
	<-done
	for _, cmd := range processes {
		cmd.Wait()
	}
	close(numbers)
	for n := range numbers {
		all = append(all, n)
	}
	return all
}

// A42, A43, A52, B84: what is not as we left it is refused with an error that names it, and nothing is lost.
func TestBadFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(t *testing.T, key string)
		says string
	}{
		{"others can read it", func(t *testing.T, key string) { must(t, os.Chmod(key, 0o640)) }, "mode 0640"},
		{"symbolic link", func(t *testing.T, key string) {
			must(t, os.Rename(key, key+"-moved"))
			must(t, os.Symlink(filepath.Base(key)+"-moved", key))
		}, "symbolic link"},
		{"link out of the directory", func(t *testing.T, key string) {
			must(t, os.Remove(key))
			must(t, os.Symlink("/etc/hostname", key))
		}, "escapes"},
		{"hard link", func(t *testing.T, key string) { must(t, os.Link(key, key+"-too")) }, "2 hard links"},
		{"fifo", func(t *testing.T, key string) {
			must(t, os.Remove(key))
			must(t, mkfifo(key))
		}, "not a regular file"},
		{"directory", func(t *testing.T, key string) {
			must(t, os.Remove(key))
			must(t, os.Mkdir(key, 0o700))
		}, "not a regular file"},
		{"empty", func(t *testing.T, key string) { must(t, os.Truncate(key, 0)) }, "no PEM block"},
		{"cut off", func(t *testing.T, key string) { must(t, os.Truncate(key, 100)) }, "no PEM block"},
		{"too long", func(t *testing.T, key string) { must(t, os.Truncate(key, 1<<30)) }, "at most"},
		{"another kind", func(t *testing.T, key string) {
			must(t, os.WriteFile(key, []byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"), 0o600))
		}, "openssl pkcs8"},
		{"not a key", func(t *testing.T, key string) {
			must(t, os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600))
		}, "not a whole PKCS#8"},
		{"two keys", func(t *testing.T, key string) {
			data, err := os.ReadFile(key)
			must(t, err)
			must(t, os.WriteFile(key, append(data, data...), 0o600))
		}, "follow the key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := t.TempDir() + "/dir"
			d, err := OpenDir(path)
			must(t, err)
			defer d.Close()
			_, err = d.Generate(context.Background(), "k", P256)
			must(t, err)
			test.harm(t, filepath.Join(path, "keys", "k.pem"))
			_, err = d.Open(context.Background(), "k")
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("open: %v, want it to say %q", err, test.says)
			}
			if _, err := d.Generate(context.Background(), "k", P256); err == nil {
				t.Error("generate took its place: a key may be lost")
			}
		})
	}
}

// A43: the directory itself is judged too, and a stranger's file among the records is named.
func TestBadDirectory(t *testing.T) {
	path := t.TempDir() + "/dir"
	must(t, os.Mkdir(path, 0o755))
	must(t, os.Chmod(path, 0o755))
	if _, err := OpenDir(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a directory that others read: %v", err)
	}
	must(t, os.Chmod(path, 0o700))
	d, err := OpenDir(path)
	must(t, err)
	defer d.Close()
	must(t, os.WriteFile(filepath.Join(path, "records", "k.recrod"), []byte("revision 1\n"), 0o600))
	if _, _, err := d.List(context.Background(), ""); err == nil || !strings.Contains(err.Error(), "k.recrod") {
		t.Errorf("a name one letter off: %v", err)
	}
	must(t, os.Rename(filepath.Join(path, "records", "k.recrod"), filepath.Join(path, "records", "k.record")))
	must(t, os.WriteFile(filepath.Join(path, "records", "k.record"), []byte("revision"), 0o600))
	if _, err := d.Load(context.Background(), "k"); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("a record that was cut off: %v", err)
	}
	if _, err := d.Replace(context.Background(), "k", 0, nil); err == nil {
		t.Error("it was written over")
	}
}

// B62: the counter of revisions is not flushed by itself: after a power cut that lost it, the records are counted.
func TestRevisionAfterPowerCut(t *testing.T) {
	path := t.TempDir() + "/dir"
	d, err := OpenDir(path)
	must(t, err)
	first, err := d.Replace(context.Background(), "a", 0, nil)
	must(t, err)
	must(t, d.Remove(context.Background(), "a", first))
	d.Close()
	must(t, os.Truncate(filepath.Join(path, "revision"), 0))
	d, err = OpenDir(path)
	must(t, err)
	defer d.Close()
	if next, err := d.Replace(context.Background(), "b", 0, nil); err != nil || next != first+2 {
		t.Errorf("revision %d, %v, want %d: the removal spent one", next, err, first+2)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkReplace(b *testing.B) {
	d, err := OpenDir(b.TempDir() + "/dir")
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var r Revision
	for b.Loop() {
		if r, err = d.Replace(context.Background(), "k", r, make([]byte, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(d.tree.Syncs())/float64(b.N), "fsync/op")
}
