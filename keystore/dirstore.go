package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	recordSuffix = ".record"
	headLive     = "revision "
	headRemoved  = "removed "
	maxHead      = 64
)

func recordFile(key string) string { return recordsDir + "/" + key + recordSuffix }

// Load is described at Store. It takes no lock: a record is one file, replaced by a rename.
func (d *Dir) Load(ctx context.Context, key string) (Record, error) {
	if err := validKey(key); err != nil {
		return Record{}, fmt.Errorf("keystore: load: %w", err)
	}
	r, err := d.record(key)
	if err == nil && r.Removed {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Record{}, fmt.Errorf("keystore: load %q: %w", key, err)
	}
	return r, nil
}

// record reads a record, which may be a removed one.
func (d *Dir) record(key string) (Record, error) {
	data, err := d.read(recordFile(key), MaxValue+maxHead)
	if err != nil {
		return Record{}, err
	}
	head, value, ok := bytes.Cut(data, []byte("\n"))
	number, live := strings.CutPrefix(string(head), headLive)
	if !live {
		number, ok = strings.CutPrefix(string(head), headRemoved)
	}
	revision, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || revision == 0 {
		return Record{}, fmt.Errorf("%s does not begin with its revision: it was cut off, or is not ours", recordFile(key))
	}
	r := Record{Key: key, Revision: Revision(revision), Removed: !live}
	if live {
		r.Value = slices.Clone(value)
	}
	return r, nil
}

// Replace is described at Store.
func (d *Dir) Replace(ctx context.Context, key string, old Revision, value []byte) (Revision, error) {
	if err := errors.Join(validKey(key), validValue(value)); err != nil {
		return 0, fmt.Errorf("keystore: replace: %w", err)
	}
	revision, err := d.swap(key, old, headLive, value)
	if err != nil {
		return 0, fmt.Errorf("keystore: replace %q: %w", key, err)
	}
	return revision, nil
}

// Remove is described at Store. A removed record leaves a line with its revision: a revision is never used again, and
// a Watch hears of it.
func (d *Dir) Remove(ctx context.Context, key string, old Revision) error {
	if err := validKey(key); err != nil {
		return fmt.Errorf("keystore: remove: %w", err)
	}
	if _, err := d.swap(key, old, headRemoved, nil); err != nil {
		return fmt.Errorf("keystore: remove %q: %w", key, err)
	}
	return nil
}

// swap is the compare-and-swap, under the exclusive lock.
func (d *Dir) swap(key string, old Revision, head string, value []byte) (Revision, error) {
	unlock, err := d.lock(true)
	if err != nil {
		return 0, err
	}
	defer unlock()
	held, err := d.record(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if head == headRemoved && (held.Revision == 0 || held.Removed) {
		return 0, fs.ErrNotExist
	}
	if err := atRevision(held, old); err != nil {
		return 0, err
	}
	revision, err := d.revision()
	if err != nil {
		return 0, err
	}
	revision++
	name := recordFile(key)
	if err := d.tree.MkdirAll(path.Dir(name)); err != nil {
		return 0, err
	}
	// The number is spent before the record is there: a process killed in between leaves a gap, never a number used
	// twice. After a power cut the counter may be behind; the next OpenDir counts the records.
	if err := d.setRevision(revision); err != nil {
		return 0, err
	}
	content := append(fmt.Appendf(nil, "%s%d\n", head, revision), value...)
	if err := d.tree.Write(name, content, 0o600); err != nil {
		return 0, err
	}
	d.wake()
	return revision, nil
}

// revision reads the counter. The lock is held.
func (d *Dir) revision() (Revision, error) {
	data, err := d.read(revisionFile, maxHead)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s does not hold a number: remove it, and the records will be counted", revisionFile)
	}
	return Revision(n), nil
}

// setRevision writes the counter in place and unflushed: one write of fixed length, which no reader sees half.
func (d *Dir) setRevision(r Revision) error {
	f, err := d.tree.Root.OpenFile(revisionFile, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%020d\n", r), 0)
	return errors.Join(err, f.Close())
}

// List is described at Store.
func (d *Dir) List(ctx context.Context, prefix string) ([]Record, Revision, error) {
	if err := validPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("keystore: list: %w", err)
	}
	records, revision, err := d.snapshot(prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("keystore: list %q: %w", prefix, err)
	}
	return living(records), revision, nil
}

// snapshot reads all records under prefix, removed ones too, at one revision.
func (d *Dir) snapshot(prefix string) ([]Record, Revision, error) {
	unlock, err := d.lock(false)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	revision, err := d.revision()
	if err != nil {
		return nil, 0, err
	}
	records, err := d.scan(prefix)
	return records, revision, err
}

// scan reads the records under prefix. The lock is held.
func (d *Dir) scan(prefix string) ([]Record, error) {
	var records []Record
	entries, err := d.entries(strings.TrimSuffix(recordsDir+"/"+prefix, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			below, err := d.scan(prefix + e.Name() + "/")
			if err != nil {
				return nil, err
			}
			records = append(records, below...)
			continue
		}
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || validKey(prefix+name) != nil {
			return nil, fmt.Errorf("%s/%s%s is not a record of ours: expected <name>%s", recordsDir, prefix, e.Name(), recordSuffix)
		}
		r, err := d.record(prefix + name)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// Watch is described at Store. Writes of this process are seen at once, those of others within a twentieth of a second.
func (d *Dir) Watch(ctx context.Context, prefix string, after Revision) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := validPrefix(prefix); err != nil {
			yield(Record{}, fmt.Errorf("keystore: watch: %w", err))
			return
		}
		tick := time.NewTicker(d.poll)
		defer tick.Stop()
		for {
			changed := d.changes()
			news, now, err := d.since(prefix, after)
			if err != nil {
				yield(Record{}, fmt.Errorf("keystore: watch %q: %w", prefix, err))
				return
			}
			after = now
			if !yieldInOrder(news, yield) {
				return
			}
			select {
			case <-ctx.Done():
				yield(Record{}, ctx.Err())
				return
			case <-changed:
			case <-tick.C:
			}
		}
	}
}

// since returns what was written after a revision, and the revision now.
func (d *Dir) since(prefix string, after Revision) ([]Record, Revision, error) {
	// A look at the counter alone is enough while nothing happens; the counter is written before the record, so the
	// records are then read under the lock.
	if now, err := d.revision(); err == nil && now == after {
		return nil, now, nil
	}
	records, now, err := d.snapshot(prefix)
	if err != nil {
		return nil, 0, err
	}
	if after > now {
		return nil, 0, fmt.Errorf("revision %d is in the future of %d: %w", after, now, ErrHistoryGone)
	}
	return slices.DeleteFunc(records, func(r Record) bool { return r.Revision <= after }), now, nil
}
