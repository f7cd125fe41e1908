package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
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
)

func recordFile(key string) string { return recordsDir + "/" + key + recordSuffix }

// Load is described at Store. It waits for nobody, unless the very record is being written.
func (d *Dir) Load(ctx context.Context, key string) (Record, error) {
	if err := errors.Join(validKey(key), ctx.Err()); err != nil {
		return Record{}, fmt.Errorf("keystore: load: %w", err)
	}
	r, err := d.load(ctx, key)
	if err == nil && r.Removed {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Record{}, fmt.Errorf("keystore: load %q: %w", key, err)
	}
	return r, nil
}

// load reads a committed record. One that a writer has put in place and not flushed yet must not be seen: the caller
// may act on it, and after a power cut it would never have been, and its number be used for something else.
func (d *Dir) load(ctx context.Context, key string) (Record, error) {
	r, err := d.record(key)
	if err != nil {
		return Record{}, err
	}
	if c, ok, err := d.counter(); err == nil && ok && r.Revision <= c.committed {
		return r, nil
	}
	release, _, err := d.acquire(ctx)
	if err != nil {
		return Record{}, err
	}
	defer release()
	return d.record(key)
}

// record reads a record, which may be a removed one.
func (d *Dir) record(key string) (Record, error) {
	data, err := d.read(recordFile(key), MaxValue+maxHead)
	if err != nil {
		return Record{}, err
	}
	r, err := parseRecord(key, data)
	if err != nil {
		return Record{}, fmt.Errorf("%s %w", recordFile(key), err)
	}
	return r, nil
}

// parseRecord reads what encodeRecord wrote.
func parseRecord(key string, data []byte) (Record, error) {
	head, value, ok := bytes.Cut(data, []byte("\n"))
	number, live := strings.CutPrefix(string(head), headLive)
	if !live {
		var removed bool
		number, removed = strings.CutPrefix(string(head), headRemoved)
		ok = ok && removed && len(value) == 0
	}
	revision, err := strconv.ParseUint(number, 10, 63)
	switch {
	case !ok || err != nil || revision == 0 || strconv.FormatUint(revision, 10) != number:
		return Record{}, errors.New("does not begin with its revision: it was cut off, or is not ours")
	case len(value) > MaxValue:
		return Record{}, fmt.Errorf("holds %d bytes, at most %d", len(value), MaxValue)
	case !live:
		value = nil
	}
	return Record{Key: key, Value: value, Revision: Revision(revision), Removed: !live}, nil
}

func encodeRecord(r Record) []byte {
	head := headLive
	if r.Removed {
		head = headRemoved
	}
	return append(fmt.Appendf(nil, "%s%d\n", head, r.Revision), r.Value...)
}

// Replace is described at Store.
func (d *Dir) Replace(ctx context.Context, key string, old Revision, value []byte) (Revision, error) {
	if err := errors.Join(validKey(key), validValue(value)); err != nil {
		return 0, fmt.Errorf("keystore: replace: %w", err)
	}
	revision, err := d.swap(ctx, old, Record{Key: key, Value: value})
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
	if _, err := d.swap(ctx, old, Record{Key: key, Removed: true}); err != nil {
		return fmt.Errorf("keystore: remove %q: %w", key, err)
	}
	return nil
}

// swap is the compare-and-swap, under the lock.
func (d *Dir) swap(ctx context.Context, old Revision, next Record) (Revision, error) {
	release, now, err := d.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	held, err := d.record(next.Key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if next.Removed && (held.Revision == 0 || held.Removed) {
		return 0, fs.ErrNotExist
	}
	if err := atRevision(held, old); err != nil {
		return 0, err
	}
	if now >= maxRevision {
		return 0, fmt.Errorf("there is no revision after %d", now)
	}
	next.Revision = now + 1
	return next.Revision, d.commit(next)
}

// commit writes a record as the next revision. A crash, or an error, at any point before its number is committed leaves
// it begun: the next one to take the lock makes durable what there is, and counts.
func (d *Dir) commit(r Record) error {
	if err := d.setCounter(counter{committed: r.Revision - 1, begun: r.Revision}); err != nil {
		return err
	}
	name := recordFile(r.Key)
	if err := d.tree.MkdirAll(path.Dir(name)); err != nil {
		return err
	}
	if err := d.tree.Write(name, encodeRecord(r), 0o600); err != nil {
		return err
	}
	if err := d.setCounter(counter{r.Revision, r.Revision}); err != nil {
		return err
	}
	d.note(r.Revision, r.Key)
	d.wake()
	return nil
}

// List is described at Store.
func (d *Dir) List(ctx context.Context, prefix string) ([]Record, Revision, error) {
	if err := validPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("keystore: list: %w", err)
	}
	records, revision, err := d.list(ctx, prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("keystore: list %q: %w", prefix, err)
	}
	return living(records), revision, nil
}

func (d *Dir) list(ctx context.Context, prefix string) ([]Record, Revision, error) {
	release, now, err := d.acquire(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	records, err := d.under(prefix, 0)
	return records, now, err
}

// under reads the records under prefix, removed ones too, that were written after a revision. The lock is held.
func (d *Dir) under(prefix string, after Revision) ([]Record, error) {
	var records []Record
	err := d.walk(prefix, func(r Record) error {
		if r.Revision > after {
			records = append(records, r)
		}
		return nil
	})
	return records, err
}

// walk visits the records under prefix, removed ones too, in no order. The lock is held.
func (d *Dir) walk(prefix string, visit func(Record) error) error {
	entries, err := d.entries(path.Clean(recordsDir + "/" + prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.visit(prefix, e, visit); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) visit(prefix string, e fs.DirEntry, visit func(Record) error) error {
	name, ok := e.Name(), true
	if !e.IsDir() {
		name, ok = strings.CutSuffix(name, recordSuffix)
	}
	if !ok || validKey(prefix+name) != nil {
		return fmt.Errorf("%s/%s%.300q is no record of ours: expected <name>%s; rename it or move it away", recordsDir, prefix, e.Name(), recordSuffix)
	}
	if e.IsDir() {
		return d.walk(prefix+name+"/", visit)
	}
	r, err := d.record(prefix + name)
	if err != nil {
		return err
	}
	return visit(r)
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
			news, now, err := d.since(ctx, prefix, after)
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
			case <-changed:
			case <-tick.C:
			}
		}
	}
}

// since returns what was written after a revision, and the revision now. While nothing happens it looks at the counter
// and at nothing else.
func (d *Dir) since(ctx context.Context, prefix string, after Revision) ([]Record, Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if c, ok, err := d.counter(); err == nil && ok && c.settled() && c.committed == after {
		return nil, after, nil
	}
	release, now, err := d.acquire(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	if after > now {
		return nil, 0, inFuture(after, now)
	}
	keys, ok := d.changedKeys(after, now)
	if !ok {
		news, err := d.under(prefix, after)
		return news, now, err
	}
	news, err := d.named(keys, prefix)
	return news, now, err
}

// named reads the records of keys that are under prefix. The lock is held.
func (d *Dir) named(keys []string, prefix string) ([]Record, error) {
	var news []Record
	for _, key := range slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) }) {
		r, err := d.record(key)
		if err != nil {
			return nil, err
		}
		news = append(news, r)
	}
	return news, nil
}
