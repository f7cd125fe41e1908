package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clusterca/clusterca/internal/durable"
)

// Dir keeps keys and records in files, readable with openssl and diff while the daemon runs:
//
//	keys/<label>.pem        PKCS#8, mode 0600, in the clear or encrypted (DirConfig.Passphrase)
//	records/<key>.record    one line with the revision, then the value
//	revision, changes       which revision is committed, and which keys the latest ones wrote; made again when lost
//
// Its directories are 0700 and its own: a link, a file of somebody else's or one that others may read is refused with
// an error that says so. It is safe for concurrent use by goroutines and, on Unix, by processes. An operation that is
// killed at any instruction leaves the old value or the new one, and nobody sees a new one before it is durable.
// A removed record leaves one line for ever, so take keys from a bounded set.
type Dir struct {
	place
	poll time.Duration

	passphrase Passphrase // nil: keys in the clear
	rounds     int        // of PBKDF2, in keys that are written

	notify  sync.Mutex    // guards changed
	changed chan struct{} // closed at each write of this process
}

// place is a directory that is ours to write to.
type place struct {
	path string // absolute
	tree *durable.Tree
	turn chan struct{} // holds one value while a goroutine has, or waits for, the directory's lock
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
	changesFile  = "changes"
)

// watchPoll is how soon a Watch sees the writes of other processes.
const watchPoll = 50 * time.Millisecond

// OpenDir opens a directory, and makes it when it is not there; its parent must be. The caller closes it. What a crash
// left half done is finished or undone here.
func OpenDir(path string) (*Dir, error) { return DirConfig{}.Open(path) }

// DirConfig says how a directory is kept. The zero value is what OpenDir takes.
type DirConfig struct {
	// Passphrase is where passphrases come from. nil: keys are kept in the clear, and an encrypted one is refused. With
	// one they are encrypted (PBES2: PBKDF2-HMAC-SHA256 of 600,000 rounds, AES-256-CBC), which costs some 0.1 s each time
	// a key is made or opened, and one in the clear is refused.
	Passphrase Passphrase
}

// Open is OpenDir for a directory that is kept in this way.
func (c DirConfig) Open(path string) (*Dir, error) {
	d, err := c.open(path, nil)
	if err != nil {
		return nil, fmt.Errorf("keystore: open directory %q: %w", path, err)
	}
	return d, nil
}

func (c DirConfig) open(path string, fault func(operation string, done bool) error) (*Dir, error) {
	p, err := openPlace(path, fault)
	if err != nil {
		return nil, err
	}
	d := &Dir{place: p, poll: watchPoll, passphrase: c.Passphrase, rounds: rounds, changed: make(chan struct{})}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openPlace makes the directory if it is not there.
func openPlace(path string, fault func(operation string, done bool) error) (place, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return place{}, err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return place{}, err
	}
	if err := guardedParents(path); err != nil {
		return place{}, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return place{}, err
	}
	return place{path: path, tree: &durable.Tree{Root: root, Fault: fault}, turn: make(chan struct{}, 1)}, nil
}

// prepare judges the directory that was opened, not its name, makes what is missing, and mends what a crash left: stray
// temporary files, and a revision counter that is behind the records because it is not flushed by itself.
func (d *Dir) prepare() error {
	info, err := d.tree.Root.Stat(".")
	if err != nil {
		return err
	}
	if err := private(d.path, info); err != nil {
		return err
	}
	release, err := d.lock(context.Background())
	if err != nil {
		return err
	}
	defer release()
	if _, err := d.tree.Root.Lstat(recordsDir); errors.Is(err, fs.ErrNotExist) {
		// New, or its maker was killed: without this a power cut could take the whole directory.
		if err := d.syncParent(); err != nil {
			return err
		}
	}
	for _, name := range []string{keysDir, durable.Temp, recordsDir} {
		if err := d.tree.MkdirAll(name); err != nil {
			return err
		}
		if _, err := d.entries(name); err != nil {
			return err
		}
	}
	if err := d.tree.Clean(); err != nil {
		return err
	}
	return d.recount()
}

func (d *place) syncParent() error {
	root, err := os.OpenRoot(filepath.Dir(d.path))
	if err != nil {
		return err
	}
	parent := durable.Tree{Root: root, Fault: d.tree.Fault}
	return errors.Join(parent.SyncDir("."), root.Close())
}

// Close releases the directory. Signers that were opened stay usable.
func (d *Dir) Close() error { return d.tree.Root.Close() }

// Path is where the directory was opened, absolute.
func (d *Dir) Path() string { return d.path }

// lock takes the directory's lock, against goroutines and, on Unix, other processes; a crash releases it. Only one
// goroutine of a process waits for it in the kernel, since each such wait costs a thread.
func (d *place) lock(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	leave := func() { <-d.turn }
	unlock, err := d.lockProcesses(ctx, leave)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { unlock(); leave() }, nil
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
