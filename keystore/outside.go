package keystore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Access says who else may have access to a file that comes from outside.
type Access int

const (
	// Public is a file that proves itself, whoever wrote it: a certificate to check, a request.
	Public Access = iota
	// Trusted is a file that decides: a bundle of roots, a configuration. Nobody may write to it, or put another in its
	// place, but this process's user and root.
	Trusted
	// Private is a file with a secret: as Trusted, and nobody else may read it, under another name neither.
	Private
)

// ReadFile reads a file from outside, of at most 1 MiB. It must be a regular file: a FIFO, a device or a directory is
// refused without waiting for it. Links are followed, since mounts and deployments are made of them, and what is judged
// is the file that was opened, with the directories that lead to it. Where the system cannot tell who has access, which
// Unchecked says, that is not judged. The error wraps fs.ErrNotExist when there is no such file.
func ReadFile(path string, a Access) ([]byte, error) {
	data, err := readOutside(path, a)
	if err != nil {
		return nil, fmt.Errorf("keystore: read: %w", err)
	}
	return data, nil
}

// readOutside reads a file that others may replace, by a rename or by a change of links, meanwhile.
func readOutside(path string, a Access) ([]byte, error) {
	return reread(func() ([]byte, error) { return readOutsideOnce(path, a) })
}

// readOutsideOnce opens with O_NONBLOCK, which keeps a FIFO from blocking it for ever, and judges the descriptor.
func readOutsideOnce(path string, a Access) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	data, _, err := readJudged(f, path, maxFile, func(info fs.FileInfo) error { return a.judge(path, info) })
	return data, err
}

// judge says whether the file that was opened is as private as it must be.
func (a Access) judge(path string, info fs.FileInfo) error {
	switch a {
	case Public:
		return nil
	case Private:
		if links(info) > 1 {
			return fmt.Errorf("%s has %d hard links, and its secret lives under another name too: remove that", path, links(info))
		}
		if err := private(path, info); err != nil {
			return err
		}
	case Trusted:
		if err := unwritable(path, info); err != nil {
			return err
		}
	default:
		return fmt.Errorf("access %d is none of Public, Trusted and Private", int(a))
	}
	return guardedWay(path, info)
}

// unwritable refuses what others may write or own.
func unwritable(path string, info fs.FileInfo) error {
	if err := owned(path, info); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); modesMeanSomething && mode&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can write to it: chmod go-w %s", path, mode, path)
	}
	return nil
}

// guardedWay looks at the directories that lead to a file, and at those that lead to each link on the way: whoever owns
// one of them, or may write to it, can put another file there.
func guardedWay(path string, open fs.FileInfo) error {
	places, err := waysTo(path)
	if err != nil {
		return err
	}
	if named, err := os.Lstat(places[len(places)-1]); err != nil || !os.SameFile(named, open) {
		return fmt.Errorf("%s: %w", path, errReplaced)
	}
	trusted := func(dir string, info fs.FileInfo) error {
		if err := owned(dir, info); err != nil {
			return err
		}
		return sticky(dir, info)
	}
	for _, place := range places {
		if err := eachAbove(place, trusted); err != nil {
			return err
		}
	}
	return nil
}

// OpenKeyFile opens a private key from outside, such as an external CA's, as a Dir keeps them: the file holds one key
// in PKCS#8 and nothing else, in the clear when p is nil, and otherwise encrypted with its public half before it. It
// must be Private. The Signer's label is the path, and so is what p is asked with. The error wraps fs.ErrNotExist,
// ErrAlgorithm or ErrPassphrase.
func OpenKeyFile(ctx context.Context, path string, p Passphrase) (Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	data, err := readOutside(path, Private)
	if err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	defer clear(data)
	key, a, err := readKey(data, p.of(ctx, path))
	if err != nil {
		return nil, fmt.Errorf("keystore: open key: %s: %w", path, err)
	}
	return &softwareKey{key: key, label: path, algorithm: a}, nil
}
