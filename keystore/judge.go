package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// errReplaced says that a name stood for another file by the time it was looked at again.
var errReplaced = errors.New("it is replaced all the time")

// read reads a file of ours, which others may replace by a rename meanwhile.
func (d *place) read(name string, limit int64) ([]byte, error) {
	return reread(func() ([]byte, error) { return d.readOnce(name, limit) })
}

// reread looks again at what was replaced between two looks at it.
func reread[T any](look func() (T, error)) (T, error) {
	var v T
	var err error
	for range maxRereads {
		if v, err = look(); !errors.Is(err, errReplaced) {
			break
		}
	}
	return v, err
}

// readOnce judges the descriptor, never the name: between a look at a name and its opening somebody may put another
// file there. O_NONBLOCK keeps a FIFO from blocking the open for ever.
func (d *place) readOnce(name string, limit int64) ([]byte, error) {
	f, err := d.tree.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	data, _, err := readJudged(f, name, limit, func(info fs.FileInfo) error { return d.ours(name, info) })
	return data, err
}

// readJudged reads, and closes, a regular file that passes judgement.
func readJudged(f *os.File, name string, limit int64, judge func(fs.FileInfo) error) ([]byte, fs.FileInfo, error) {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if err := regular(name, info); err != nil {
		return nil, nil, err
	}
	if err := judge(info); err != nil {
		return nil, nil, err
	}
	data, err := readWhole(f, name, info, limit)
	return data, info, err
}

func regular(name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file (%s)", name, info.Mode())
	}
	return nil
}

// readWhole reads a regular file of at most limit bytes, as it was when info was taken.
func readWhole(f io.Reader, name string, info fs.FileInfo, limit int64) ([]byte, error) {
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", name, info.Size(), limit)
	}
	// One buffer of the right size: a buffer that grows would leave copies of a key behind.
	data := make([]byte, info.Size()+1)
	n, err := io.ReadFull(f, data)
	if n == len(data) || err == nil {
		clear(data)
		return nil, fmt.Errorf("%s grows while it is read", name)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if int64(n) < info.Size() {
		clear(data)
		return nil, fmt.Errorf("%s shrinks while it is read", name)
	}
	return data[:n], nil
}

// ours refuses links and what others can read or own.
func (d *place) ours(name string, open fs.FileInfo) error {
	if err := d.unlinked(name, open); err != nil {
		return err
	}
	return private(filepath.Join(d.path, name), open)
}

// unlinked refuses links. os.Root follows those that stay inside it and ignores O_NOFOLLOW, so the name is compared
// with the descriptor.
func (d *place) unlinked(name string, open fs.FileInfo) error {
	named, err := d.tree.Root.Lstat(name)
	switch {
	case err != nil:
		return err
	case named.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: put the file itself there", name)
	case !os.SameFile(named, open):
		return fmt.Errorf("%s: %w", name, errReplaced)
	case !open.IsDir() && links(open) > 1:
		return fmt.Errorf("%s has %d hard links: copy the file instead of linking it", name, links(open))
	}
	return nil
}

// entries reads a directory of ours.
func (d *place) entries(name string) ([]os.DirEntry, error) {
	f, err := d.tree.Root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := d.ours(name, info); err != nil {
		return nil, err
	}
	return f.ReadDir(-1)
}

// private refuses what others may read or write, or own.
func private(path string, info fs.FileInfo) error {
	if err := owned(path, info); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); modesMeanSomething && mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can get at it: chmod go= %s", path, mode, path)
	}
	return nil
}

// guardedParents refuses a path in which anybody on the system could put another directory in place of ours.
func guardedParents(path string) error {
	places, err := waysTo(path)
	if err != nil {
		return err
	}
	for _, place := range places {
		if err := eachAbove(place, sticky); err != nil {
			return err
		}
	}
	return nil
}

// waysTo follows a path element by element and returns where each link on the way stands, and last what the path stands
// for. No link leads to any of them. Whoever may change a directory above one of them can lead the path elsewhere.
func waysTo(path string) (places []string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if !modesMeanSomething { // nothing will be judged above them
		path, err = filepath.EvalSymlinks(path)
		return []string{path}, err
	}
	at, rest := "/", strings.Split(path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name) // ".." too: no link leads to at
		info, err := os.Lstat(next)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if places = append(places, next); len(places) > maxLinks {
			return nil, fmt.Errorf("%s leads through more than %d links", path, maxLinks)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return append(places, at), nil
}

// eachAbove judges each directory above a path that no link leads to.
func eachAbove(path string, judge func(dir string, info fs.FileInfo) error) error {
	for dir := filepath.Dir(path); dir != path; path, dir = dir, filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := judge(dir, info); err != nil {
			return err
		}
	}
	return nil
}

// sticky refuses a directory in which everybody may rename what is not theirs. A group that may write there is let be:
// many systems give each user a group of their own.
func sticky(dir string, info fs.FileInfo) error {
	if mode := info.Mode(); modesMeanSomething && mode&0o002 != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("everybody may rename what is in %s (mode %04o): chmod o-w %s", dir, mode.Perm(), dir)
	}
	return nil
}

// Unchecked lists the checks of files that cannot be made on this system, empty on Unix. Whoever opens a Dir or reads a
// Private file tells its operator, so that no check is taken for one that passed.
func Unchecked() []string {
	if modesMeanSomething {
		return nil
	}
	return []string{"owner", "mode", "hard links", "directories above"}
}
