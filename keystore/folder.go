package keystore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/clusterca/clusterca/internal/durable"
)

// Folder is a directory of whole files that other programs read: a pair of key and chain in one file, a bundle, a list.
// Each is replaced at once and durably, with two flushes; a third where what is replaced is kept. The directory is made
// with mode 0700; whoever lets others in changes that, and nobody else may write to it. Safe for concurrent use by
// goroutines and, on Unix, by processes. A change that is killed at any instruction leaves each file the old one or the
// new one, and the next Plan says which are left.
type Folder struct {
	place
	keep int
}

// FolderConfig says how a folder is kept.
type FolderConfig struct {
	Keep int // generations of a file that was replaced or removed; 0: none
}

// File is a file of a folder as it is to be.
type File struct {
	Name   string      // letters, digits, '.', '_' and '-', at most 200; not with '.' or '-' first
	Data   []byte      // at most 1 MiB; a key and its chain stand in one file, since two are never replaced at once
	Mode   fs.FileMode // 0: 0600; nobody but the owner may be let write
	Owner  *Owner      // nil: this process's user, and any group
	Absent bool        // it is not to be there
}

// Format shows name, size and access under every verb: the content may be a key.
func (w File) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s: %d bytes, %s", w.Name, len(w.Data), w.access())
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Open opens a folder, and makes it when it is not there; its parent must be. The caller closes it. What a crash left
// half done is removed here.
func (c FolderConfig) Open(path string) (*Folder, error) {
	f, err := c.open(path, nil)
	if err != nil {
		return nil, fmt.Errorf("keystore: open folder %q: %w", path, err)
	}
	return f, nil
}

func (c FolderConfig) open(path string, fault func(operation string, done bool) error) (*Folder, error) {
	if c.Keep < 0 || c.Keep > maxKept {
		return nil, fmt.Errorf("%d generations to keep, want 0 to %d", c.Keep, maxKept)
	}
	p, err := openPlace(path, fault)
	if err != nil {
		return nil, err
	}
	f := &Folder{place: p, keep: c.Keep}
	if err := f.prepare(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Folder) prepare() error {
	info, err := f.tree.Root.Stat(".")
	if err != nil {
		return err
	}
	if err := unwritable(f.path, info); err != nil {
		return err
	}
	release, err := f.lock(context.Background())
	if err != nil {
		return err
	}
	defer release()
	if _, err := f.tree.Root.Lstat(durable.Temp); errors.Is(err, fs.ErrNotExist) {
		if err := f.syncParent(); err != nil {
			return err
		}
	}
	if err := f.tree.MkdirAll(durable.Temp); err != nil {
		return err
	}
	if _, err := f.entries(durable.Temp); err != nil {
		return err
	}
	return f.tree.Clean()
}

// Close releases the folder.
func (f *Folder) Close() error { return f.tree.Root.Close() }

func (w File) judge() error {
	switch mode := w.mode(); {
	case !fileName(w.Name):
		return fmt.Errorf("file %.80q: want letters, digits, '.', '_' and '-': %w", w.Name, ErrName)
	case len(w.Data) > maxFile:
		return fmt.Errorf("%s of %d bytes, at most %d", w.Name, len(w.Data), maxFile)
	case w.Absent && (len(w.Data) > 0 || w.Mode != 0 || w.Owner != nil):
		return fmt.Errorf("%s is to be absent, and to have content, mode or owner", w.Name)
	case mode&^0o777 != 0 || mode&0o022 != 0 || mode&0o400 == 0:
		return fmt.Errorf("%s with mode %04o: its owner must be able to read it, and nobody else to write to it", w.Name, mode)
	case w.Owner != nil && !modesMeanSomething:
		return fmt.Errorf("%s for user %d: owners cannot be set on this system", w.Name, w.Owner.UID)
	case w.Owner != nil && (w.Owner.UID < 0 || w.Owner.GID < 0):
		return fmt.Errorf("%s for user %d and group %d", w.Name, w.Owner.UID, w.Owner.GID)
	}
	return nil
}

func (w File) mode() fs.FileMode {
	if w.Mode == 0 {
		return 0o600
	}
	return w.Mode
}

// fileName keeps clear of what we and other systems give a meaning to.
func fileName(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return name != "" && len(name) <= maxSegment && name[0] != '.' && name[0] != '-' && filepath.IsLocal(name) &&
		!slices.Contains([]string{lockFile, durable.Temp}, strings.ToLower(name))
}

// found is what stands under a name.
type found struct {
	there    bool
	sum      [sha256.Size]byte
	size     int
	mode     fs.FileMode
	uid, gid int // -1 where the system has none
}

// same reports whether two looks found the same.
func (h found) same(other found) bool {
	return h.there == other.there && h.sum == other.sum && h.access() == other.access()
}

func (f *Folder) look(name string) (found, error) {
	var h found
	data, err := reread(func() (data []byte, err error) { h, data, err = f.lookOnce(name); return data, err })
	clear(data)
	return h, err
}

func (f *Folder) content(name string) ([]byte, error) {
	return reread(func() ([]byte, error) { _, data, err := f.lookOnce(name); return data, err })
}

// lookOnce reads a file of the folder as readOnce does one of a Dir; what may differ here is its mode and owner.
func (f *Folder) lookOnce(name string) (h found, data []byte, err error) {
	file, err := f.tree.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := f.tree.Root.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return found{}, nil, fmt.Errorf("%s is a symbolic link to nothing: move it away", name)
		}
		return found{}, nil, nil
	}
	if err != nil {
		return found{}, nil, err
	}
	data, info, err := readJudged(file, name, maxFile, func(info fs.FileInfo) error { return f.unlinked(name, info) })
	if err != nil {
		return found{}, nil, err
	}
	h = found{there: true, sum: sha256.Sum256(data), size: len(data), mode: info.Mode().Perm()}
	h.uid, h.gid = ownerOf(info)
	return h, data, nil
}

func (w File) access() string {
	if w.Owner == nil {
		return fmt.Sprintf("mode %04o", w.mode())
	}
	return fmt.Sprintf("mode %04o, owner %d:%d", w.mode(), w.Owner.UID, w.Owner.GID)
}
