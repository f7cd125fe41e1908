//go:build !unix

package keystore

import (
	"io/fs"
	"sync"
)

// Owners, modes and links cannot be checked here: what a Dir holds is as private as the directory's access list.
const modesMeanSomething = false

func links(fs.FileInfo) uint64 { return 1 }

func owned(fs.FileInfo) error { return nil }

type lockState struct{ mu sync.Mutex }

// lock holds off the goroutines of this process only: several processes need a Unix system, or another Store.
func (d *Dir) lock(bool) (unlock func(), err error) {
	d.locking.mu.Lock()
	return d.locking.mu.Unlock, nil
}
