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
	"syscall"
	"testing"
)

var (
	background = context.Background()
	errCrash   = errors.New("crash")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reopen opens a directory that was not closed, as another process would.
func reopen(t *testing.T, path string) *Dir {
	t.Helper()
	return reopenAs(t, DirConfig{}, path)
}

// reopenAs takes few rounds of PBKDF2: what they cost is looked at elsewhere.
func reopenAs(t *testing.T, c DirConfig, path string) *Dir {
	t.Helper()
	d, err := c.Open(path)
	must(t, err)
	d.SetRounds(minRounds)
	t.Cleanup(func() { d.Close() })
	return d
}

func newDir(t *testing.T) *Dir {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "dir"))
}

// crashing is an operation that is crashed at every step.
type crashing struct {
	name   string
	config DirConfig
	// do returns an error when the operation did not happen, or not for sure.
	do func(d *Dir) error
	// done reports whether it happened; an error means that what is there is neither old nor new.
	done func(d *Dir) (bool, error)
}

func replaces(key string) crashing {
	return crashing{
		name: "replace " + key,
		do: func(d *Dir) error {
			held, err := d.Load(background, key)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			_, err = d.Replace(background, key, held.Revision, []byte("new"))
			return err
		},
		done: func(d *Dir) (bool, error) {
			r, err := d.Load(background, key)
			switch {
			case errors.Is(err, fs.ErrNotExist) && key != "old" || err == nil && string(r.Value) == "old":
				return false, nil
			case err == nil && string(r.Value) == "new":
				return true, nil
			}
			return false, fmt.Errorf("%q holds %q, %v", key, r.Value, err)
		},
	}
}

var crashings = []crashing{
	replaces("old"),
	replaces("new"),
	replaces("new/directory/of"),
	{
		name: "remove",
		do: func(d *Dir) error {
			held, err := d.Load(background, "old")
			if err != nil {
				return err
			}
			return d.Remove(background, "old", held.Revision)
		},
		done: func(d *Dir) (bool, error) {
			r, err := d.Load(background, "old")
			if err == nil && string(r.Value) != "old" {
				err = fmt.Errorf("holds %q", r.Value)
			}
			return errors.Is(err, fs.ErrNotExist), ignoreMissing(err)
		},
	},
	{
		name: "generate",
		do:   func(d *Dir) error { _, err := d.Generate(background, "k", P256); return err },
		done: func(d *Dir) (bool, error) { _, err := d.Open(background, "k"); return err == nil, ignoreMissing(err) },
	},
	{
		name:   "generate encrypted",
		config: DirConfig{Passphrase: says("horse")},
		do:     func(d *Dir) error { _, err := d.Generate(background, "k", P256); return err },
		done:   func(d *Dir) (bool, error) { _, err := d.Open(background, "k"); return err == nil, ignoreMissing(err) },
	},
	{
		name: "delete",
		do:   func(d *Dir) error { return d.Delete(background, "old") },
		done: func(d *Dir) (bool, error) {
			_, err := d.Open(background, "old")
			return errors.Is(err, fs.ErrNotExist), ignoreMissing(err)
		},
	},
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A50, B62: whichever step on the disk fails, or is the last before or after which the process is killed, what a
// process that goes on finds, and what the next start finds, is the old value or the new one; and done again, it is
// done.
func TestCrashAtEveryStep(t *testing.T) {
	for _, c := range crashings {
		for _, killed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/killed %v", c.name, killed), func(t *testing.T) {
				steps := 0
				for crashAt(t, c, steps, killed) {
					steps++
				}
				if steps < 4 {
					t.Errorf("only %d steps: the faults do not reach the disk", steps)
				}
			})
		}
	}
}

// olds are directories with a record and a key called old, plain and encrypted, which are made once: a copy takes no flush.
var olds = map[bool]string{}

// withOld returns a copy of one of olds.
func withOld(t *testing.T, c DirConfig) string {
	t.Helper()
	encrypted := c.Passphrase != nil
	if olds[encrypted] == "" {
		d, err := c.Open(filepath.Join(scratch, fmt.Sprintf("old-%v", encrypted)))
		must(t, err)
		d.SetRounds(minRounds)
		must(t, second(d.Replace(background, "old", 0, []byte("old"))))
		must(t, second(d.Generate(background, "old", P256)))
		must(t, d.Close())
		olds[encrypted] = d.path
	}
	path := filepath.Join(t.TempDir(), "dir")
	must(t, filepath.WalkDir(olds[encrypted], func(from string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path + strings.TrimPrefix(from, olds[encrypted])
		if e.IsDir() {
			return os.Mkdir(to, 0o700)
		}
		data, err := os.ReadFile(from)
		return errors.Join(err, os.WriteFile(to, data, 0o600))
	}))
	return path
}

// crashAt runs one operation on a fresh directory with a fault at one step; false when it has no such step.
func crashAt(t *testing.T, c crashing, step int, killed bool) bool {
	path := withOld(t, c.config)
	d := reopenAs(t, c.config, path)
	survivor := reopenAs(t, c.config, path)

	at, left := "", step
	renamed, flushed := false, false
	d.tree.Fault = func(operation string, done bool) error {
		left--
		renamed = renamed || done && operation == "rename"
		flushed = flushed || done && renamed && operation == "flush directory"
		if left == -1 || left < 0 && killed {
			at = fmt.Sprintf("step %d, %s, done %v", step, operation, done)
			return errCrash
		}
		return nil
	}
	err := c.do(d)
	if at == "" {
		must(t, err)
		return false
	}
	if err != nil && !errors.Is(err, errCrash) {
		t.Errorf("%s: %v", at, err)
	}
	d.tree.Fault = nil
	next := d // a disk that failed once: the process goes on
	if killed {
		next = survivor
	}
	before := next.tree.Syncs()
	_, first, listErr := next.List(background, "")
	happened, doneErr := c.done(next)
	if listErr != nil || doneErr != nil || err == nil && !happened {
		t.Errorf("%s: afterwards: happened %v after %v; %v, %v", at, happened, err, listErr, doneErr)
	}
	if first > 1 && !flushed && next.tree.Syncs() == before {
		t.Errorf("%s: revision %d was shown before it was flushed", at, first)
	}
	restarted := reopenAs(t, c.config, path)
	if again, err := c.done(restarted); err != nil || again != happened {
		t.Errorf("%s: after the restart: happened %v, before it %v; %v", at, again, happened, err)
	}
	if left, err := restarted.entries("tmp"); err != nil || len(left) != 0 {
		t.Errorf("%s: %d files left over, %v", at, len(left), err)
	}
	if err := c.do(restarted); err != nil && !(happened && errors.Is(err, fs.ErrNotExist)) {
		t.Errorf("%s: done again: %v", at, err)
	}
	if happened, err := c.done(restarted); !happened || err != nil {
		t.Errorf("%s: done again, it did not happen: %v", at, err)
	}
	r, err := restarted.Replace(background, "next", 0, nil)
	if err != nil || r <= first {
		t.Errorf("%s: revision %d (%v), %d was seen before", at, r, err, first)
	}
	return true
}

// A50: a directory whose making was crashed at any step is made by the next start.
func TestOpenCrashesAtEveryStep(t *testing.T) {
	for step := 0; ; step++ {
		path := filepath.Join(t.TempDir(), "dir")
		left := step
		d, err := DirConfig{}.open(path, func(operation string, done bool) error {
			if left == step && operation != "flush directory" {
				t.Errorf("%s before the new directory is sure to stay", operation)
			}
			if left--; left < 0 {
				return errCrash
			}
			return nil
		})
		if err == nil {
			d.Close()
			if step < 10 {
				t.Errorf("only %d steps", step)
			}
			return
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("step %d: %v", step, err)
		}
		d = reopen(t, path)
		if r, err := d.Replace(background, "k", 0, nil); err != nil || r != 1 {
			t.Fatalf("step %d: revision %d, %v", step, r, err)
		}
	}
}

// A record that is in place and not flushed is seen by nobody: a writer is stopped there, and a reader gets the value
// only after having flushed it. Without that, a power cut could take back what a member has acted on.
func TestUnflushedIsNotSeen(t *testing.T) {
	d := newDir(t)
	old, err := d.Replace(background, "k", 0, []byte("old"))
	must(t, err)
	reader := reopen(t, d.path)
	crashed := false
	d.tree.Fault = func(operation string, done bool) error {
		if crashed = crashed || operation == "rename" && done; crashed {
			return errCrash
		}
		return nil
	}
	if _, err := d.Replace(background, "k", old, []byte("new")); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	before := reader.tree.Syncs()
	r, err := reader.Load(background, "k")
	if err != nil || string(r.Value) != "new" || r.Revision != old+1 {
		t.Fatalf("%q at %d, %v", r.Value, r.Revision, err)
	}
	if n := reader.tree.Syncs() - before; n < 2 {
		t.Errorf("seen and not flushed: %d fsync calls, want records and what it is in", n)
	}
	before = reader.tree.Syncs()
	if _, err := reader.Load(background, "k"); err != nil || reader.tree.Syncs() != before {
		t.Errorf("the next reader flushed once more: %v", err)
	}
	reader.tree.Fault = func(string, bool) error { return errCrash }
	if _, err := reader.Load(background, "k"); err != nil {
		t.Errorf("a settled record needs the disk: %v", err)
	}
}

// A key whose maker was killed before its name was flushed is flushed by whoever finds it: what is recorded about it
// next may reach the disk first.
func TestFoundKeyIsFlushed(t *testing.T) {
	d := newDir(t)
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	before := d.tree.Syncs()
	_, err = d.Generate(background, "k", P256)
	must(t, err)
	if d.tree.Syncs() == before {
		t.Error("a key that was found was not flushed")
	}
}

// B62: the counter of revisions is not flushed by itself: after a power cut that lost it, or left anything in it, the
// records are counted, removed ones too.
func TestRevisionAfterPowerCut(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty":        {},
		"zeroes":       make([]byte, 62),
		"older":        counter{1, 1}.encode(),
		"in between":   counter{1, 2}.encode(),
		"half":         counter{3, 3}.encode()[:40],
		"not a number": []byte("committed 0000000000000000000x\nbegun     00000000000000000003\n"),
		"gone":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			_, err := d.Replace(background, "kept", 0, nil)
			must(t, err)
			r, err := d.Replace(background, "gone", 0, nil)
			must(t, err)
			must(t, d.Remove(background, "gone", r))
			d.Close()
			if content == nil {
				must(t, os.Remove(filepath.Join(d.path, revisionFile)))
			} else {
				must(t, os.WriteFile(filepath.Join(d.path, revisionFile), content, 0o600))
			}
			d = reopen(t, d.path)
			if next, err := d.Replace(background, "next", 0, nil); err != nil || next != 4 {
				t.Errorf("revision %d, %v, want 4: the removal was 3", next, err)
			}
		})
	}
}

// DESIGN §9: a durable replacement costs two fsync calls, a new key too, and a reader none.
func TestTwoSyncs(t *testing.T) {
	d := newDir(t)
	r, err := d.Replace(background, "k", 0, []byte("1"))
	must(t, err)
	for name, test := range map[string]struct {
		want uint64
		do   func() error
	}{
		"replace":  {2, func() error { _, err := d.Replace(background, "k", r, []byte("2")); return err }},
		"create":   {2, func() error { _, err := d.Replace(background, "k-2", 0, []byte("2")); return err }},
		"generate": {2, func() error { _, err := d.Generate(background, "k", P256); return err }},
		"load":     {0, func() error { _, err := d.Load(background, "k"); return err }},
		"list":     {0, func() error { _, _, err := d.List(background, ""); return err }},
		"reopen":   {0, func() error { return d.recount() }},
		"conflict": {0, func() error {
			if _, err := d.Replace(background, "k", 99, nil); !errors.Is(err, ErrConflict) {
				return fmt.Errorf("no conflict: %w", err)
			}
			return nil
		}},
	} {
		before := d.tree.Syncs()
		must(t, test.do())
		if n := d.tree.Syncs() - before; n != test.want {
			t.Errorf("%s took %d fsync calls, want %d", name, n, test.want)
		}
	}
}

// countVariable makes a run of the test binary one of the processes below.
const countVariable = "KEYSTORE_TEST_COUNT"

func TestMain(m *testing.M) {
	if path := os.Getenv(countVariable); path != "" {
		fmt.Println("error", count(path))
		os.Exit(1)
	}
	if task := os.Getenv(killVariable); task != "" {
		fmt.Println(killed(task))
		os.Exit(1)
	}
	os.Exit(run(m))
}

// scratch outlives a test.
var scratch string

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "keystore"); err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// killVariable makes a run of the test binary a process that does one of crashings, or a folder's change, and kills
// itself after one step on the disk.
const killVariable = "KEYSTORE_TEST_KILL"

// killed does a task, "operation step path"; it returns only if the operation has no such step.
func killed(task string) error {
	var operation, step int
	var path string
	if _, err := fmt.Sscan(task, &operation, &step, &path); err != nil {
		return err
	}
	fault := func(_ string, done bool) error {
		// After one step is before the next.
		if !done {
			return nil
		}
		if step--; step < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	if operation == len(crashings) {
		f, err := FolderConfig{Keep: 1}.Open(path)
		if err != nil {
			return err
		}
		p, err := f.Plan(folderWish...)
		if err != nil {
			return err
		}
		f.tree.Fault = fault
		return f.Apply(background, p)
	}
	c := crashings[operation]
	d, err := c.config.Open(path)
	if err != nil {
		return err
	}
	d.SetRounds(minRounds)
	d.tree.Fault = fault
	return c.do(d)
}

// killAt runs a task in a process of its own; done says that it was not killed, having no such step.
func killAt(t *testing.T, operation, step int, path string) (done bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s", killVariable, operation, step, path))
	out, err := cmd.Output()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return false
	}
	if string(out) != "<nil>\n" {
		t.Fatalf("step %d: %s, %v", step, out, err)
	}
	return true
}

// A50, B62, issue 3: a real SIGKILL after each step on the disk, as seen by the next process: the old state or
// the new one, and the operation run again completes.
func TestKillAtEveryStep(t *testing.T) {
	for i, c := range crashings {
		t.Run(c.name, func(t *testing.T) {
			for step := 0; ; step++ {
				path := withOld(t, c.config)
				if killAt(t, i, step, path) {
					if step < 2 {
						t.Errorf("only %d steps", step)
					}
					return
				}
				next := reopenAs(t, c.config, path)
				happened, err := c.done(next)
				must(t, err)
				if err := c.do(next); err != nil && !(happened && errors.Is(err, fs.ErrNotExist)) {
					t.Errorf("step %d: done again: %v", step, err)
				}
				if happened, err := c.done(next); !happened || err != nil {
					t.Errorf("step %d: done again, it did not happen: %v", step, err)
				}
				if left, err := next.entries("tmp"); err != nil || len(left) != 0 {
					t.Errorf("step %d: %d files left over, %v", step, len(left), err)
				}
			}
		})
	}
	t.Run("folder", func(t *testing.T) {
		for step := 0; ; step++ {
			f := folderToChange(t)
			if killAt(t, len(crashings), step, f.path) {
				if step < 20 {
					t.Errorf("only %d steps", step)
				}
				return
			}
			folderChanged(t, f.path, fmt.Sprintf("step %d", step))
		}
	})
}

// count increments by compare-and-swap for ever, and says each number that is durable.
func count(path string) error {
	d, err := OpenDir(path)
	if err != nil {
		return err
	}
	for {
		r, err := d.Load(background, "counter")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n, _ := strconv.Atoi(string(r.Value))
		_, err = d.Replace(background, "counter", r.Revision, []byte(strconv.Itoa(n+1)))
		if err == nil {
			fmt.Println(n + 1)
		} else if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// A50, B3: two processes count together while they are killed and started again: no number that one of them said is
// lost, and none is said twice.
func TestProcessesAreKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	said := make(map[int]bool)
	highest, revision := 0, Revision(0)
	for round := range 8 {
		for _, n := range countTogether(t, path, 10+3*round) {
			if said[n] {
				t.Errorf("round %d: %d was said twice", round, n)
			}
			said[n] = true
			highest = max(highest, n)
		}
		d := reopen(t, path)
		r, err := d.Load(background, "counter")
		must(t, err)
		if n, _ := strconv.Atoi(string(r.Value)); n < highest {
			t.Errorf("round %d: counter is %d, %d was durable", round, n, highest)
		}
		_, now, err := d.List(background, "")
		must(t, err)
		if r.Revision <= revision || now < r.Revision {
			t.Errorf("round %d: revision %d of %d after %d", round, r.Revision, now, revision)
		}
		revision = now
	}
	t.Logf("%d increments, %d revisions, 16 kills", highest, revision)
}

// countTogether runs two counting processes, kills both when they have said enough numbers, and returns the numbers.
func countTogether(t *testing.T, path string, enough int) []int {
	t.Helper()
	numbers := make(chan int)
	var processes []*exec.Cmd
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), countVariable+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		processes = append(processes, cmd)
		go func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				n, err := strconv.Atoi(lines.Text())
				if err != nil {
					t.Errorf("a process said %q", lines.Text())
					break
				}
				numbers <- n
			}
			numbers <- 0
		}()
	}
	var all []int
	for running := len(processes); running > 0; {
		n := <-numbers
		if n == 0 {
			running--
			continue
		}
		if all = append(all, n); len(all) == enough {
			for _, cmd := range processes {
				must(t, cmd.Process.Kill())
			}
		}
	}
	for _, cmd := range processes {
		cmd.Process.Kill() // one that ended by itself has said why
		cmd.Wait()
	}
	return all
}
