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
// name would hold off nobody, so the name is looked at again. After an error leave is called, when nobody waits in the
// kernel any more: perhaps later.
func (d *place) lockProcesses(ctx context.Context, leave func()) (unlock func(), err error) {
	waits := false
	defer func() {
		if err != nil && !waits {
			leave()
		}
	}()
	for range maxRelocks {
		f, err := d.tree.Root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if waits, err = flock(ctx, f, leave); err != nil {
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

// flock waits for the lock until ctx ends. Then, or on an error, f gets closed. When ctx ends first, somebody still waits
// in the kernel, and calls leave when that is over.
func flock(ctx context.Context, f *os.File, leave func()) (waits bool, err error) {
	err = flockNow(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return flockWaiting(ctx, f, leave)
	}
	if err != nil {
		err = errors.Join(err, f.Close())
	}
	return false, err
}

// flockWaiting waits in a goroutine, since the call takes no context: the kernel gives the lock to whoever came first,
// which asking again and again would not. Each such wait costs a thread, so while one goes on after its caller has
// left, no other begins.
func flockWaiting(ctx context.Context, f *os.File, leave func()) (waits bool, err error) {
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
			leave()
		}
	}()
	select {
	case err := <-got:
		return false, err
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

func flockNow(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
