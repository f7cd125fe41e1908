package ca_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

var background = context.Background()

func openLog(t testing.TB, store keystore.Store) *ca.Log {
	t.Helper()
	l, err := ca.OpenLog(background, store, "issued")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func all(t testing.TB, l *ca.Log, now time.Time) (list []ca.Issuance) {
	t.Helper()
	for i, err := range l.All(background, now) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, i)
	}
	return list
}

// recorded is a cluster whose authority records into a store.
func recorded(t testing.TB, store keystore.Store) (fingerprint.ClusterID, *ca.Authority, *ca.Log) {
	t.Helper()
	id := newID(t)
	l := openLog(t, store)
	root, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: id, Generation: 1, Rules: ca.Rules{Recorder: l.Recorder(background)}})
	if err != nil {
		t.Fatal(err)
	}
	return id, root, l
}

// A19, B96: everything that is signed is recorded, in order, root, bridge, intermediate and document signer too.
func TestEverythingIsRecorded(t *testing.T) {
	id, root, l := recorded(t, keystore.NewMemory())
	leaf := newLeaf(t, root, id, fingerprint.Node, keystore.P256)
	if _, err := root.Bridge(newRoot(t, id, 2, keystore.P256).Certificate()); err != nil {
		t.Fatal(err)
	}
	newIntermediate(t, root, id, keystore.P256)
	if _, err := root.IssueDocumentSigner(ca.DocumentRequest{Cluster: id, Member: member(t, id, fingerprint.Control, "ca-1"), PublicKey: newKey(t, keystore.P256).Public()}); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, i := range all(t, l, time.Time{}) {
		kinds = append(kinds, i.Kind)
		if i.Issuer != root.Key() {
			t.Errorf("%s: issuer %s", i.Kind, i.Issuer.Short())
		}
	}
	if got := strings.Join(kinds, ", "); got != "root, node leaf, bridge, intermediate, document signer" {
		t.Errorf("recorded: %s", got)
	}
	i := all(t, l, time.Time{})[1]
	c := leaf.Certificate
	if i.Identity != c.URIs[0].String() || i.Serial != fmt.Sprintf("%032x", c.SerialNumber) || i.Key != ca.KeyOf(c) ||
		i.Certificate != fingerprint.OfCertificate(c.Raw) || !i.NotAfter.Equal(c.NotAfter) || !i.NotBefore.Equal(c.NotBefore) || i.Job {
		t.Errorf("recorded: %+v", i)
	}
	if err := l.Verify(background, time.Now(), l.Head(), ca.LogHead{}); err != nil {
		t.Error(err)
	}
	if again := openLog(t, keystore.NewMemory()); again.Head() != (ca.LogHead{}) {
		t.Errorf("an empty log has head %v", again.Head())
	}
}

type recorder func(ca.Issuance) error

func (r recorder) Record(i ca.Issuance) error { return r(i) }

// A certificate whose record failed is not released; a serial number that was issued before is drawn again, not for
// ever.
func TestRecorderFails(t *testing.T) {
	id := newID(t)
	node := ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "n"), PublicKey: newKey(t, keystore.P256).Public()}
	full := errors.New("disk full")
	for _, test := range []struct {
		name    string
		answers []error
		want    error
	}{
		{"recorded", []error{nil}, nil},
		{"disk full", []error{full}, full},
		{"serial issued before", []error{fs.ErrExist, nil}, nil},
		{"serials always issued before", []error{fs.ErrExist, fs.ErrExist, fs.ErrExist}, fs.ErrExist},
	} {
		serials := make(map[string]bool)
		asked := 0
		root := newRoot(t, id, 1, keystore.P256).Under(ca.Rules{Recorder: recorder(func(i ca.Issuance) error {
			serials[i.Serial] = true
			asked++
			return test.answers[asked-1]
		})})
		leaf, err := root.Issue(node)
		if !errors.Is(err, test.want) || (leaf == nil) != (test.want != nil) {
			t.Errorf("%s: %v, %v", test.name, leaf, err)
		}
		if asked != len(test.answers) || len(serials) != asked {
			t.Errorf("%s: asked %d times with %d serials", test.name, asked, len(serials))
		}
	}
	if _, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: id, Generation: 1, Rules: ca.Rules{Recorder: recorder(func(ca.Issuance) error { return full })}}); !errors.Is(err, full) {
		t.Errorf("a root that was not recorded: %v", err)
	}
}

// A19: a serial number of an issuer is recorded once, whoever asks.
func TestSerialsAreCreatedOnly(t *testing.T) {
	store := keystore.NewMemory()
	l := openLog(t, store)
	i := ca.Issuance{Kind: "node leaf", Issuer: fingerprint.Key{1}, Serial: strings.Repeat("0a", 16)}
	if err := l.Recorder(background).Record(i); err != nil {
		t.Fatal(err)
	}
	if err := openLog(t, store).Recorder(background).Record(i); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same serial again: %v", err)
	}
	i.Issuer = fingerprint.Key{2}
	if err := l.Recorder(background).Record(i); err != nil {
		t.Errorf("the same serial of another issuer: %v", err)
	}
}

// Several daemons append to one log at once: no entry is lost, and the chain holds.
func TestLogOfSeveralDaemons(t *testing.T) {
	store := keystore.NewMemory()
	var daemons sync.WaitGroup
	const each = 25
	for d := range 4 {
		l := openLog(t, store)
		daemons.Go(func() {
			for n := range each {
				i := ca.Issuance{Kind: "node leaf", Serial: fmt.Sprintf("%016x%016x", d, n+1)}
				if err := l.Recorder(background).Record(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	daemons.Wait()
	l := openLog(t, store)
	if n := len(all(t, l, time.Time{})); n != 4*each || l.Head().Number != 4*each {
		t.Errorf("%d entries, head %v", n, l.Head())
	}
	if err := l.Verify(background, time.Now(), l.Head()); err != nil {
		t.Error(err)
	}
}

// A log of any length is found whole by who opens it.
func TestOpenLog(t *testing.T) {
	store := keystore.NewMemory()
	l := openLog(t, store)
	for n := range uint64(40) {
		if again := openLog(t, store); again.Head() != l.Head() || l.Head().Number != n {
			t.Fatalf("after %d entries: %v, opened again %v", n, l.Head(), again.Head())
		}
		if err := l.Recorder(background).Record(ca.Issuance{Serial: fmt.Sprintf("%032x", n+1)}); err != nil {
			t.Fatal(err)
		}
	}
}

const third = "issued/entry/00000000000000000003"

// What was changed, taken out, swapped, cut off or rewritten is found.
func TestLogIsTamperEvident(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, store *keystore.Memory)
	}{
		{"nothing", nil},
		{"a word", func(t *testing.T, s *keystore.Memory) { rewrite(t, s, third, "node leaf", "user leaf") }},
		{"the previous hash", func(t *testing.T, s *keystore.Memory) { rewrite(t, s, third, `"previous":"`, `"previous":"0`) }},
		{"the number", func(t *testing.T, s *keystore.Memory) { rewrite(t, s, third, `"number":3`, `"number":4`) }},
		{"a field twice", func(t *testing.T, s *keystore.Memory) { rewrite(t, s, third, `{"number":3`, `{"number":2,"number":3`) }},
		{"not JSON", func(t *testing.T, s *keystore.Memory) { rewrite(t, s, third, "{", "[") }},
		{"an entry", func(t *testing.T, s *keystore.Memory) { remove(t, s, third) }},
		{"taken out as if it was swept", func(t *testing.T, s *keystore.Memory) {
			value := load(t, s, third).Value
			cut := bytes.Index(value, []byte(`,"issuance"`))
			replace(t, s, third, append(bytes.Clone(value[:cut]), '}'))
		}},
		{"and called a job's", func(t *testing.T, s *keystore.Memory) {
			value := load(t, s, third).Value
			cut := bytes.Index(value, []byte(`,"issuance"`))
			replace(t, s, third, append(bytes.Replace(value[:cut], []byte(`"job":false`), []byte(`"job":true`), 1), '}'))
		}},
		{"two entries swapped", func(t *testing.T, s *keystore.Memory) {
			a, b := load(t, s, third).Value, load(t, s, strings.Replace(third, "3", "2", 1)).Value
			replace(t, s, third, b)
			replace(t, s, strings.Replace(third, "3", "2", 1), a)
		}},
		{"the end", func(t *testing.T, s *keystore.Memory) {
			remove(t, s, strings.Replace(third, "3", "5", 1))
			remove(t, s, strings.Replace(third, "3", "4", 1))
		}},
	} {
		store := keystore.NewMemory()
		l := openLog(t, store)
		for n := range 5 {
			if err := l.Recorder(background).Record(ca.Issuance{Kind: "node leaf", Serial: fmt.Sprintf("%032x", n+1)}); err != nil {
				t.Fatal(err)
			}
		}
		head := l.Head()
		want := test.do != nil
		if want {
			test.do(t, store)
		}
		// By another process, which knows only a head that somebody kept.
		later, err := ca.OpenLog(background, store, "issued")
		if err == nil {
			err = later.Verify(background, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), head)
		}
		if errors.Is(err, ca.ErrLog) != want {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.name == "taken out as if it was swept" {
			for _, err = range later.All(background, time.Time{}) {
			}
			if !errors.Is(err, ca.ErrLog) {
				t.Errorf("%s: whoever reads it all is told %v", test.name, err)
			}
		}
	}
}

func load(t *testing.T, s *keystore.Memory, key string) keystore.Record {
	t.Helper()
	r, err := s.Load(background, key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func replace(t *testing.T, s *keystore.Memory, key string, value []byte) {
	t.Helper()
	if _, err := s.Replace(background, key, load(t, s, key).Revision, value); err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, s *keystore.Memory, key, from, to string) {
	t.Helper()
	value := load(t, s, key).Value
	if !bytes.Contains(value, []byte(from)) {
		t.Fatalf("%s has no %s", value, from)
	}
	replace(t, s, key, bytes.Replace(value, []byte(from), []byte(to), 1))
}

func remove(t *testing.T, s *keystore.Memory, key string) {
	t.Helper()
	if err := s.Remove(background, key, load(t, s, key).Revision); err != nil {
		t.Fatal(err)
	}
}

// A39: a job's certificate lives an hour, at most 7 days; when it has expired its record is swept, nobody else's is,
// and the chain holds.
func TestJobsAreSwept(t *testing.T) {
	store := keystore.NewMemory()
	id, root, l := recorded(t, store)
	now := time.Now()
	job := func(life time.Duration) (*ca.Leaf, error) {
		return root.Issue(ca.Request{Cluster: id, Identity: member(t, id, fingerprint.Node, "import-4711"), PublicKey: newKey(t, keystore.P256).Public(), Job: true, Lifetime: life})
	}
	leaf, err := job(0)
	if err != nil || leaf.Certificate.NotAfter.Sub(now).Round(time.Minute) != time.Hour {
		t.Fatalf("a job's leaf: %v", err)
	}
	if _, err := job(8 * 24 * time.Hour); !errors.Is(err, ca.ErrLifetime) {
		t.Errorf("eight days for a job: %v", err)
	}
	if _, err := job(7 * 24 * time.Hour); err != nil {
		t.Errorf("seven days for a job: %v", err)
	}
	newLeaf(t, root, id, fingerprint.Node, keystore.P256)
	kept := l.Head()
	for _, step := range []struct {
		at    time.Time
		swept int
		left  int
	}{{now, 0, 4}, {now.Add(2 * time.Hour), 1, 3}, {now.Add(2 * time.Hour), 0, 3}, {now.Add(100 * 24 * time.Hour), 1, 2}} {
		if n, err := l.Sweep(background, step.at); err != nil || n != step.swept {
			t.Errorf("after %s: %d swept, want %d (%v)", step.at.Sub(now), n, step.swept, err)
		}
		if n := len(all(t, l, step.at)); n != step.left {
			t.Errorf("after %s: %d left, want %d", step.at.Sub(now), n, step.left)
		}
		if err := l.Verify(background, step.at, kept); err != nil {
			t.Error(err)
		}
	}
	if err := l.Verify(background, now, kept); !errors.Is(err, ca.ErrLog) {
		t.Errorf("a record swept before its certificate expired: %v", err)
	}
	records, _, err := store.List(background, "issued/serial/")
	if err != nil || len(records) != 2 {
		t.Errorf("%d serial numbers kept, want 2 (%v)", len(records), err)
	}
}

// faulty fails the k-th write: before it happened, or after.
type faulty struct {
	keystore.Store
	k     int
	after bool
}

var errPower = errors.New("power cut")

func (f *faulty) fails() bool { f.k--; return f.k < 0 }

func (f *faulty) Replace(ctx context.Context, key string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if !f.fails() {
		return f.Store.Replace(ctx, key, old, value)
	}
	if f.after && f.k == -1 {
		f.Store.Replace(ctx, key, old, value)
	}
	return 0, errPower
}

func (f *faulty) Remove(ctx context.Context, key string, old keystore.Revision) error {
	if !f.fails() {
		return f.Store.Remove(ctx, key, old)
	}
	if f.after && f.k == -1 {
		f.Store.Remove(ctx, key, old)
	}
	return errPower
}

// A50: a write that fails, or is cut off after it was made, at any point of recording and sweeping: whoever opens the
// log next finds a whole chain, every released certificate in it, and goes on.
func TestLogSurvivesEveryWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := range 12 {
			store := keystore.NewMemory()
			f := &faulty{Store: store, k: k, after: after}
			l := openLog(t, f)
			now := time.Now()
			released := make(map[string]bool)
			for n := range 4 {
				i := ca.Issuance{Serial: fmt.Sprintf("%032x", n+1), Job: n%2 == 0, NotAfter: now}
				if l.Recorder(background).Record(i) == nil {
					released[i.Serial] = true
				}
			}
			_, _ = l.Sweep(background, now.Add(-time.Second)) // nothing has expired yet
			next := openLog(t, store)
			if err := next.Verify(background, now); err != nil {
				t.Fatalf("write %d, after %t: %v", k, after, err)
			}
			for _, i := range all(t, next, time.Time{}) {
				delete(released, i.Serial)
			}
			if len(released) > 0 {
				t.Errorf("write %d, after %t: released and not recorded: %v", k, after, released)
			}
			_, _ = next.Sweep(background, now.Add(time.Second))
			sweeper := openLog(t, &faulty{Store: store, k: k % 3, after: after})
			_, _ = sweeper.Sweep(background, now.Add(time.Second))
			if err := next.Recorder(background).Record(ca.Issuance{Serial: strings.Repeat("f", 32), NotAfter: now}); err != nil {
				t.Errorf("write %d, after %t: the next one: %v", k, after, err)
			}
			if err := openLog(t, store).Verify(background, now.Add(time.Second), next.Head()); err != nil {
				t.Errorf("write %d, after %t: %v", k, after, err)
			}
		}
	}
}

// A daemon does not append to another's entries when those do not follow from what it has seen, and does not take an
// entry under another number, even where nobody kept a head.
func TestLogIsNotContinuedAfterAForgery(t *testing.T) {
	record := func(l *ca.Log, n int) error {
		return l.Recorder(background).Record(ca.Issuance{Serial: fmt.Sprintf("%032x", n)})
	}
	store := keystore.NewMemory()
	behind, ahead := openLog(t, store), openLog(t, store)
	if err := errors.Join(record(behind, 1), record(ahead, 2), record(ahead, 3)); err != nil {
		t.Fatal(err)
	}
	rewrite(t, store, strings.Replace(third, "3", "2", 1), `"previous":"`, `"previous":"0`)
	if err := record(behind, 4); !errors.Is(err, ca.ErrLog) {
		t.Errorf("appended to entries that do not follow: %v", err)
	}
	rewrite(t, store, third, `"number":3`, `"number":4`)
	if _, err := ca.OpenLog(background, store, "issued"); !errors.Is(err, ca.ErrLog) {
		t.Errorf("an entry under another number: %v", err)
	}
}

// FuzzLog puts anything where the first entry stands: it is an entry that verifies, or an error that wraps ErrLog.
func FuzzLog(f *testing.F) {
	store := keystore.NewMemory()
	if err := openLog(f, store).Recorder(background).Record(ca.Issuance{Kind: "node leaf", Serial: strings.Repeat("1", 32)}); err != nil {
		f.Fatal(err)
	}
	record, err := store.Load(background, "issued/entry/00000000000000000001")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record.Value)
	f.Add([]byte(`{"number":1,"previous":"","job":true,"not_after":"2020-01-01T00:00:00Z","digest":""}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		store := keystore.NewMemory()
		if _, err := store.Replace(background, "issued/entry/00000000000000000001", 0, value); err != nil {
			return // a store takes no such value
		}
		l, err := ca.OpenLog(background, store, "issued")
		if err == nil {
			err = l.Verify(background, time.Now())
		}
		if err == nil {
			_, err = l.Sweep(background, time.Now())
		}
		if err == nil {
			for _, err = range l.All(background, time.Time{}) {
			}
		}
		if err != nil && !errors.Is(err, ca.ErrLog) {
			t.Error(err)
		}
	})
}
