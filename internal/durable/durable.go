// Package durable answers: is it on the disk, whole, when the call returns?
//
// A file is replaced by temp, fsync, rename, fsync of the directory: two fsync calls. A crash at any point leaves the
// old file or the new one, and at most a stray temporary file, which Clean removes.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync/atomic"
)

// Tree is a directory whose files are replaced durably. Methods are safe for concurrent use on different files.
type Tree struct {
	Root *os.Root
	// Fault, when set, is called before and after each durable operation and may fail it: how tests crash a write at
	// every point. The zero value is none.
	Fault func(operation string, done bool) error

	temporary atomic.Uint64
	syncs     atomic.Uint64
}

// Temp is the directory of temporary files within the tree. It exists only for files that are being written.
const Temp = "tmp"

// Syncs counts the fsync calls so far.
func (t *Tree) Syncs() uint64 { return t.syncs.Load() }

// Write replaces the file name, whose directory must exist, with data under exactly the given mode.
func (t *Tree) Write(name string, data []byte, mode fs.FileMode) error {
	temp := fmt.Sprintf("%s/%d-%d", Temp, os.Getpid(), t.temporary.Add(1))
	err := t.step("write", func() error { return t.fill(temp, data, mode) })
	if err == nil {
		// A crash here leaves the old file and a stray temporary one.
		err = t.step("rename", func() error { return t.Root.Rename(temp, name) })
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(t.Root.Remove(temp)))
	}
	// A crash here leaves either: the rename is atomic, and only its durability is open.
	return t.SyncDir(path.Dir(name))
}

// fill writes a new file and flushes it. The mode is set on the descriptor, so no umask has a say in it.
func (t *Tree) fill(name string, data []byte, mode fs.FileMode) error {
	f, err := t.Root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		t.syncs.Add(1)
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Remove removes a file durably.
func (t *Tree) Remove(name string) error {
	if err := t.step("remove", func() error { return t.Root.Remove(name) }); err != nil {
		return err
	}
	return t.SyncDir(path.Dir(name))
}

// SyncDir flushes a directory: what was created, renamed or removed in it stays so.
func (t *Tree) SyncDir(name string) error {
	return t.step("sync", func() error {
		d, err := t.Root.Open(name)
		if err != nil {
			return err
		}
		t.syncs.Add(1)
		return errors.Join(syncDirectory(d), d.Close())
	})
}

// MkdirAll makes a directory and its parents durably, each with mode 0700.
func (t *Tree) MkdirAll(name string) error {
	if info, err := t.Root.Lstat(name); err == nil && info.IsDir() {
		return nil
	}
	if parent := path.Dir(name); parent != "." {
		if err := t.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := t.Root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return t.SyncDir(path.Dir(name))
}

// Clean removes stray temporary files. Nobody may be writing.
func (t *Tree) Clean() error {
	d, err := t.Root.Open(Temp)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	err = errors.Join(err, d.Close())
	for _, name := range names {
		err = errors.Join(err, ignoreMissing(t.Root.Remove(path.Join(Temp, name))))
	}
	return err
}

func (t *Tree) step(operation string, do func() error) error {
	if t.Fault == nil {
		return do()
	}
	if err := t.Fault(operation, false); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return t.Fault(operation, true)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
