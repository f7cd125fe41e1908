package keystore

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// bySpace is a small disk of its own, which takes root.
func bySpace(t *testing.T) full {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("no small disk, which takes root: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	ballast := filepath.Join(disk, "ballast")
	fill := func() {
		f, err := os.Create(ballast)
		must(t, err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return full{filepath.Join(disk, "dir"), fill, func() { must(t, os.Remove(ballast)) }, syscall.ENOSPC}
}
