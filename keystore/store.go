package keystore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Revision numbers the writes to a store. It grows by one with every write to any record and is never used again.
type Revision uint64

// Record is one small value under a key.
type Record struct {
	Key      string // segments of [a-z0-9-]+ joined by '/'
	Value    []byte // at most MaxValue bytes; nil when Removed
	Revision Revision
	Removed  bool // in Watch only
}

// Store keeps small records that several daemons share. An implementation is safe for concurrent use by goroutines
// and, if it says so, by processes. Load and List are linearizable: they see every write that returned before they
// were called, and what one caller saw, every later one sees, after a crash too. A key that is not of the grammar gives
// an error that wraps ErrName. A call ends with its context's error when that ends first; a write may then have happened.
type Store interface {
	// Load reads a record; the error wraps fs.ErrNotExist when there is none.
	Load(ctx context.Context, key string) (Record, error)
	// Replace writes a record if its revision is still old; 0 means that it must not exist. Durable on return. When
	// somebody else was first the error wraps ErrConflict and nothing was written.
	Replace(ctx context.Context, key string, old Revision, value []byte) (Revision, error)
	// Remove removes a record if its revision is still old. The error wraps ErrConflict, or fs.ErrNotExist.
	Remove(ctx context.Context, key string, old Revision) error
	// List reads all records whose key begins with prefix ("" or ending in '/'), sorted by key, and the revision at
	// which it saw them.
	List(ctx context.Context, prefix string) ([]Record, Revision, error)
	// Watch yields the changes after a revision, in order, until ctx ends; changes of one key may be folded into the
	// last. List first, then Watch after the revision of the list, misses nothing. It ends with an error: the context's,
	// one that wraps ErrHistoryGone, after which the caller lists again, or the cause of a read that failed. Leaving the
	// loop ends it too; a Watch after the last revision seen goes on from there.
	Watch(ctx context.Context, prefix string, after Revision) iter.Seq2[Record, error]
}

var (
	// ErrConflict says that a record is not at the revision that the caller knew.
	ErrConflict = errors.New("record was changed meanwhile")
	// ErrHistoryGone says that a Watch cannot tell what happened since the revision asked for.
	ErrHistoryGone = errors.New("history is gone")
)

func validKey(key string) error {
	if len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("record key of %d bytes, want 1 to %d: %w", len(key), maxKey, ErrName)
	}
	for part := range strings.SplitSeq(key, "/") {
		if !segment(part) || len(part) > maxSegment {
			return fmt.Errorf("record key %q: want segments of a-z, 0-9 and hyphens joined by /: %w", key, ErrName)
		}
	}
	return nil
}

func validPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	trimmed, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("prefix %q does not end in /: %w", prefix, ErrName)
	}
	return validKey(trimmed)
}

func validValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("value of %d bytes, at most %d", len(value), MaxValue)
	}
	return nil
}
