package fingerprint_test

import (
	"runtime"
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
		for b.Loop() {
			if again, err := ParseRegistry(r.Version(), text); err != nil || again.Digest() != r.Digest() {
				b.Fatal(err)
			}
		}
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/load")
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
	var ours, limit time.Duration
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
		limit += middle.Sub(start)
		ours += time.Since(middle)
	}
	n := float64(len(peers) * b.N)
	b.ReportMetric(float64(ours)/n, "ns/look-up")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
}
