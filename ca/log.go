package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"time"

	"github.com/clusterca/clusterca/internal/dsse"
	"github.com/clusterca/clusterca/keystore"
)

// Log is a record of issuances in a store: numbered from 1, each entry with the hash of the one before, so that none
// can be changed, moved or taken out without all later ones. Several daemons may append to one. It is safe for
// concurrent use.
type Log struct {
	store  keystore.Store
	prefix string

	mu   sync.Mutex
	head LogHead // the last entry that this process has seen; guarded by mu
}

// LogHead names a state of a log. Whoever keeps one can tell later that the log was not rewritten. The zero value is an
// empty log's.
type LogHead struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"` // SHA-256 in lower-case hexadecimal; empty for the empty log
}

// ErrLog is wrapped when the entries of a log do not follow from each other.
var ErrLog = errors.New("issuance log was tampered with or is damaged")

// entry is one record. The hash is of what stands in chained; an entry that was swept keeps that, and with it the proof
// that it was an expired job's.
type entry struct {
	chained
	Issuance json.RawMessage `json:"issuance,omitempty"` // absent once swept
}

type chained struct {
	Number   uint64    `json:"number"`
	Previous string    `json:"previous"`
	Job      bool      `json:"job"`
	NotAfter time.Time `json:"not_after"`
	Digest   string    `json:"digest"` // of the issuance's bytes
}

func (c chained) hash() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers, strings and a date of a certificate
	}
	return digest(b)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// OpenLog finds the end of the log that stands below a prefix of the store, such as "issued"; it need not exist yet. It
// reads a number of records that grows with the logarithm of the log's length. Verify reads them all.
func OpenLog(ctx context.Context, store keystore.Store, prefix string) (*Log, error) {
	l := &Log{store: store, prefix: prefix}
	if err := l.findHead(ctx); err != nil {
		return nil, fmt.Errorf("ca: open issuance log %q: %w", prefix, err)
	}
	return l, nil
}

// findHead looks for the last number. Entries have no gaps: it doubles until one is missing, and halves from there.
func (l *Log) findHead(ctx context.Context) error {
	last, missing := uint64(0), uint64(1)
	for doubling := true; doubling || missing-last > 1; {
		next := last + (missing-last)/2
		if doubling {
			next = missing
		}
		e, err := l.load(ctx, next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing, doubling = next, false
		case err != nil:
			return err
		default:
			last, l.head = next, LogHead{next, e.hash()}
			if doubling {
				missing = 2 * next
			}
		}
	}
	return nil
}

func (l *Log) entryKey(number uint64) string { return fmt.Sprintf("%s/entry/%020d", l.prefix, number) }

func (l *Log) serialKey(i Issuance) string {
	return fmt.Sprintf("%s/serial/%x/%s", l.prefix, i.Issuer[:8], i.Serial)
}

// load reads an entry and holds it against its own number and digest.
func (l *Log) load(ctx context.Context, number uint64) (entry, error) {
	record, err := l.store.Load(ctx, l.entryKey(number))
	if err != nil {
		return entry{}, err
	}
	var e entry
	if err := dsse.Decode(record.Value, &e); err != nil {
		return entry{}, fmt.Errorf("entry %d: %w: %w", number, ErrLog, err)
	}
	if e.Number != number {
		return entry{}, fmt.Errorf("entry %d calls itself %d: %w", number, e.Number, ErrLog)
	}
	if e.Issuance != nil && digest(e.Issuance) != e.Digest {
		return entry{}, fmt.Errorf("entry %d is not the one that was written: %w", number, ErrLog)
	}
	return e, nil
}

// Head is the last entry of the log, as far as this process has seen.
func (l *Log) Head() LogHead {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Recorder gives the log to an authority. The context bounds the writes.
func (l *Log) Recorder(ctx context.Context) Recorder { return logRecorder{l, ctx} }

// logRecorder binds a context, since signers and recorders have none of their own.
type logRecorder struct {
	log *Log
	ctx context.Context
}

func (r logRecorder) Record(i Issuance) error {
	if err := r.log.append(r.ctx, i); err != nil {
		return fmt.Errorf("ca: record serial %s: %w", i.Serial, err)
	}
	return nil
}

// append takes the serial number first, then the next place in the chain. A crash in between leaves a number that is
// never drawn again; nothing else was promised to anybody.
func (l *Log) append(ctx context.Context, i Issuance) error {
	value, err := json.Marshal(i)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.store.Replace(ctx, l.serialKey(i), 0, []byte(i.Certificate.String())); errors.Is(err, keystore.ErrConflict) {
		return fmt.Errorf("it was issued before: %w", fs.ErrExist)
	} else if err != nil {
		return err
	}
	for {
		next := chained{Number: l.head.Number + 1, Previous: l.head.Hash, Job: i.Job, NotAfter: i.NotAfter, Digest: digest(value)}
		encoded, err := json.Marshal(entry{next, value})
		if err != nil {
			return err
		}
		_, err = l.store.Replace(ctx, l.entryKey(next.Number), 0, encoded)
		switch {
		case err == nil:
			l.head = LogHead{next.Number, next.hash()}
			return nil
		case !errors.Is(err, keystore.ErrConflict):
			return err
		}
		if err := l.follow(ctx); err != nil {
			return err
		}
	}
}

// follow takes one step after another daemon's entry.
func (l *Log) follow(ctx context.Context) error {
	e, err := l.load(ctx, l.head.Number+1)
	if err != nil {
		return err
	}
	if e.Previous != l.head.Hash {
		return fmt.Errorf("entry %d does not follow from entry %d: %w", e.Number, l.head.Number, ErrLog)
	}
	l.head = LogHead{e.Number, e.hash()}
	return nil
}

// issuance reads what an entry records.
func (e entry) issuance() (i Issuance, err error) {
	if err = dsse.Decode(e.Issuance, &i); err != nil {
		return Issuance{}, fmt.Errorf("entry %d: %w: %w", e.Number, ErrLog, err)
	}
	if serial, err := hex.DecodeString(i.Serial); err != nil || len(serial) != serialSize {
		return Issuance{}, fmt.Errorf("entry %d: serial %.64q is not of %d bytes: %w", e.Number, i.Serial, serialSize, ErrLog)
	}
	return i, nil
}

// entries yields all entries in order, each after it was found to follow from the one before, and whole unless it is of
// a job that has expired now. It ends after an error.
func (l *Log) entries(ctx context.Context, now time.Time) iter.Seq2[entry, error] {
	if now.IsZero() {
		now = time.Now()
	}
	return func(yield func(entry, error) bool) {
		var before LogHead
		for {
			last := l.Head().Number // before the look: an entry that is written meanwhile is not missing
			e, err := l.load(ctx, before.Number+1)
			if errors.Is(err, fs.ErrNotExist) && before.Number >= last {
				return
			}
			if err == nil && e.Previous != before.Hash {
				err = fmt.Errorf("entry %d does not follow from entry %d: %w", e.Number, before.Number, ErrLog)
			}
			if err == nil && e.Issuance == nil && !(e.Job && e.NotAfter.Before(now)) {
				err = fmt.Errorf("entry %d was taken out and is not of an expired job: %w", e.Number, ErrLog)
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("entry %d is missing: %w: %w", before.Number+1, ErrLog, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
			before = LogHead{e.Number, e.hash()}
		}
	}
}

// All yields what is recorded, in order, without what was swept. It ends after an error, which wraps ErrLog when the
// entries do not follow from each other, or one is missing that was not of a job expired now (zero: the present).
func (l *Log) All(ctx context.Context, now time.Time) iter.Seq2[Issuance, error] {
	return func(yield func(Issuance, error) bool) {
		for e, err := range l.entries(ctx, now) {
			var i Issuance
			if err == nil && e.Issuance == nil {
				continue
			}
			if err == nil {
				i, err = e.issuance()
			}
			if err != nil {
				yield(Issuance{}, fmt.Errorf("ca: issuance log %q: %w", l.prefix, err))
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Verify reads the whole log: every entry follows from the one before, what is missing was an expired job's, and each
// of the heads that somebody kept (a member, an auditor) is in it: only a kept head shows that nothing was cut off at the
// end. A zero now is the present. The error wraps ErrLog.
func (l *Log) Verify(ctx context.Context, now time.Time, kept ...LogHead) error {
	seen := make(map[LogHead]bool)
	for e, err := range l.entries(ctx, now) {
		if err != nil {
			return fmt.Errorf("ca: verify issuance log %q: %w", l.prefix, err)
		}
		seen[LogHead{e.Number, e.hash()}] = true
	}
	for _, head := range kept {
		if head != (LogHead{}) && !seen[head] {
			return fmt.Errorf("ca: verify issuance log %q: entry %d with hash %.16s… is not in it: %w", l.prefix, head.Number, head.Hash, ErrLog)
		}
	}
	return nil
}

// Sweep takes out what is recorded of jobs whose certificates have expired, and says of how many. The chain stays
// whole. Swept twice, or by several daemons at once, it is as swept once. A zero now is the present.
func (l *Log) Sweep(ctx context.Context, now time.Time) (swept int, err error) {
	if now.IsZero() {
		now = time.Now()
	}
	for e, err := range l.entries(ctx, now) {
		expired := err == nil && e.Issuance != nil && e.Job && e.NotAfter.Before(now)
		if expired {
			err = l.sweep(ctx, e)
		}
		if err != nil {
			return swept, fmt.Errorf("ca: sweep issuance log %q: %w", l.prefix, err)
		}
		if expired {
			swept++
		}
	}
	return swept, nil
}

// sweep takes out one entry's issuance, then forgets its serial number. A crash in between leaves the serial number.
func (l *Log) sweep(ctx context.Context, e entry) error {
	record, err := l.store.Load(ctx, l.entryKey(e.Number))
	if err != nil {
		return err
	}
	i, err := e.issuance()
	if err != nil {
		return err
	}
	value, err := json.Marshal(entry{chained: e.chained})
	if err != nil {
		return err
	}
	if _, err := l.store.Replace(ctx, l.entryKey(e.Number), record.Revision, value); err != nil && !errors.Is(err, keystore.ErrConflict) {
		return err
	}
	serial, err := l.store.Load(ctx, l.serialKey(i))
	if err == nil {
		err = l.store.Remove(ctx, l.serialKey(i), serial.Revision)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, keystore.ErrConflict) {
		return nil
	}
	return err
}
