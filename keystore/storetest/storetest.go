// Package storetest is the conformance suite of keystore.Store: whoever writes a backend runs it in a test of theirs.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterca/clusterca/keystore"
)

// Run holds the stores that open makes, each empty, against the promises of keystore.Store.
func Run(t *testing.T, open func(t *testing.T) keystore.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, keystore.Store)
	}{
		{"create, replace, remove", writes},
		{"conflicts", conflicts},
		{"absent", absent},
		{"list", lists},
		{"bad keys and values", bad},
		{"values are copies", copies},
		{"revisions grow", revisions},
		{"counter", counter},
		{"one creates", creates},
		{"writes are seen", linear},
		{"ended context", ended},
		{"watch", watches},
		{"watch resumes", resumes},
		{"list and watch meet", meets},
		{"watch ends", ends},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

var background = context.Background()

func put(t *testing.T, s keystore.Store, key string, old keystore.Revision, value string) keystore.Revision {
	t.Helper()
	r, err := s.Replace(background, key, old, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func holds(t *testing.T, s keystore.Store, key, value string, revision keystore.Revision) {
	t.Helper()
	r, err := s.Load(background, key)
	if err != nil || string(r.Value) != value || r.Revision != revision || r.Key != key {
		t.Errorf("%s holds %q at %d (%v), want %q at %d", key, r.Value, r.Revision, err, value, revision)
	}
}

func writes(t *testing.T, s keystore.Store) {
	first := put(t, s, "a/b", 0, "one\nof two lines")
	holds(t, s, "a/b", "one\nof two lines", first)
	second := put(t, s, "a/b", first, "")
	holds(t, s, "a/b", "", second)
	if err := s.Remove(background, "a/b", second); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(background, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load after remove: %v, want fs.ErrNotExist", err)
	}
	if third := put(t, s, "a/b", 0, "again"); third <= second {
		t.Errorf("revision %d after %d", third, second)
	}
}

func conflicts(t *testing.T, s keystore.Store) {
	first := put(t, s, "k", 0, "one")
	second := put(t, s, "k", first, "two")
	for _, old := range []keystore.Revision{0, first, second + 1} {
		if _, err := s.Replace(background, "k", old, []byte("lost")); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("replace at %d: %v, want ErrConflict", old, err)
		}
		if err := s.Remove(background, "k", old); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("remove at %d: %v, want ErrConflict", old, err)
		}
	}
	if _, err := s.Replace(background, "new", 7, nil); !errors.Is(err, keystore.ErrConflict) {
		t.Errorf("replace of an absent record at 7: %v, want ErrConflict", err)
	}
	holds(t, s, "k", "two", second)
}

func absent(t *testing.T, s keystore.Store) {
	if _, err := s.Load(background, "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load: %v", err)
	}
	if err := s.Remove(background, "nothing", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
	list, _, err := s.List(background, "nothing/")
	if err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
}

func lists(t *testing.T, s keystore.Store) {
	var last keystore.Revision
	for _, key := range []string{"m/b", "m/a", "m/a/c", "ma", "z"} {
		last = put(t, s, key, 0, key)
	}
	for prefix, want := range map[string]string{"": "m/a m/a/c m/b ma z", "m/": "m/a m/a/c m/b", "m/a/": "m/a/c"} {
		list, at, err := s.List(background, prefix)
		var keys []string
		for _, r := range list {
			keys = append(keys, r.Key)
			if string(r.Value) != r.Key {
				t.Errorf("%s holds %q", r.Key, r.Value)
			}
		}
		if got := strings.Join(keys, " "); err != nil || got != want || at < last {
			t.Errorf("list %q: %q at %d (%v), want %q at %d or later", prefix, got, at, err, want, last)
		}
	}
}

func bad(t *testing.T, s keystore.Store) {
	for _, key := range []string{"", "/", "a/", "/a", "a//b", "A", "a.b", "../a", "a b", strings.Repeat("a", 1000)} {
		if _, err := s.Replace(background, key, 0, nil); !errors.Is(err, keystore.ErrName) {
			t.Errorf("replace %q: %v, want ErrName", key, err)
		}
		if _, err := s.Load(background, key); !errors.Is(err, keystore.ErrName) {
			t.Errorf("load %q: %v, want ErrName", key, err)
		}
	}
	for _, prefix := range []string{"a", "/", "../"} {
		if _, _, err := s.List(background, prefix); !errors.Is(err, keystore.ErrName) {
			t.Errorf("list %q: %v, want ErrName", prefix, err)
		}
	}
	if _, err := s.Replace(background, "k", 0, make([]byte, keystore.MaxValue+1)); err == nil {
		t.Error("a value that is too large was taken")
	}
	put(t, s, "k", 0, strings.Repeat("x", keystore.MaxValue))
}

// copies: what a caller does with a slice afterwards changes nothing in the store.
func copies(t *testing.T, s keystore.Store) {
	value := []byte("value")
	revision, err := s.Replace(background, "k", 0, value)
	if err != nil {
		t.Fatal(err)
	}
	value[0] = 'X'
	r, err := s.Load(background, "k")
	if err != nil {
		t.Fatal(err)
	}
	r.Value[1] = 'X'
	holds(t, s, "k", "value", revision)
}

func revisions(t *testing.T, s keystore.Store) {
	var last keystore.Revision
	for i := range 5 {
		r := put(t, s, fmt.Sprintf("k-%d", i), 0, "x")
		if i > 0 && r != last+1 {
			t.Errorf("revision %d after %d, want one more", r, last)
		}
		last = r
	}
}

// counter: with compare-and-swap no increment is lost, whoever makes it.
func counter(t *testing.T, s keystore.Store) {
	const workers, each = 8, 25
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range each {
				if err := Increment(s, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	r, err := s.Load(background, "counter")
	if err != nil || string(r.Value) != strconv.Itoa(workers*each) {
		t.Errorf("counter is %q, %v, want %d", r.Value, err, workers*each)
	}
}

// Increment adds one to a decimal number in a record, by compare-and-swap until nobody is in between: for tests of
// several processes.
func Increment(s keystore.Store, key string) error {
	for {
		r, err := s.Load(background, key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n, _ := strconv.Atoi(string(r.Value))
		_, err = s.Replace(background, key, r.Revision, []byte(strconv.Itoa(n+1)))
		if !errors.Is(err, keystore.ErrConflict) {
			return err
		}
	}
}

// creates: of many who create one record, one does.
func creates(t *testing.T, s keystore.Store) {
	var group sync.WaitGroup
	var winners atomic.Int32
	for i := range 8 {
		group.Go(func() {
			_, err := s.Replace(background, "lease", 0, []byte(strconv.Itoa(i)))
			if err == nil {
				winners.Add(1)
			} else if !errors.Is(err, keystore.ErrConflict) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := winners.Load(); n != 1 {
		t.Errorf("%d of 8 created the record", n)
	}
}

// linear: a Load or List that begins after a write returned sees it, or a later one; what was seen is never unseen.
func linear(t *testing.T, s keystore.Store) {
	var newest atomic.Uint64
	newest.Store(uint64(put(t, s, "l/k", 0, "0")))
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 50 {
			r, err := s.Replace(background, "l/k", keystore.Revision(newest.Load()), []byte(strconv.Itoa(i)))
			if err != nil {
				t.Error(err)
				return
			}
			newest.Store(uint64(r))
		}
	})
	for range 3 {
		group.Go(func() {
			var last keystore.Revision
			for range 50 {
				last = max(last, keystore.Revision(newest.Load()))
				r, err := s.Load(background, "l/k")
				if err != nil || r.Revision < last {
					t.Errorf("load: %d after %d (%v)", r.Revision, last, err)
					return
				}
				list, at, err := s.List(background, "l/")
				if err != nil || len(list) != 1 || list[0].Revision < r.Revision || at < list[0].Revision {
					t.Errorf("list: %v at %d after %d (%v)", list, at, r.Revision, err)
					return
				}
				last = list[0].Revision
			}
		})
	}
	group.Wait()
}

// ended: a call for a caller who has gone ends with the context's error and writes nothing.
func ended(t *testing.T, s keystore.Store) {
	first := put(t, s, "k", 0, "one")
	ctx, cancel := context.WithCancel(background)
	cancel()
	_, loaded := s.Load(ctx, "k")
	_, replaced := s.Replace(ctx, "k", first, []byte("two"))
	_, _, listed := s.List(ctx, "")
	for _, err := range []error{loaded, replaced, s.Remove(ctx, "k", first), listed} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
	}
	holds(t, s, "k", "one", first)
}

// watches: changes under the prefix come in order, removals too.
func watches(t *testing.T, s keystore.Store) {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	start := put(t, s, "w/old", 0, "before")
	go func() {
		a, _ := s.Replace(background, "w/a", 0, []byte("1"))
		s.Replace(background, "elsewhere", 0, []byte("2"))
		s.Remove(background, "w/a", a)
		s.Replace(background, "w/end", 0, []byte("end"))
	}()
	var last keystore.Revision
	removed := false
	for r, err := range s.Watch(ctx, "w/", start) {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(r.Key, "w/") || r.Key == "w/old" || r.Revision <= last {
			t.Errorf("unexpected %q at %d after %d", r.Key, r.Revision, last)
		}
		last = r.Revision
		removed = removed || r.Key == "w/a" && r.Removed && r.Value == nil
		if r.Key == "w/end" {
			break
		}
	}
	if !removed {
		t.Error("the removal was not seen")
	}
}

// resumes: a watch from an old revision brings what was written since, each key's last value at least.
func resumes(t *testing.T, s keystore.Store) {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	first := put(t, s, "w/a", 0, "1")
	put(t, s, "w/a", put(t, s, "w/a", first, "2"), "3")
	end := put(t, s, "w/b", 0, "4")
	seen := make(map[string][]byte)
	for r, err := range s.Watch(ctx, "w/", first) {
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Key] = r.Value
		if r.Revision == end {
			break
		}
	}
	if !bytes.Equal(seen["w/a"], []byte("3")) || !bytes.Equal(seen["w/b"], []byte("4")) {
		t.Errorf("resumed watch saw %q", seen)
	}
}

// meets: whoever lists, and then watches from the revision of the list, ends with what the store holds, whatever was
// written meanwhile; leaving a watch and going on after the last revision seen loses nothing either.
func meets(t *testing.T, s keystore.Store) {
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() { writer(t, s, fmt.Sprintf("w/k-%d", i)) })
	}
	group.Go(func() {
		list, after, err := s.List(ctx, "w/")
		if err != nil {
			t.Error(err)
		}
		held := make(map[string]string)
		for _, r := range list {
			held[r.Key] = string(r.Value)
		}
		for finished(held) < 4 {
			if !follow(t, ctx, s, held, &after) {
				return
			}
		}
	})
	group.Wait()
}

// writer writes 20 values to a record, the last of which is "end"; in between it removes it.
func writer(t *testing.T, s keystore.Store, key string) {
	var r keystore.Revision
	for i := range 20 {
		value := strconv.Itoa(i)
		if i == 19 {
			value = "end"
		}
		var err error
		if r, err = s.Replace(background, key, r, []byte(value)); err != nil {
			t.Error(err)
			return
		}
		if i%7 == 6 {
			if err := s.Remove(background, key, r); err != nil {
				t.Error(err)
				return
			}
			r = 0
		}
	}
}

// follow brings held up to date by one watch, which it leaves after three changes or when all is there.
func follow(t *testing.T, ctx context.Context, s keystore.Store, held map[string]string, after *keystore.Revision) bool {
	changes := 0
	for r, err := range s.Watch(ctx, "w/", *after) {
		if err != nil {
			t.Errorf("watch after %d: %v, holding %v", *after, err, held)
			return false
		}
		if r.Revision <= *after {
			t.Errorf("revision %d came after %d", r.Revision, *after)
		}
		*after = r.Revision
		held[r.Key] = string(r.Value)
		if changes++; changes == 3 || finished(held) == 4 {
			break
		}
	}
	return true
}

func finished(held map[string]string) int {
	n := 0
	for _, value := range held {
		if value == "end" {
			n++
		}
	}
	return n
}

// ends: with its context, or because the store cannot know what came after a revision in its future.
func ends(t *testing.T, s keystore.Store) {
	ctx, cancel := context.WithCancel(background)
	cancel()
	var last error
	for _, err := range s.Watch(ctx, "", 0) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("watch of an ended context ends with %v", last)
	}
	last = nil
	_, now, err := s.List(background, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Watch(background, "", now+1_000_000) {
		last = err
	}
	if !errors.Is(last, keystore.ErrHistoryGone) {
		t.Errorf("watch after a revision in the future ends with %v, want ErrHistoryGone", last)
	}
}
