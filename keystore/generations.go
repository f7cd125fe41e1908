package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterca/clusterca/internal/durable"
)

// Generation is a file that was replaced or removed. It has the mode and owner that it had.
type Generation struct {
	Number int    // counted from 1, the newest has the highest; no clock has a say in it
	File   string // its name in the folder
	Size   int64
}

// generationFile is the name of a generation, as cp --backup=numbered has it; the dot keeps programs that read every
// file of a directory from it.
func generationFile(name string, number int) string { return fmt.Sprintf(".%s.~%d~", name, number) }

// parseGeneration is its inverse.
func parseGeneration(file string) (name string, number int, ok bool) {
	inner, ok := strings.CutSuffix(strings.TrimPrefix(file, "."), "~")
	i := strings.LastIndex(inner, ".~")
	if !ok || i < 0 {
		return "", 0, false
	}
	number, err := strconv.Atoi(inner[i+2:])
	name = inner[:i]
	return name, number, err == nil && number > 0 && fileName(name) && generationFile(name, number) == file
}

// Generations lists what is kept of a file, the newest first.
func (f *Folder) Generations(name string) ([]Generation, error) {
	list, err := f.generations(name)
	if err != nil {
		return nil, fmt.Errorf("keystore: generations of %.80q: %w", name, err)
	}
	return list, nil
}

func (f *Folder) generations(name string) (list []Generation, err error) {
	if !fileName(name) {
		return nil, ErrName
	}
	entries, err := fs.ReadDir(f.tree.Root.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if of, number, ok := parseGeneration(e.Name()); ok && of == name {
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			list = append(list, Generation{Number: number, File: e.Name(), Size: info.Size()})
		}
	}
	slices.SortFunc(list, func(a, b Generation) int { return b.Number - a.Number })
	return list, nil
}

// Prune removes all but the newest generations of a file, durably, and returns those that went.
func (f *Folder) Prune(ctx context.Context, name string, keep int) ([]Generation, error) {
	gone, err := f.prune(ctx, name, keep)
	if err != nil {
		return gone, fmt.Errorf("keystore: prune %.80q: %w", name, err)
	}
	return gone, nil
}

func (f *Folder) prune(ctx context.Context, name string, keep int) ([]Generation, error) {
	if keep < 0 {
		return nil, fmt.Errorf("%d to keep", keep)
	}
	release, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	gone, err := f.drop(name, keep)
	return gone, errors.Join(err, f.tree.SyncDir("."))
}

// drop removes all but the newest generations, without a flush. The lock is held.
func (f *Folder) drop(name string, keep int) (gone []Generation, err error) {
	list, err := f.generations(name)
	if err != nil {
		return nil, err
	}
	for _, g := range list[min(keep, len(list)):] {
		if err := f.tree.Drop(g.File); err != nil {
			return gone, err
		}
		gone = append(gone, g)
	}
	return gone, nil
}

// keepCopy copies what is there. A second name of the same file would be less work, and for a moment a secret with two.
func (f *Folder) keepCopy(c Change) error {
	kept, next, err := f.kept(c)
	if err != nil || kept {
		return err
	}
	data, err := f.content(c.Name)
	if err != nil {
		return err
	}
	defer clear(data)
	old := durable.File{Data: data, Mode: c.found.mode}
	if modesMeanSomething {
		old.Owner = &durable.Owner{UID: c.found.uid, GID: c.found.gid}
	}
	return f.tree.Place(next, old)
}

// kept reports whether the newest generation of a file is what stands there now; next is the name of the one after it.
func (f *Folder) kept(c Change) (kept bool, next string, err error) {
	list, err := f.generations(c.Name)
	if err != nil || len(list) == 0 {
		return false, generationFile(c.Name, 1), err
	}
	newest, err := f.look(list[0].File)
	return newest.same(c.found), generationFile(c.Name, list[0].Number+1), err
}
