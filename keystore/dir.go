package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/clusterca/clusterca/internal/durable"
)

// Dir keeps keys and records in files, readable with openssl and diff while the daemon runs:
//
//	keys/<label>.pem        PKCS#8, mode 0600
//	records/<key>.record    one line with the revision, then the value
//
// Its directories are 0700 and its own: a link, a file of somebody else's or one that others may read is refused with
// an error that says so. It is safe for concurrent use by goroutines and, on Unix, by processes. An operation that is
// killed at any instruction leaves the old value or the new one.
type Dir struct {
	path string
	tree durable.Tree
	poll time.Duration

	locking lockState
	notify  sync.Mutex    // guards changed
	changed chan struct{} // closed at each write of this process
}

var (
	_ Keys  = (*Dir)(nil)
	_ Store = (*Dir)(nil)
)

const (
	keysDir      = "keys"
	recordsDir   = "records"
	lockFile     = "lock"
	revisionFile = "revision"
)

// watchPoll is how soon a Watch sees the writes of other processes.
const watchPoll = 50 * time.Millisecond

// OpenDir opens a directory, and makes it when it is not there. The caller closes it.
func OpenDir(path string) (*Dir, error) {
	d, err := openDir(path)
	if err != nil {
		return nil, fmt.Errorf("keystore: open directory %q: %w", path, err)
	}
	return d, nil
}

func openDir(path string) (*Dir, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("it is not a directory")
	}
	if err := private(info); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, tree: durable.Tree{Root: root}, poll: watchPoll, changed: make(chan struct{})}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return d, nil
}

// prepare makes what is missing, and mends what a crash can have left: stray temporary files, and a revision counter
// that is behind the records because it is never flushed by itself.
func (d *Dir) prepare() error {
	for _, name := range []string{keysDir, recordsDir, durable.Temp} {
		if err := d.tree.MkdirAll(name); err != nil {
			return err
		}
	}
	unlock, err := d.lock(true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.tree.Clean(); err != nil {
		return err
	}
	counted, err := d.revision()
	if err != nil {
		return err
	}
	records, err := d.scan("")
	if err != nil {
		return err
	}
	newest := counted
	for _, r := range records {
		newest = max(newest, r.Revision)
	}
	return d.setRevision(newest)
}

// Close releases the directory. Signers that were opened stay usable.
func (d *Dir) Close() error { return d.tree.Root.Close() }

// Path is where the directory was opened.
func (d *Dir) Path() string { return d.path }

// read reads a file of ours. The descriptor is judged, never the name: between a look at a name and its opening
// somebody may put another file there. O_NONBLOCK keeps a FIFO from blocking the open for ever.
func (d *Dir) read(name string, limit int64) ([]byte, error) {
	f, err := d.tree.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file (%s)", name, info.Mode())
	}
	if err := d.ours(name, info); err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", name, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}

// ours refuses links and files that others can read or own. os.Root follows links that stay inside it, so the name is
// compared with the descriptor.
func (d *Dir) ours(name string, open fs.FileInfo) error {
	named, err := d.tree.Root.Lstat(name)
	if err != nil {
		return err
	}
	if named.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link: put the file itself there", name)
	}
	if !os.SameFile(named, open) {
		// Replaced between the two looks: what was opened is a whole older version, but its link count says nothing.
		return private(named)
	}
	if links(open) > 1 {
		return fmt.Errorf("%s has %d hard links: copy the file instead of linking it", name, links(open))
	}
	return private(open)
}

// private refuses what others may read or write, or own.
func private(info fs.FileInfo) error {
	if err := owned(info); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); modesMeanSomething && mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can get at it: chmod go= %s", info.Name(), mode, info.Name())
	}
	return nil
}

// wake tells the watches of this process that something was written.
func (d *Dir) wake() {
	d.notify.Lock()
	defer d.notify.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *Dir) changes() <-chan struct{} {
	d.notify.Lock()
	defer d.notify.Unlock()
	return d.changed
}
