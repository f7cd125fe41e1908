//go:build unix

package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A43, and issue 3's bad input: a file from outside is read when only those may have had access who may; what else
// stands there is refused, at once, with an error that names it and says what to do. says is by Access; "" is read.
func TestReadFile(t *testing.T) {
	asRoot := func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root gives files away")
		}
	}
	for _, test := range []struct {
		name string
		harm func(t *testing.T, file string)
		says [3]string
	}{
		{"as it should be", func(*testing.T, string) {}, [3]string{}},
		{"others can read it", func(t *testing.T, file string) { must(t, os.Chmod(file, 0o644)) }, [3]string{Private: "mode 0644"}},
		{"its group can read it", func(t *testing.T, file string) { must(t, os.Chmod(file, 0o640)) }, [3]string{Private: "chmod go= "}},
		{"others can write it", func(t *testing.T, file string) { must(t, os.Chmod(file, 0o602)) }, [3]string{Trusted: "chmod go-w ", Private: "mode 0602"}},
		{"of another user", func(t *testing.T, file string) {
			asRoot(t)
			must(t, os.Chown(file, 12345, -1))
		}, [3]string{Trusted: "belongs to user 12345", Private: "belongs to user 12345"}},
		{"a directory of another user", func(t *testing.T, file string) {
			asRoot(t)
			must(t, os.Chown(filepath.Dir(file), 12345, -1))
		}, [3]string{Trusted: "belongs to user 12345", Private: "belongs to user 12345"}},
		{"a directory that everybody may write to", func(t *testing.T, file string) {
			must(t, os.Chmod(filepath.Dir(file), 0o777))
		}, [3]string{Trusted: "chmod o-w", Private: "chmod o-w"}},
		{"a link, as Kubernetes mounts", func(t *testing.T, file string) {
			dir := filepath.Dir(file)
			must(t, os.Mkdir(dir+"/..2026", 0o755))
			must(t, os.Rename(file, dir+"/..2026/file"))
			must(t, os.Symlink("..2026", dir+"/..data"))
			must(t, os.Symlink("..data/file", file))
		}, [3]string{}},
		{"a link to where everybody may write", func(t *testing.T, file string) {
			open := filepath.Join(t.TempDir(), "open")
			must(t, os.Mkdir(open, 0o700))
			must(t, os.Chmod(open, 0o777))
			must(t, os.Rename(file, open+"/file"))
			must(t, os.Symlink(open+"/file", file))
		}, [3]string{Trusted: "chmod o-w", Private: "chmod o-w"}},
		{"a link that everybody may replace", func(t *testing.T, file string) {
			must(t, os.Rename(file, filepath.Dir(file)+"-kept"))
			must(t, os.Symlink(filepath.Dir(file)+"-kept", file))
			must(t, os.Chmod(filepath.Dir(file), 0o777))
		}, [3]string{Trusted: "chmod o-w", Private: "chmod o-w"}},
		{"a link to others' file", func(t *testing.T, file string) {
			must(t, os.Chmod(file, 0o646))
			must(t, os.Rename(file, file+"-kept"))
			must(t, os.Symlink(file+"-kept", file))
		}, [3]string{Trusted: "mode 0646", Private: "mode 0646"}},
		{"hard link", func(t *testing.T, file string) { must(t, os.Link(file, file+"-too")) }, [3]string{Private: "2 hard links"}},
		{"a mebibyte", func(t *testing.T, file string) { must(t, os.Truncate(file, maxFile)) }, [3]string{}},
		{"one byte more", func(t *testing.T, file string) {
			must(t, os.Truncate(file, maxFile+1))
		}, [3]string{"1048577 bytes, at most 1048576", "at most 1048576", "at most 1048576"}},
		{"two gibibytes", func(t *testing.T, file string) {
			must(t, os.Truncate(file, 2<<30))
		}, [3]string{"at most 1048576", "at most 1048576", "at most 1048576"}},
		{"FIFO", func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o600))
		}, [3]string{"not a regular file", "not a regular file", "not a regular file"}},
		{"directory", func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		}, [3]string{"not a regular file", "not a regular file", "not a regular file"}},
		{"/dev/zero", func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Symlink("/dev/zero", file))
		}, [3]string{"not a regular file", "not a regular file", "not a regular file"}},
		{"a loop of links", func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Symlink(file, file))
		}, [3]string{"too many levels", "too many levels", "too many levels"}},
	} {
		for a, says := range test.says {
			t.Run(fmt.Sprintf("%s/%d", test.name, a), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "dir")
				must(t, os.Mkdir(dir, 0o700))
				file := filepath.Join(dir, "file")
				must(t, os.WriteFile(file, []byte("content"), 0o600))
				test.harm(t, file)
				data, err := ReadFile(file, Access(a))
				if says == "" {
					if err != nil || !bytes.HasPrefix(data, []byte("content")) {
						t.Errorf("%.20q, %v", data, err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), says) || data != nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("%.20q, %v, want it to say %q", data, err, says)
				}
			})
		}
	}
}

func TestReadFileOfNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if _, err := ReadFile(file, Public); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("missing: %v", err)
	}
	must(t, os.WriteFile(file, nil, 0o600))
	if data, err := ReadFile(file, Public); err != nil || len(data) != 0 {
		t.Errorf("empty: %q, %v", data, err)
	}
	if _, err := ReadFile(file, Access(3)); err == nil {
		t.Error("an access that there is not was taken")
	}
	if got := Unchecked(); len(got) != 0 {
		t.Errorf("%q are not checked on Unix", got)
	}
}

// A file that changes while it is read is not taken for a whole one.
func TestReadWhileItChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("content"), 0o600))
	info, err := os.Stat(file)
	must(t, err)
	for content, says := range map[string]string{"content and more": "grows", "cont": "shrinks", "": "shrinks"} {
		if data, err := readWhole(strings.NewReader(content), file, info, 100); err == nil || !strings.Contains(err.Error(), says) || data != nil {
			t.Errorf("%q: %q, %v, want it to say %q", content, data, err, says)
		}
	}
}

// A key from outside is judged as one of a Dir is: the table of what a Dir refuses, at a path, and what it says.
func TestOpenKeyFile(t *testing.T) {
	followed := map[string]bool{"symbolic link within": true, "symbolic link out": true}
	missing := map[string]bool{"renamed by one letter": true, "another extension": true, "upper case": true, "moved for a moment": true}
	for _, test := range badFiles {
		t.Run(test.name, func(t *testing.T) {
			d := newDir(t)
			_, err := d.Generate(background, "k", P256)
			must(t, err)
			file := filepath.Join(d.path, "keys", "k.pem")
			test.harm(t, file)
			s, err := OpenKeyFile(background, file, nil)
			switch {
			case followed[test.name]:
				if err != nil || s.Label() != file {
					t.Errorf("%v, %v", s, err)
				}
			case missing[test.name]:
				if !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			case err == nil || !strings.Contains(err.Error(), file) || !(strings.Contains(err.Error(), test.says) || test.name == "a gibibyte"):
				t.Errorf("%v, want it to say %q", err, test.says)
			}
		})
	}
}

// An encrypted key from outside: its passphrase is asked for by its path.
func TestOpenEncryptedKeyFile(t *testing.T) {
	d := reopenAs(t, DirConfig{Passphrase: says("horse")}, filepath.Join(t.TempDir(), "dir"))
	s, err := d.Generate(background, "k", Ed25519)
	must(t, err)
	file := filepath.Join(d.path, "keys", "k.pem")
	again, err := OpenKeyFile(background, file, says("horse"))
	if err != nil || !bytes.Equal(marshalPublic(t, s.Public()), marshalPublic(t, again.Public())) {
		t.Errorf("%v, %v", again, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", again, again, again); shows(text, secret(t, again.(*softwareKey).key)) {
		t.Error(text)
	}
	if _, err := OpenKeyFile(background, file, says("cow")); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
	if _, err := OpenKeyFile(background, file, nil); err == nil || !strings.Contains(err.Error(), "no passphrase is configured") {
		t.Error(err)
	}
}

// A link that changes all the time, as a deployment's does: what is read is always one of the files whole, and never
// one whose directory was not judged.
func TestReadWhileLinkChanges(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "file"), []byte(name), 0o600))
	}
	must(t, os.Chmod(filepath.Join(dir, "b"), 0o777))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink("a", link))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			next := link + "-next"
			if errors.Join(os.Symlink([]string{"a", "b"}[i%2], next), os.Rename(next, link)) != nil {
				t.Error("no link")
				return
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 300 {
		data, err := ReadFile(link+"/file", Trusted)
		if err == nil && string(data) != "a" || err != nil && !errors.Is(err, errReplaced) && !strings.Contains(err.Error(), "chmod o-w") {
			t.Errorf("%q, %v", data, err)
		}
	}
}

// A link in the middle of the way stands somewhere too: who may write there leads the path elsewhere.
func TestLinkOnTheWay(t *testing.T) {
	if !modesMeanSomething {
		t.Skip("modes mean nothing here")
	}
	closed, open := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(closed, "v1"), 0o700))
	must(t, os.WriteFile(filepath.Join(closed, "v1", "roots"), []byte("x"), 0o600))
	must(t, os.Symlink(filepath.Join(closed, "v1"), filepath.Join(open, "current")))
	must(t, os.Symlink(filepath.Join(open, "current"), filepath.Join(closed, "latest")))
	must(t, os.Symlink("latest", filepath.Join(closed, "relative")))
	must(t, os.Symlink("loop", filepath.Join(closed, "loop")))
	read := func(dir, name string) error {
		_, err := ReadFile(filepath.Join(dir, name, "roots"), Trusted)
		return err
	}
	for _, name := range []string{"v1", "latest", "relative", "../" + filepath.Base(closed) + "/v1"} {
		if err := read(closed, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := read(closed, "loop"); err == nil {
		t.Error("a link to itself was followed to an end")
	}
	must(t, os.Chmod(open, 0o777))
	if err := read(open, "current"); err == nil {
		t.Error("a link that anybody may replace leads to what is trusted")
	}
	for _, name := range []string{"latest", "relative"} {
		if err := read(closed, name); err == nil {
			t.Errorf("%s: a link to a link that anybody may replace leads to what is trusted", name)
		}
	}
	if err := read(closed, "v1"); err != nil {
		t.Error(err)
	}
}

// The way is judged for the file that was opened: when the name stands for another by then, it is looked at again.
func TestWayOfAnotherFile(t *testing.T) {
	dir := t.TempDir()
	one, other := filepath.Join(dir, "one"), filepath.Join(dir, "other")
	for _, file := range []string{one, other} {
		must(t, os.WriteFile(file, nil, 0o600))
	}
	info, err := os.Stat(one)
	must(t, err)
	must(t, guardedWay(one, info))
	if err := guardedWay(other, info); !errors.Is(err, errReplaced) {
		t.Error(err)
	}
}
