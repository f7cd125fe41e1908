package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
)

// counter is what the revision file says. Begun runs ahead of committed while a record is written: when its writer dies
// in between, it stays ahead, which tells the next one that the last record may be in place and not durable yet.
//
// The file is written in place and not flushed. A process that is killed loses nothing by that; after a power cut it may
// hold anything, and the records are counted again. Each number that anybody was ever told of is committed, and so stands
// in a durable record, or in a later one of the same key: no number means two things.
type counter struct{ committed, begun Revision }

func (c counter) encode() []byte {
	return fmt.Appendf(nil, "committed %020d\nbegun     %020d\n", c.committed, c.begun)
}

// parseCounter takes exactly what encode writes. ok is false for what a power cut can leave.
func parseCounter(data []byte) (c counter, ok bool) {
	lines := bytes.Split(data, []byte("\n"))
	if len(lines) != 3 {
		return counter{}, false
	}
	committed, err := strconv.ParseUint(string(bytes.TrimPrefix(lines[0], []byte("committed "))), 10, 63)
	if err != nil {
		return counter{}, false
	}
	begun, err := strconv.ParseUint(string(bytes.TrimPrefix(lines[1], []byte("begun     "))), 10, 63)
	if err != nil {
		return counter{}, false
	}
	c = counter{Revision(committed), Revision(begun)}
	if c.committed > c.begun || !bytes.Equal(data, c.encode()) {
		return counter{}, false
	}
	return c, true
}

// settled reports whether everything that was written is durable.
func (c counter) settled() bool { return c.committed == c.begun }

// counter reads the revision file; ok is false when it is lost. Without the lock it may be read in the middle of a write
// and be of no number at all, which costs such a caller a second look under the lock and nothing else: a number that is
// read as committed and compared with a record's is only ever wrong while that very record is being declared committed.
func (d *Dir) counter() (c counter, ok bool, err error) {
	data, err := d.read(revisionFile, maxCounter)
	if errors.Is(err, fs.ErrNotExist) {
		return counter{}, false, nil
	}
	if err != nil {
		return counter{}, false, err
	}
	c, ok = parseCounter(data)
	return c, ok, nil
}

func (d *Dir) setCounter(c counter) error { return d.tree.Overwrite(revisionFile, c.encode()) }

// acquire takes the lock and returns the revision of the last write, after it has settled one whose writer died.
func (d *Dir) acquire(ctx context.Context) (release func(), now Revision, err error) {
	release, err = d.lock(ctx)
	if err != nil {
		return nil, 0, err
	}
	c, ok, err := d.counter()
	if err == nil && (!ok || !c.settled()) {
		err = d.recount()
		if err == nil {
			c, _, err = d.counter()
		}
	}
	if err != nil {
		release()
		return nil, 0, err
	}
	return release, c.committed, nil
}

// recount makes the counter true, and what it counts durable. The lock is held.
func (d *Dir) recount() error {
	c, ok, err := d.counter()
	if err != nil {
		return err
	}
	newest := c.committed
	err = d.walk("", func(r Record) error {
		newest = max(newest, r.Revision)
		return nil
	})
	if err != nil || ok && c.settled() && newest == c.committed {
		return err
	}
	// A crash in here changes nothing: the counter still says that something is open.
	if err := errors.Join(d.syncAll(recordsDir), d.tree.SyncDir(".")); err != nil {
		return err
	}
	return d.setCounter(counter{newest, newest})
}

// syncAll flushes a directory and those below it.
func (d *Dir) syncAll(name string) error {
	entries, err := d.entries(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := d.syncAll(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	return d.tree.SyncDir(name)
}

// note adds a line to the list of changes, from which a Watch learns what to read. The lock is held. The list is a hint:
// who finds a revision missing in it reads every record, so that a failure here is none of the writer's.
func (d *Dir) note(r Revision, key string) {
	info, err := d.tree.Root.Lstat(changesFile)
	anew := err != nil || info.Size() > maxChanges
	_ = d.tree.Append(changesFile, fmt.Appendf(nil, "%d %s\n", r, key), anew)
}

// changedKeys reads the list of changes. The lock is held. ok is false when it does not tell everything in (after, now].
func (d *Dir) changedKeys(after, now Revision) (keys []string, ok bool) {
	data, err := d.read(changesFile, maxChanges+maxKey+maxHead)
	if err != nil {
		return nil, false
	}
	return parseChanges(data, after, now)
}

// parseChanges reads the lines of the revisions in (after, now], newest first, each of which must be there, and returns
// their keys, each once, sorted.
func parseChanges(data []byte, after, now Revision) (keys []string, ok bool) {
	for want := now; want > after; want-- {
		rest, whole := bytes.CutSuffix(data, []byte("\n"))
		start := bytes.LastIndexByte(rest, '\n') + 1
		key, mine := bytes.CutPrefix(rest[start:], fmt.Appendf(nil, "%d ", want))
		if !whole || !mine || validKey(string(key)) != nil {
			return nil, false
		}
		keys = append(keys, string(key))
		data = data[:start]
	}
	slices.Sort(keys)
	return slices.Compact(keys), true
}
