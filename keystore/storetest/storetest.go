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
	"testing"
	"time"

	"github.com/clusterca/clusterca/keystore"
)

// Run holds the stores that open makes, each empty, against the promises of keystore.Store.
func Run(t *testing.T, open func(t *testing.T) keystore.Store) {
	for name, test := range map[string]func(*testing.T, keystore.Store){
		"create, replace, remove": writes,
		"conflicts":               conflicts,
		"absent":                  absent,
		"list":                    lists,
		"bad keys and values":     bad,
		"values are copies":       copies,
		"revisions grow":          revisions,
		"counter":                 counter,
		"watch":                   watches,
		"watch resumes":           resumes,
		"watch ends":              ends,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
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
	for _, err := range s.Watch(background, "", 1_000_000) {
		last = err
	}
	if !errors.Is(last, keystore.ErrHistoryGone) {
		t.Errorf("watch after a revision in the future ends with %v, want ErrHistoryGone", last)
	}
}
