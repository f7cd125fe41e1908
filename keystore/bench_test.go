//go:build unix

package keystore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkReplace gives the ratio of a durable replacement to the bare steps that it cannot do without, taken in turns:
// a file written and flushed, renamed, and its directory flushed.
func BenchmarkReplace(b *testing.B) {
	d, err := OpenDir(filepath.Join(b.TempDir(), "dir"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	bare := b.TempDir()
	value := make([]byte, 1000)
	var r Revision
	var ours, theirs time.Duration
	before, n := d.tree.Syncs(), 0
	for b.Loop() {
		start := time.Now()
		if r, err = d.Replace(background, "k", r, value); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := bareReplace(bare, value); err != nil {
			b.Fatal(err)
		}
		ours, theirs, n = ours+middle.Sub(start), theirs+time.Since(middle), n+1
	}
	b.ReportMetric(float64(ours)/float64(theirs), "×bare")
	b.ReportMetric(float64(d.tree.Syncs()-before)/float64(n), "fsync/op")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(n), "ns/replace")
}

func bareReplace(dir string, value []byte) error {
	f, err := os.OpenFile(dir+"/temp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	if err := errors.Join(err, f.Sync(), f.Close(), os.Rename(dir+"/temp", dir+"/k")); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// BenchmarkLoad gives the cost of judging a file and looking at the counter.
func BenchmarkLoad(b *testing.B) {
	d, err := OpenDir(filepath.Join(b.TempDir(), "dir"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Replace(background, "members/node/k", 0, make([]byte, 1000)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := d.Load(background, "members/node/k"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatch gives the cost of hearing of one change among many records: it must not grow with their number.
func BenchmarkWatch(b *testing.B) {
	for _, records := range []int{10, 1000} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			d, err := OpenDir(filepath.Join(b.TempDir(), "dir"))
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			for i := range records {
				if _, err := d.Replace(background, fmt.Sprintf("k-%d", i), 0, nil); err != nil {
					b.Fatal(err)
				}
			}
			now := Revision(records)
			for b.Loop() {
				news, _, err := d.since(background, "", now-1)
				if err != nil || len(news) != 1 {
					b.Fatal(len(news), err)
				}
			}
		})
	}
}

// BenchmarkList gives the cost of reading 1000 records.
func BenchmarkList(b *testing.B) {
	d, err := OpenDir(filepath.Join(b.TempDir(), "dir"))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for i := range 1000 {
		if _, err := d.Replace(background, fmt.Sprintf("k-%d", i), 0, make([]byte, 1000)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if list, _, err := d.List(background, ""); err != nil || len(list) != 1000 {
			b.Fatal(len(list), err)
		}
	}
}
