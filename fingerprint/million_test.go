package fingerprint_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	. "github.com/clusterca/clusterca/fingerprint"
)

const million = 1_000_000

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// DESIGN §9: a registry of 10^6. Must: 90 bytes an entry and 1 µs a look-up; ambition: 40 bytes, 250 ns and text loaded in
// 0.15 s. The names and keys alone are 48 bytes an entry.
func BenchmarkMillion(b *testing.B) {
	entries := nodesFrom(0, million)
	before := heap()
	r, err := NewRegistry(Version{1, 1}, entries)
	if err != nil {
		b.Fatal(err)
	}
	size := float64(heap()-before) / million
	b.Run("check", func(b *testing.B) {
		compare(b, entries, func(e *Entry) bool { return check(r, e.Member, e.Current, Listed) == Admitted })
		b.ReportMetric(size, "B/entry")
	})
	b.Run("check-stranger", func(b *testing.B) {
		compare(b, nodesFrom(million, 1<<16), func(e *Entry) bool { return check(r, e.Member, e.Current, Open) == Admitted })
	})
	b.Run("by-key", func(b *testing.B) {
		compare(b, entries, func(e *Entry) bool { _, ok := r.ByKey(e.Current); return ok })
	})
	text, _ := r.AppendText(nil)
	b.Run("load", func(b *testing.B) {
		fastest := time.Hour
		for b.Loop() {
			start := time.Now()
			if again, err := ParseRegistry(r.Version(), text); err != nil || again.Digest() != r.Digest() {
				b.Fatal(err)
			}
			fastest = min(fastest, time.Since(start))
		}
		b.ReportMetric(fastest.Seconds(), "s/fastest")
	})
	b.Run("edit", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := r.Revoke(entries[i].Member); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("edit-10000-as-one", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Put(nodesFrom(million, 10_000)...); err != nil {
				b.Fatal(err)
			}
		}
	})
	next, err := r.Revoke(entries[0].Member)
	if err != nil {
		b.Fatal(err)
	}
	difference := Difference(r, next)
	b.Run("difference", func(b *testing.B) {
		for b.Loop() {
			if d := Difference(r, next); len(d) != len(difference) {
				b.Fatal("another difference")
			}
		}
		b.ReportMetric(float64(len(difference)), "B")
	})
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Apply(next.Version(), difference, next.Digest()); err != nil {
				b.Fatal(err)
			}
		}
	})
	runtime.KeepAlive(r)
}

// nodesFrom are entries of nodes that are called by UUIDs, as nodes are; the keys are numbered.
func nodesFrom(first, n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{Member: node(NewUUID()), Current: key(first + i)}
	}
	return entries
}

// compare times look-ups against the SHA-256 of a P-256 key, side by side. Each time it is another entry, so that the
// registry's memory is cold; the peer itself is warm, since it has just been parsed.
func compare(b *testing.B, entries []Entry, lookUp func(*Entry) bool) {
	spki := make([]byte, 91)
	var peers [100]Entry
	var ours, limit []time.Duration
	at := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range peers {
			at = (at + 471_143) % len(entries)
			peers[i] = entries[at]
			sink[0] += peers[i].Member.ID[0]
		}
		start := time.Now()
		for range peers {
			sink = OfKey(spki)
		}
		middle := time.Now()
		for i := range peers {
			if !lookUp(&peers[i]) {
				b.Fatal("wrong answer")
			}
		}
		ours = append(ours, time.Since(middle))
		limit = append(limit, middle.Sub(start))
	}
	b.ReportMetric(float64(median(ours))/float64(len(peers)), "ns/look-up")
	b.ReportMetric(float64(median(ours))/float64(median(limit)), "ratio")
}

// median, since whoever else runs on the machine makes some batches a hundred times longer.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
