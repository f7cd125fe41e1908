//go:build unix

package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const modesMeanSomething = true

func links(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

// owned refuses a file of another user; root may own anything that its services use.
func owned(info fs.FileInfo) error {
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if self := os.Geteuid(); owner != self && owner != 0 {
		return fmt.Errorf("%s belongs to user %d, not to this process's user %d", info.Name(), owner, self)
	}
	return nil
}

// lockState is nothing here: the kernel holds the lock.
type lockState struct{}

// lock takes the directory's lock, shared or exclusive, against goroutines and other processes. The kernel releases it
// when a process dies. Each call opens the file anew, since a lock belongs to an open file.
func (d *Dir) lock(exclusive bool) (unlock func(), err error) {
	f, err := d.tree.Root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	return func() { f.Close() }, nil
}
