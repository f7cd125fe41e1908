//go:build unix

package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func newFolder(t *testing.T, keep int) *Folder {
	t.Helper()
	return refolder(t, filepath.Join(t.TempDir(), "folder"), keep)
}

func refolder(t *testing.T, path string, keep int) *Folder {
	t.Helper()
	f, err := FolderConfig{Keep: keep}.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// settle makes files as they are to be, and sees that nothing is then left to do.
func settle(t *testing.T, f *Folder, want ...File) Plan {
	t.Helper()
	p, err := f.Plan(want...)
	must(t, err)
	must(t, f.Apply(background, p))
	if again, err := f.Plan(want...); err != nil || len(again.Changes) > 0 {
		t.Errorf("after %v there is left: %v, %v", p, again, err)
	}
	return p
}

func text(name, content string) File { return File{Name: name, Data: []byte(content)} }

// generationsOf lists numbers and contents, the newest first.
func generationsOf(t *testing.T, f *Folder, name string) string {
	t.Helper()
	list, err := f.Generations(name)
	must(t, err)
	var all []string
	for _, g := range list {
		data, err := os.ReadFile(filepath.Join(f.path, g.File))
		must(t, err)
		if int64(len(data)) != g.Size {
			t.Errorf("%v has %d bytes", g, len(data))
		}
		all = append(all, fmt.Sprintf("%d %s", g.Number, data))
	}
	return strings.Join(all, ", ")
}

// A53: what would be done is a value that prints, without content (A54), and planning it changes nothing.
func TestFolderPlan(t *testing.T) {
	f := newFolder(t, 1)
	settle(t, f, text("same", "same"), text("content", "old"), text("mode", "mode"), text("gone", "gone"))
	must(t, os.Chmod(filepath.Join(f.path, "mode"), 0o640))
	before := tree(t, f.path)
	want := []File{
		text("same", "same"), text("content", "the new"), {Name: "mode", Data: []byte("mode"), Mode: 0o444},
		{Name: "gone", Absent: true}, {Name: "never", Absent: true}, text("conten", "x"), text("New", "the secret"),
	}
	p, err := f.Plan(want...)
	must(t, err)
	self := fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())
	const shape = `replace content: 3 bytes, mode 0600, owner SELF, by 7 bytes, mode 0600
mend mode: mode 0640, owner SELF, to mode 0444
remove gone: 4 bytes, mode 0600, owner SELF
create conten: 1 bytes, mode 0600
create New: 10 bytes, mode 0600
`
	if got := p.String(); got != strings.ReplaceAll(shape, "SELF", self) {
		t.Errorf("planned\n%s", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, p) + fmt.Sprintf(verb, p.Changes) + fmt.Sprintf(verb, want); strings.Contains(s, "secret") || shows(s, []byte("the secret")) {
			t.Errorf("%s: %s", verb, s)
		}
	}
	if after := tree(t, f.path); !slices.Equal(before, after) {
		t.Errorf("planning changed\n%q to\n%q", before, after)
	}
	must(t, f.Apply(background, p))
	if p, err := f.Plan(want...); err != nil || p.String() != "nothing to change\n" {
		t.Errorf("then: %v, %v", p, err)
	}
	if got := generationsOf(t, f, "mode"); got != "" {
		t.Errorf("a mended file was kept: %s", got)
	}
}

// A52: a name one letter off is no file of ours; it is seen, and never taken for the one that is missing.
func TestFolderNamesOneLetterOff(t *testing.T) {
	f := newFolder(t, 0)
	settle(t, f, text("HA_crt.pem", "x"), text("node-1.pem", "x"), text("LEAF.PEM", "x"))
	for name, note := range map[string]string{
		"HA_cert.pem": "HA_cert.pem is missing, and there is HA_crt.pem", "leaf.pem": "leaf.pem is missing, and there is LEAF.PEM",
		"other.pem": "", "node-1.pem": "",
	} {
		p, err := f.Plan(text(name, "x"))
		if err != nil || (note == "") != (len(p.Notes) == 0) || !strings.Contains(p.String(), note) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := f.Plan(text("node-1.pem", "x"), text("node-2.pem", "x")); err != nil || len(p.Notes) > 0 {
		t.Errorf("both are asked for: %v, %v", p, err)
	}
}

// A37, A49: what was replaced or removed is kept, with mode and content, for so many generations; the numbers grow and
// no clock is asked; the rest is pruned.
func TestGenerations(t *testing.T) {
	f := newFolder(t, 2)
	for _, content := range []string{"a", "b", "c", "d"} {
		settle(t, f, File{Name: "k", Data: []byte(content), Mode: 0o440})
	}
	if got := generationsOf(t, f, "k"); got != "3 c, 2 b" {
		t.Errorf("kept %s", got)
	}
	list, err := f.Generations("k")
	must(t, err)
	info, err := os.Stat(filepath.Join(f.path, list[0].File))
	if err != nil || info.Mode() != 0o440 || list[0].File != ".k.~3~" {
		t.Errorf("%v, %v of %v", info.Mode(), err, list[0])
	}
	settle(t, f, File{Name: "k", Absent: true})
	if got := generationsOf(t, f, "k"); got != "4 d, 3 c" {
		t.Errorf("removed: kept %s", got)
	}
	settle(t, f, text("k", "e"), text("k.1", "another"))
	if got := generationsOf(t, f, "k"); got != "4 d, 3 c" {
		t.Errorf("made again: kept %s", got)
	}
	gone, err := f.Prune(background, "k", 1)
	if err != nil || len(gone) != 1 || gone[0].Number != 3 || generationsOf(t, f, "k") != "4 d" {
		t.Errorf("pruned %v, %v", gone, err)
	}
	if gone, err = f.Prune(background, "k", 0); err != nil || len(gone) != 1 || generationsOf(t, f, "k") != "" {
		t.Errorf("pruned %v, %v", gone, err)
	}
	settle(t, f, text("k", "f"))
	none := refolder(t, f.path, 0)
	if p := settle(t, none, text("k", "f")); p.String() != "prune k: 1 of 1 generations\n" {
		t.Error(p)
	}
	if got := generationsOf(t, none, "k"); got != "" {
		t.Errorf("kept %s, and none was asked for", got)
	}
	for _, name := range []string{"../k", ".k", ""} {
		if _, err := f.Generations(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A44, A45, B84: owners and groups are looked at, and set at once with the content, or alone.
func TestFolderOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	f := newFolder(t, 1)
	web := File{Name: "k", Data: []byte("x"), Mode: 0o440, Owner: &Owner{12345, 23456}}
	f.tree.Fault = func(operation string, done bool) error {
		entries, err := f.entries("tmp")
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode()&0o077 != 0 {
				if uid, gid := ownerOf(info); uid != 12345 || gid != 23456 {
					t.Errorf("after %s: %v of %d:%d", operation, info.Mode(), uid, gid)
				}
			}
		}
		return err
	}
	settle(t, f, web)
	f.tree.Fault = nil
	file := filepath.Join(f.path, "k")
	must(t, os.Chown(file, 12345, 0))
	if p := settle(t, f, web); p.Changes[0].Action != "mend" || !strings.Contains(p.String(), "owner 12345:0, to mode 0440, owner 12345:23456") {
		t.Error(p)
	}
	web.Data = []byte("y")
	settle(t, f, web)
	info, err := os.Stat(filepath.Join(f.path, ".k.~1~"))
	must(t, err)
	if uid, gid := ownerOf(info); uid != 12345 || gid != 23456 {
		t.Errorf("the generation is of %d:%d", uid, gid)
	}
	if p := settle(t, f, text("k", "y")); p.Changes[0].Action != "mend" {
		t.Errorf("of another user, and none was asked for: %v", p)
	}
}

// A plan that is out of date changes nothing: neither what it would change, nor the rest.
func TestFolderConflict(t *testing.T) {
	for name, harm := range map[string]func(file string) error{
		"content": func(file string) error { return os.WriteFile(file, []byte("theirs"), 0o600) },
		"mode":    func(file string) error { return os.Chmod(file, 0o640) },
		"gone":    os.Remove,
	} {
		f := newFolder(t, 1)
		settle(t, f, text("k", "old"))
		p, err := f.Plan(text("a", "new"), text("k", "new"))
		must(t, err)
		must(t, harm(filepath.Join(f.path, "k")))
		before := tree(t, f.path)
		if err := f.Apply(background, p); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "k is not as it was planned for") {
			t.Errorf("%s: %v", name, err)
		}
		if after := tree(t, f.path); !slices.Equal(before, after) {
			t.Errorf("%s: changed\n%q to\n%q", name, before, after)
		}
	}
}

// A43: what cannot be judged is neither read nor replaced, and a wish that makes no sense is refused.
func TestFolderRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(file string) error
		says string
	}{
		"link":            {func(file string) error { return errors.Join(os.Rename(file, file+"-"), os.Symlink("k-", file)) }, "symbolic link"},
		"link to nothing": {func(file string) error { return errors.Join(os.Remove(file), os.Symlink("k-", file)) }, "symbolic link"},
		"hard link":       {func(file string) error { return os.Link(file, file+"-") }, "2 hard links"},
		"FIFO":            {func(file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) }, "not a regular file"},
		"directory":       {func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) }, "not a regular file"},
		"over-long":       {func(file string) error { return os.Truncate(file, maxFile+1) }, "at most 1048576"},
	} {
		f := newFolder(t, 1)
		settle(t, f, text("k", "old"))
		p, err := f.Plan(text("k", "new"))
		must(t, err)
		must(t, test.harm(filepath.Join(f.path, "k")))
		before := tree(t, f.path)
		for _, err := range []error{second(f.Plan(text("k", "new"))), f.Apply(background, p)} {
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v, want it to say %q", name, err, test.says)
			}
		}
		if after := tree(t, f.path); !slices.Equal(before, after) {
			t.Errorf("%s: changed\n%q to\n%q", name, before, after)
		}
	}
	f := newFolder(t, 0)
	for says, want := range map[string]File{
		"want letters, digits": text("../k", ""), "bad name": text("tmp", ""), "file \".k\"": text(".k", ""),
		"at most 1048576":   {Name: "k", Data: make([]byte, maxFile+1)},
		"mode 0660":         {Name: "k", Mode: 0o660},
		"mode 0200":         {Name: "k", Mode: 0o200},
		"user -1":           {Name: "k", Owner: &Owner{-1, 0}},
		"to be absent, and": {Name: "k", Absent: true, Mode: 0o600},
	} {
		if _, err := f.Plan(want); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want it to say %q", err, says)
		}
	}
	if _, err := f.Plan(text("k", "1"), text("k", "2")); err == nil {
		t.Error("one file is to be two things")
	}
	must(t, os.Chmod(f.path, 0o770))
	if _, err := (FolderConfig{}).Open(f.path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("others can write to it: %v", err)
	}
	must(t, os.Chmod(f.path, 0o755))
	must(t, second(FolderConfig{}.Open(f.path)))
	if os.Geteuid() == 0 {
		must(t, os.Chown(f.path, 12345, 0))
		if _, err := (FolderConfig{}).Open(f.path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
			t.Errorf("of another user: %v", err)
		}
	}
}

// DESIGN §9, B62: a durable pair in our own form costs two flushes, new or replaced, and a third where the old is kept.
func TestPairFlushes(t *testing.T) {
	for keep, want := range []uint64{2, 3} {
		f := newFolder(t, keep)
		for i, want := range []uint64{2, want, want} {
			p, err := f.Plan(File{Name: "pair.pem", Data: []byte{byte(i)}})
			must(t, err)
			before := f.tree.Syncs()
			must(t, f.Apply(background, p))
			if n := f.tree.Syncs() - before; n != want {
				t.Errorf("%d kept, write %d: %d fsync calls, want %d", keep, i, n, want)
			}
		}
	}
}

// A50, A51: whichever step of a change fails or is the last one before a kill, each file is the old one or the new one,
// the old one is kept before the new one stands there, and planned and applied again it is done, with nothing left over
// and nothing kept twice.
func TestFolderCrashesAtEveryStep(t *testing.T) {
	for _, killed := range []bool{true, false} {
		step := 0
		for ; ; step++ {
			f := folderToChange(t)
			p, err := f.Plan(folderWish...)
			must(t, err)
			at, left := "", step
			f.tree.Fault = func(operation string, done bool) error {
				if left--; left == -1 || left < 0 && killed {
					at = fmt.Sprintf("killed %v, step %d, %s, done %v", killed, step, operation, done)
					return errCrash
				}
				return nil
			}
			err = f.Apply(background, p)
			if at == "" {
				must(t, err)
				break
			}
			if !errors.Is(err, errCrash) {
				t.Errorf("%s: %v", at, err)
			}
			folderChanged(t, f.path, at)
		}
		if step < 40 {
			t.Errorf("only %d steps", step)
		}
	}
}

// folderWish is a change of each kind, to what folderToChange makes.
var folderWish = []File{text("k", "new"), {Name: "gone", Absent: true}, text("made", "new"), {Name: "mode", Data: []byte("old"), Mode: 0o400}}

func folderToChange(t *testing.T) *Folder {
	t.Helper()
	f := newFolder(t, 1)
	for name, content := range map[string]string{".k.~1~": "older", "k": "old", "gone": "old", "mode": "old"} {
		must(t, os.WriteFile(filepath.Join(f.path, name), []byte(content), 0o600))
	}
	return f
}

// folderChanged looks at a folder after a crash, and completes the change.
func folderChanged(t *testing.T, path, at string) {
	t.Helper()
	f := refolder(t, path, 1)
	looksWhole(t, f, at)
	settle(t, f, folderWish...)
	if got := generationsOf(t, f, "k") + "; " + generationsOf(t, f, "gone"); got != "2 old; 1 old" {
		t.Errorf("%s: kept %s", at, got)
	}
	if left, err := f.entries("tmp"); err != nil || len(left) != 0 {
		t.Errorf("%s: %d files left over, %v", at, len(left), err)
	}
}

func looksWhole(t *testing.T, f *Folder, at string) {
	t.Helper()
	for name, allowed := range map[string][]string{"k": {"old", "new"}, "gone": {"old", ""}, "made": {"", "new"}, "mode": {"old"}} {
		data, err := os.ReadFile(filepath.Join(f.path, name))
		if !slices.Contains(allowed, string(data)) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s holds %q, %v", at, name, data, err)
		}
		if name == "k" && string(data) == "new" && !strings.Contains(generationsOf(t, f, "k"), "old") {
			t.Errorf("%s: the old one is lost", at)
		}
	}
}

// A38, B62: whoever reads a pair while it is replaced sees a key and the certificate of that key, and never another's;
// and it is never refused as linked, of others or half.
func TestPairIsReplacedAtOnce(t *testing.T) {
	f := newFolder(t, 2)
	var pairs [][]byte
	for i := range int64(2) {
		pairs = append(pairs, newPair(t, i+1))
	}
	settle(t, f, File{Name: "pair.pem", Data: pairs[0]})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 60 {
			p, err := f.Plan(File{Name: "pair.pem", Data: pairs[i%2]})
			if err = errors.Join(err, f.Apply(background, p)); err != nil {
				t.Error(err)
			}
		}
	}()
	seen, reads := map[string]bool{}, 0
	for running := true; running; reads++ {
		select {
		case <-done:
			running = false
		default:
		}
		data, err := ReadFile(filepath.Join(f.path, "pair.pem"), Private)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tls.X509KeyPair(data, data); err != nil {
			t.Fatal(err)
		}
		seen[string(data)] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d pairs in %d reads", len(seen), reads)
	}
}

func newPair(t *testing.T, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return bytes.Join([][]byte{block(pemType, der), block("CERTIFICATE", certificate)}, nil)
}

// The name of a generation is read as what it was made of, and nothing else is taken for one.
func FuzzParseGeneration(f *testing.F) {
	for _, s := range []string{".k.~1~", ".k.~01~", "k.~1~", ".k.~0~", ".k.~1~.~2~", "..~1~", ".k.~-1~", ".k~", "", "~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		name, number, ok := parseGeneration(file)
		if ok && (generationFile(name, number) != file || fileName(file) || !fileName(name)) {
			t.Errorf("%q is generation %d of %q", file, number, name)
		}
		if fileName(file) {
			if name, number, ok := parseGeneration(generationFile(file, 7)); !ok || name != file || number != 7 {
				t.Errorf("generation 7 of %q is read as %d of %q", file, number, name)
			}
		}
	})
}
