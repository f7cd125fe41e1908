//go:build unix

package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// badFile is something done to keys/k.pem, or in its place, and what the refusal says.
type badFile struct {
	name string
	harm func(t *testing.T, key string)
	says string
}

var badFiles = []badFile{
	{"group can read it", func(t *testing.T, key string) { must(t, os.Chmod(key, 0o640)) }, "mode 0640"},
	{"others can write it", func(t *testing.T, key string) { must(t, os.Chmod(key, 0o602)) }, "chmod go="},
	{"of another user", func(t *testing.T, key string) {
		if os.Geteuid() != 0 {
			t.Skip("only root gives files away")
		}
		must(t, os.Chown(key, 12345, -1))
	}, "belongs to user 12345"},
	{"symbolic link within", func(t *testing.T, key string) {
		must(t, os.Rename(key, filepath.Dir(key)+"/target"))
		must(t, os.Symlink("target", key))
	}, "symbolic link"},
	{"symbolic link out", func(t *testing.T, key string) {
		must(t, os.Rename(key, key+"-out"))
		must(t, os.Rename(key+"-out", filepath.Join(filepath.Dir(key), "../../out.pem")))
		must(t, os.Symlink("../../out.pem", key))
	}, "escapes"},
	{"hard link", func(t *testing.T, key string) { must(t, os.Link(key, key+"-too")) }, "2 hard links"},
	{"FIFO", func(t *testing.T, key string) {
		must(t, os.Remove(key))
		must(t, syscall.Mkfifo(key, 0o600))
	}, "not a regular file"},
	{"directory", func(t *testing.T, key string) {
		must(t, os.Remove(key))
		must(t, os.Mkdir(key, 0o700))
	}, "not a regular file"},
	{"empty", func(t *testing.T, key string) { must(t, os.Truncate(key, 0)) }, "no PEM element"},
	{"cut off", func(t *testing.T, key string) { must(t, os.Truncate(key, 100)) }, "it was cut off"},
	{"a gibibyte", func(t *testing.T, key string) { must(t, os.Truncate(key, 1<<30)) }, "at most 65536"},
	{"renamed by one letter", func(t *testing.T, key string) { must(t, os.Rename(key, strings.Replace(key, ".pem", ".pme", 1))) }, "keys/k.pme: rename it"},
	{"another extension", func(t *testing.T, key string) { must(t, os.Rename(key, strings.Replace(key, ".pem", ".key", 1))) }, "keys/k.key: rename it"},
	{"upper case", func(t *testing.T, key string) { must(t, os.Rename(key, filepath.Dir(key)+"/K.PEM")) }, "keys/K.PEM: rename it"},
	{"moved for a moment", func(t *testing.T, key string) { must(t, os.Rename(key, key+".bak")) }, "keys/k.pem.bak: rename it"},
	{"PKCS#1", rewrite(func(der []byte) []byte { return block("RSA PRIVATE KEY", der) }), "openssl pkcs8"},
	{"encrypted", rewrite(func(der []byte) []byte { return block("ENCRYPTED PRIVATE KEY", der) }), `"ENCRYPTED PRIVATE KEY"`},
	{"certificate", rewrite(func(der []byte) []byte { return block("CERTIFICATE", der) }), `"CERTIFICATE"`},
	{"headers", rewrite(func(der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: pemType, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: der})
	}), "headers"},
	{"not a key", rewrite(func([]byte) []byte { return block(pemType, []byte{5, 0}) }), "not a whole PKCS#8"},
	{"half a key", rewrite(func(der []byte) []byte { return block(pemType, der[:len(der)/2]) }), "not a whole PKCS#8"},
	{"data after the structure", rewrite(func(der []byte) []byte { return block(pemType, append(der, 5, 0)) }), "not a whole PKCS#8"},
	{"data within the structure", rewrite(func(der []byte) []byte {
		return block(pemType, append([]byte{0x30, 0x81, der[2] + 2}, append(der[3:], 5, 0)...))
	}), "not a whole PKCS#8"},
	{"two keys", rewrite(func(der []byte) []byte { return slices.Repeat(block(pemType, der), 2) }), "follows the key"},
	{"text before", rewrite(func(der []byte) []byte { return append([]byte("Bag Attributes\n"), block(pemType, der)...) }), "something stands before line 2"},
	{"another block before", rewrite(func(der []byte) []byte {
		return append([]byte("-----BEGIN PRIVATE KEY-----\nhalf\n"), block(pemType, der)...)
	}), "without an END line before line 3"},
	{"P-224", rewrite(func([]byte) []byte { return testKey("p224") }), "P-224"},
	{"RSA of 1024 bits", rewrite(func([]byte) []byte { return testKey("rsa1024") }), "RSA of 1024 bits"},
	{"X25519", rewrite(func([]byte) []byte { return testKey("x25519") }), "of a kind that signs"},
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// rewrite replaces the file's content by something made of the key.
func rewrite(content func(der []byte) []byte) func(t *testing.T, key string) {
	return func(t *testing.T, key string) {
		data, err := os.ReadFile(key)
		must(t, err)
		decoded, _ := pem.Decode(data)
		must(t, os.WriteFile(key, content(decoded.Bytes), 0o600))
	}
}

// A42, A43, A52: what is not as we left it is refused with an error that says what was found and what to do, and quotes
// nothing of it (A54); Generate never takes its place, for the key may only be mislaid.
func TestBadFiles(t *testing.T) {
	for _, test := range badFiles {
		t.Run(test.name, func(t *testing.T) {
			d := newDir(t)
			_, err := d.Generate(background, "k", P256)
			must(t, err)
			file := filepath.Join(d.path, "keys", "k.pem")
			secret, err := os.ReadFile(file)
			must(t, err)
			test.harm(t, file)
			_, err = d.Open(background, "k")
			if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("open: %v, want it to say %q", err, test.says)
			}
			if leaks(err.Error(), secret) {
				t.Errorf("the error shows the key: %v", err)
			}
			before := tree(t, d.path)
			if _, err := d.Generate(background, "k", P256); err == nil || errors.Is(err, fs.ErrExist) {
				t.Errorf("generate: %v", err)
			}
			if after := tree(t, d.path); !slices.Equal(before, after) {
				t.Errorf("generate changed\n%q to\n%q", before, after)
			}
		})
	}
}

// leaks reports whether text shows a run of a PEM file's base64.
func leaks(text string, file []byte) bool {
	decoded, _ := pem.Decode(file)
	for _, line := range bytes.Split(file, []byte("\n")) {
		if len(line) > 20 && !bytes.HasPrefix(line, []byte("-----")) && strings.Contains(text, string(line[:16])) {
			return true
		}
	}
	return strings.Contains(text, string(decoded.Bytes[8:24]))
}

// tree lists all files with mode, size and time of change.
func tree(t *testing.T, path string) []string {
	t.Helper()
	var list []string
	must(t, filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && e.Name() != "tmp" {
			list = append(list, info.Mode().String()+" "+info.ModTime().String()+" "+path)
		}
		return err
	}))
	return list
}

// A42: modes are right from creation, whatever the umask says: nobody can open the file in between.
func TestModesFromCreation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	defer syscall.Umask(syscall.Umask(0))
	d := reopen(t, path)
	d.tree.Fault = func(operation string, done bool) error {
		entries, err := d.entries("tmp")
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("after %s: %v, %v", operation, info.Mode(), err)
			}
		}
		return err
	}
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	_, err = d.Replace(background, "a/b/c", 0, nil)
	must(t, err)
	for _, line := range tree(t, d.path) {
		if !strings.HasPrefix(line, "-rw------- ") && !strings.HasPrefix(line, "drwx------ ") {
			t.Error(line)
		}
	}
}

// A43: the directory itself, what is in it and what it is in are judged when it is opened.
func TestBadDirectory(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(t *testing.T, dir string)
		says string
	}{
		{"others can enter", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o711)) }, "mode 0711"},
		{"of another user", func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("only root gives files away")
			}
			must(t, os.Chown(dir, 12345, -1))
		}, "belongs to user 12345"},
		{"everybody can rename it", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Dir(dir), 0o777)) }, "chmod o-w"},
		{"a file", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil, 0o600))
		}, "not a directory"},
		{"others can read the keys", func(t *testing.T, dir string) { must(t, os.Chmod(dir+"/keys", 0o755)) }, "mode 0755"},
		{"keys is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/keys", dir+"/elsewhere"))
			must(t, os.Symlink("elsewhere", dir+"/keys"))
		}, "keys is not a directory"},
		{"records is a file", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/records"))
			must(t, os.WriteFile(dir+"/records", nil, 0o600))
		}, "records is not a directory"},
		{"lock is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/lock", dir+"/elsewhere"))
			must(t, os.Symlink("elsewhere", dir+"/lock"))
		}, "symbolic link"},
		{"a name one letter off", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/records/a/b.record", dir+"/records/a/b.recrod"))
		}, `a/"b.recrod" is no record`},
		{"a name in upper case", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/records/a/b.record", dir+"/records/a/B.record"))
		}, `a/"B.record" is no record`},
		{"a directory of records is a link", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/records/a", dir+"/elsewhere"))
			must(t, os.Symlink("../elsewhere", dir+"/records/a"))
		}, `"a" is no record`},
		{"a record was cut off", func(t *testing.T, dir string) {
			must(t, os.Truncate(dir+"/records/a/b.record", 8))
		}, "cut off"},
		{"a record without its first line", func(t *testing.T, dir string) {
			must(t, os.WriteFile(dir+"/records/a/b.record", []byte("value"), 0o600))
		}, "cut off"},
		{"a record too long", func(t *testing.T, dir string) {
			must(t, os.Truncate(dir+"/records/a/b.record", MaxValue+20))
		}, "at most 262144"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDir(t)
			_, err := d.Replace(background, "a/b", 0, []byte("value"))
			must(t, err)
			d.Close()
			test.harm(t, d.path)
			if _, err := OpenDir(d.path); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want it to say %q", err, test.says)
			}
		})
	}
}

// A record that was spoilt while the directory is open is neither read nor written over.
func TestSpoiltRecord(t *testing.T) {
	d := newDir(t)
	r, err := d.Replace(background, "k", 0, []byte("value"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(d.path, "records", "k.record"), []byte("revision"), 0o600))
	if _, err := d.Load(background, "k"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load: %v", err)
	}
	for _, old := range []Revision{0, r} {
		if _, err := d.Replace(background, "k", old, nil); err == nil || errors.Is(err, ErrConflict) {
			t.Errorf("replace: %v", err)
		}
	}
}

// Delete says that a key is destroyed; it must not be when the file has another name.
func TestDeleteOfLinkedKey(t *testing.T) {
	d := newDir(t)
	_, err := d.Generate(background, "k", P256)
	must(t, err)
	file := filepath.Join(d.path, "keys", "k.pem")
	must(t, os.Link(file, filepath.Join(d.path, "copy")))
	if err := d.Delete(background, "k"); err == nil || !strings.Contains(err.Error(), "2 hard links") {
		t.Errorf("delete: %v", err)
	}
	must(t, os.Remove(filepath.Join(d.path, "copy")))
	must(t, d.Delete(background, "k"))
}

// A52: what lies among the keys and is none is named, not passed over.
func TestLabelsOfStrangers(t *testing.T) {
	d := newDir(t)
	must(t, os.WriteFile(filepath.Join(d.path, "keys", "node.key"), nil, 0o600))
	if _, err := d.Labels(background); err == nil || !strings.Contains(err.Error(), `"node.key"`) {
		t.Errorf("labels: %v", err)
	}
	if _, err := d.Generate(background, "other", P256); err != nil {
		t.Errorf("a key that it cannot be meant for: %v", err)
	}
}

// The files are what other tools know: PKCS#8 in PEM, and a record's value as it was given, after one line.
func TestFilesAreReadable(t *testing.T) {
	d := newDir(t)
	s, err := d.Generate(background, "root-1", P256)
	must(t, err)
	data, err := os.ReadFile(filepath.Join(d.path, "keys", "root-1.pem"))
	must(t, err)
	decoded, rest := pem.Decode(data)
	if decoded == nil || decoded.Type != "PRIVATE KEY" || len(rest) > 0 {
		t.Fatal("not one PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(decoded.Bytes)
	must(t, err)
	if !key.(*ecdsa.PrivateKey).PublicKey.Equal(s.Public()) {
		t.Error("another key")
	}
	_, err = d.Replace(background, "members/node/octopus", 0, []byte("{\n}\n"))
	must(t, err)
	data, err = os.ReadFile(filepath.Join(d.path, "records", "members", "node", "octopus.record"))
	if string(data) != "revision 1\n{\n}\n" {
		t.Errorf("%q, %v", data, err)
	}
}
