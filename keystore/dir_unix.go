//go:build unix

package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const modesMeanSomething = true

func links(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

func ownerOf(info fs.FileInfo) (uid, gid int) {
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

// owned refuses a file of another user; root may own anything that its services use.
func owned(path string, info fs.FileInfo) error {
	owner, _ := ownerOf(info)
	if self := os.Geteuid(); owner != self && owner != 0 {
		return fmt.Errorf("%s belongs to user %d, not to this process's user %d: chown %d %s", path, owner, self, self, path)
	}
	return nil
}

// lockProcesses takes the lock in the kernel, which releases it when a process dies. Each call opens the file anew,
// since a lock belongs to an open file. Somebody may remove the file while it is locked; a lock on a file without a
// name would hold off nobody, so the name is looked at again.
func (d *place) lockProcesses(ctx context.Context) (unlock func(), err error) {
	for range maxRelocks {
		f, err := d.tree.Root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, f); err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil {
			err = d.ours(lockFile, info)
		}
		if err == nil {
			return func() { f.Close() }, nil
		}
		f.Close()
		if !errors.Is(err, errReplaced) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", lockFile, errReplaced)
}

// flock waits for the lock until ctx ends. Then, or on an error, f gets closed.
func flock(ctx context.Context, f *os.File) error {
	err := flockNow(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return flockWaiting(ctx, f)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// flockWaiting waits in a goroutine, since the call takes no context. When ctx ends first, the goroutine closes the file
// as soon as the kernel gives it the lock.
func flockWaiting(ctx context.Context, f *os.File) error {
	got := make(chan error)
	go func() {
		err := flockNow(f, syscall.LOCK_EX)
		if err != nil {
			f.Close()
		}
		select {
		case got <- err:
		case <-ctx.Done():
			f.Close()
		}
	}()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func flockNow(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
