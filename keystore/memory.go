package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory keeps keys and records in this process: for tests, and for keys that need not outlive it. It is safe for
// concurrent use by goroutines.
type Memory struct {
	mu       sync.Mutex // guards what follows
	keys     map[string]*softwareKey
	records  map[string]Record // removed ones too, for Watch
	revision Revision
	changed  chan struct{} // closed at each write
}

var (
	_ Keys  = (*Memory)(nil)
	_ Store = (*Memory)(nil)
)

// NewMemory returns an empty keeper and store.
func NewMemory() *Memory {
	return &Memory{keys: map[string]*softwareKey{}, records: map[string]Record{}, changed: make(chan struct{})}
}

// Generate is described at Keys.
func (m *Memory) Generate(ctx context.Context, label string, a Algorithm) (Signer, error) {
	if err := errors.Join(validLabel(label), ctx.Err()); err != nil {
		return nil, fmt.Errorf("keystore: generate: %w", err)
	}
	s, err := m.generate(label, a)
	if err != nil {
		return nil, fmt.Errorf("keystore: generate %q: %w", label, err)
	}
	return s, nil
}

// generate makes the key outside the lock: RSA takes seconds. Of two callers at once the first one's key stays.
func (m *Memory) generate(label string, a Algorithm) (Signer, error) {
	if k := m.key(label); k != nil {
		return k.as(a)
	}
	made, err := a.generate()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.keys[label]; ok {
		return k.as(a)
	}
	k := &softwareKey{key: made, label: label, algorithm: a}
	m.keys[label] = k
	return k, nil
}

func (m *Memory) key(label string) *softwareKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[label]
}

// Open is described at Keys.
func (m *Memory) Open(ctx context.Context, label string) (Signer, error) {
	if err := errors.Join(validLabel(label), ctx.Err()); err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	if k := m.key(label); k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("keystore: open key %q: %w", label, fs.ErrNotExist)
}

// Delete is described at Keys.
func (m *Memory) Delete(ctx context.Context, label string) error {
	if err := errors.Join(validLabel(label), ctx.Err()); err != nil {
		return fmt.Errorf("keystore: delete key: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.keys[label]; !ok {
		return fmt.Errorf("keystore: delete key %q: %w", label, fs.ErrNotExist)
	}
	delete(m.keys, label)
	return nil
}

// Labels is described at Keys.
func (m *Memory) Labels(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("keystore: labels: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.keys)), nil
}

// Load is described at Store.
func (m *Memory) Load(ctx context.Context, key string) (Record, error) {
	if err := errors.Join(validKey(key), ctx.Err()); err != nil {
		return Record{}, fmt.Errorf("keystore: load: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[key]
	if !ok || r.Removed {
		return Record{}, fmt.Errorf("keystore: load %q: %w", key, fs.ErrNotExist)
	}
	r.Value = slices.Clone(r.Value)
	return r, nil
}

// Replace is described at Store.
func (m *Memory) Replace(ctx context.Context, key string, old Revision, value []byte) (Revision, error) {
	if err := errors.Join(validKey(key), validValue(value), ctx.Err()); err != nil {
		return 0, fmt.Errorf("keystore: replace: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := atRevision(m.records[key], old); err != nil {
		return 0, fmt.Errorf("keystore: replace %q: %w", key, err)
	}
	return m.write(Record{Key: key, Value: append([]byte{}, value...)}), nil
}

// Remove is described at Store.
func (m *Memory) Remove(ctx context.Context, key string, old Revision) error {
	if err := errors.Join(validKey(key), ctx.Err()); err != nil {
		return fmt.Errorf("keystore: remove: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	held := m.records[key]
	if held.Revision == 0 || held.Removed {
		return fmt.Errorf("keystore: remove %q: %w", key, fs.ErrNotExist)
	}
	if err := atRevision(held, old); err != nil {
		return fmt.Errorf("keystore: remove %q: %w", key, err)
	}
	m.write(Record{Key: key, Removed: true})
	return nil
}

// write stores r as the next revision. m.mu is held.
func (m *Memory) write(r Record) Revision {
	m.revision++
	r.Revision = m.revision
	m.records[r.Key] = r
	close(m.changed)
	m.changed = make(chan struct{})
	return r.Revision
}

// List is described at Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Record, Revision, error) {
	if err := errors.Join(validPrefix(prefix), ctx.Err()); err != nil {
		return nil, 0, fmt.Errorf("keystore: list: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return living(m.after(prefix, 0)), m.revision, nil
}

// after returns copies of the records under prefix that were written after a revision. m.mu is held.
func (m *Memory) after(prefix string, after Revision) []Record {
	var list []Record
	for _, r := range m.records {
		if r.Revision > after && strings.HasPrefix(r.Key, prefix) {
			r.Value = slices.Clone(r.Value)
			list = append(list, r)
		}
	}
	return list
}

// Watch is described at Store.
func (m *Memory) Watch(ctx context.Context, prefix string, after Revision) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := validPrefix(prefix); err != nil {
			yield(Record{}, fmt.Errorf("keystore: watch: %w", err))
			return
		}
		for {
			news, now, changed := m.since(prefix, after)
			switch {
			case ctx.Err() != nil:
				yield(Record{}, ctx.Err())
				return
			case after > now:
				yield(Record{}, fmt.Errorf("keystore: watch %q: %w", prefix, inFuture(after, now)))
				return
			}
			after = now
			if !yieldInOrder(news, yield) {
				return
			}
			select {
			case <-ctx.Done():
			case <-changed:
			}
		}
	}
}

// since returns what was written after a revision, the revision now, and what is closed at the next write.
func (m *Memory) since(prefix string, after Revision) ([]Record, Revision, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.after(prefix, after), m.revision, m.changed
}

// inFuture: whoever asks knew another store, or this one before it was restored from a copy.
func inFuture(after, now Revision) error {
	return fmt.Errorf("revision %d is in the future of %d: list again: %w", after, now, ErrHistoryGone)
}

func yieldInOrder(news []Record, yield func(Record, error) bool) bool {
	slices.SortFunc(news, func(a, b Record) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, r := range news {
		if !yield(r, nil) {
			return false
		}
	}
	return true
}

// living drops what was removed and sorts by key.
func living(records []Record) []Record {
	records = slices.DeleteFunc(records, func(r Record) bool { return r.Removed })
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return records
}

// atRevision compares what stands in a store with what the caller knew.
func atRevision(held Record, old Revision) error {
	if held.Removed {
		held.Revision = 0
	}
	if held.Revision != old {
		return fmt.Errorf("it is at revision %d, not %d: %w", held.Revision, old, ErrConflict)
	}
	return nil
}
