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
	// Fault, when set, is called before and after each operation on the disk and may fail it: how tests crash a write
	// at every point. An error at the second call stands for an operation that failed and was done all the same. Who
	// goes on failing from some call on has killed the process there. The zero value is none.
	Fault func(operation string, done bool) error

	temporary atomic.Uint64
	syncs     atomic.Uint64
}

// Temp is the directory of temporary files within the tree. The caller makes it; it holds only what is being written.
const Temp = "tmp"

// Syncs counts the fsync calls so far.
func (t *Tree) Syncs() uint64 { return t.syncs.Load() }

// File is what a file becomes.
type File struct {
	Data  []byte
	Mode  fs.FileMode
	Owner *Owner // nil: whoever this process is
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Write replaces the file name, whose directory must exist, with data under exactly the given mode: see Put.
func (t *Tree) Write(name string, data []byte, mode fs.FileMode) error {
	return t.Put(name, File{Data: data, Mode: mode})
}

// Put replaces the file name, whose directory must exist. After an error the file is the old one or the new one; the
// new one's durability is then open, and SyncDir settles it.
func (t *Tree) Put(name string, file File) error {
	if err := t.Place(name, file); err != nil {
		return err
	}
	// A crash here leaves either: the rename is atomic, and only its durability is open.
	return t.SyncDir(path.Dir(name))
}

// Place is Put without the flush of the directory: what another call flushes there makes it durable too, content and
// name.
func (t *Tree) Place(name string, file File) error {
	temp := fmt.Sprintf("%s/%d-%d", Temp, os.Getpid(), t.temporary.Add(1))
	err := t.fill(temp, file)
	if err == nil {
		// A crash here leaves the old file and a stray temporary one.
		err = t.step("rename", func() error { return t.Root.Rename(temp, name) })
	}
	if err != nil {
		return errors.Join(err, t.discard(temp))
	}
	return nil
}

// Move gives a file another name in the same directory, durably.
func (t *Tree) Move(name, to string) error {
	if err := t.step("rename", func() error { return t.Root.Rename(name, to) }); err != nil {
		return err
	}
	return t.SyncDir(path.Dir(name))
}

// fill writes a new file and flushes it. O_EXCL: a name that somebody put there first is not written through. The mode
// is set on the descriptor as well, so no umask has a say in it; before that it is stricter, never laxer.
func (t *Tree) fill(name string, file File) error {
	var f *os.File
	err := t.step("create", func() (err error) {
		f, err = t.Root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, file.Mode&0o700)
		return err
	})
	if f == nil {
		return err
	}
	if err == nil {
		err = t.step("write", func() error { _, err := f.Write(file.Data); return err })
	}
	if err == nil && file.Owner != nil {
		err = t.step("owner", func() error { return f.Chown(file.Owner.UID, file.Owner.GID) })
	}
	if err == nil {
		err = t.step("mode", func() error { return f.Chmod(file.Mode) })
	}
	if err == nil {
		err = t.step("flush", func() error { t.syncs.Add(1); return f.Sync() })
	}
	return errors.Join(err, f.Close())
}

// discard removes a temporary file that did not become anything.
func (t *Tree) discard(name string) error {
	return ignoreMissing(t.step("discard", func() error { return t.Root.Remove(name) }))
}

// Overwrite writes data to the start of a file in place, which it makes with mode 0600 if need be, and does not flush
// it. It is for hints of a fixed length that can be made again: after a power cut the file may hold anything.
func (t *Tree) Overwrite(name string, data []byte) error {
	return t.inPlace("overwrite", name, os.O_WRONLY|os.O_CREATE, data)
}

// Append writes data to the end of a file in place, or starts it anew with data, and does not flush it: see Overwrite.
func (t *Tree) Append(name string, data []byte, anew bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if anew {
		flags |= os.O_TRUNC
	}
	return t.inPlace("append", name, flags, data)
}

func (t *Tree) inPlace(operation, name string, flags int, data []byte) error {
	return t.step(operation, func() error {
		f, err := t.Root.OpenFile(name, flags, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	})
}

// Remove removes a file durably. When it is not there the error wraps fs.ErrNotExist, and its absence is durable: a
// caller that was killed half-way removes again.
func (t *Tree) Remove(name string) error {
	err := t.step("remove", func() error { return t.Root.Remove(name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(err, t.SyncDir(path.Dir(name)))
}

// Drop removes a file, and leaves it to a later flush of the directory to make that durable.
func (t *Tree) Drop(name string) error {
	return ignoreMissing(t.step("drop", func() error { return t.Root.Remove(name) }))
}

// SyncDir flushes a directory: what was created, renamed or removed in it stays so.
func (t *Tree) SyncDir(name string) error {
	return t.step("flush directory", func() error {
		d, err := t.Root.Open(name)
		if err != nil {
			return err
		}
		t.syncs.Add(1)
		return errors.Join(syncDirectory(d), d.Close())
	})
}

// MkdirAll makes a directory and its parents durably, each with mode 0700. One that is there is left as it is: if a
// killed process made it, only SyncDir of its parent says that it stays.
func (t *Tree) MkdirAll(name string) error {
	info, err := t.Root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a directory (%s): move it away", name, info.Mode())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := path.Dir(name)
	if parent != "." {
		if err := t.MkdirAll(parent); err != nil {
			return err
		}
	}
	err = t.step("mkdir", func() error { return t.Root.Mkdir(name, 0o700) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return t.SyncDir(parent)
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
		err = errors.Join(err, t.discard(path.Join(Temp, name)))
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
