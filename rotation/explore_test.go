package rotation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// The explorer walks, breadth first, every state that a small cluster can reach, over the production functions: Next,
// requested, prepared, rolledBack, forwarded, stamp, observe, counted, Bundle.Supersedes and Bundle.Admits. Certificates
// are opaque to those, so here a root is a number and a leaf is the number of its root. Nodes are alike, so states
// that differ in their order are one.
//
// In every state it checks
//
//	I1  every two counted nodes that serve accept each other;
//	I2  while settled, every counted node holds exactly the root that signs;
//	L   the cluster can still get to the end: settled, one root everywhere, and leaves of it.
//
// What it leaves out is bounded by walk: so many nodes, requests, turns, boots and late reports.

const maxExplored = 4 // nodes

// place is one node: its disk and what is live are one here (a crash between the two is a boot).
type place struct {
	held    int16 // the state that is live, by its number in the atlas
	leaf    int8  // generation of the leaf served
	coming  int8  // generation of a leaf that was signed and is on its way; 0: none
	second  int8  // another one: answers may overtake each other
	booting bool

	said    int16 // the newest report that the CA recorded: of which state; -1 when it was withdrawn,
	saidOf  int8  // with which leaf,
	serving bool  // and whether the node serves
	late    int16 // a report on its way: of which state, -1: none
	lateOf  int8
	older   bool // the report on its way was made before the one recorded
}

// situation is a whole cluster. It is comparable: two equal ones are one state of the walk.
type situation struct {
	trust    int16
	requests int8 // rollovers that may still be asked for
	turns    int8 // rollbacks, and taking them back
	boots    int8
	lates    int8
	nodes    [maxExplored]place
}

// machine is what is explored; a test seeds a fault by exchanging one of its functions.
type machine struct {
	next       func(View, time.Time) Decision
	rolledBack func(*verify.Bundle) (*verify.Bundle, error)
	forwarded  func(*verify.Bundle) (*verify.Bundle, error)
	admits     func(b *verify.Bundle, issuer fingerprint.Key) bool
}

func production() machine {
	return machine{Next, rolledBack, forwarded, (*verify.Bundle).Admits}
}

// walk is one exploration.
type walk struct {
	machine
	nodes  int
	start  situation
	most   int // states; more is a failure
	t      *testing.T
	atlas  []*verify.Bundle // every trust state met
	number map[string]int16
	digest []verify.Digest

	states []situation
	index  map[situation]int32
	from   []int32 // the state that led here first
	by     []string
	into   [][]int32 // predecessors
	edges  int
}

func newWalk(t *testing.T, m machine, nodes int, requests, turns, boots, lates int8) *walk {
	w := &walk{machine: m, nodes: nodes, t: t, number: make(map[string]int16), index: make(map[situation]int32), most: 3_000_000}
	first := &verify.Bundle{
		Cluster: fingerprint.ClusterID{Domain: "x", UUID: "x"}, Phase: verify.Settled, Signer: 1, Generations: 1,
		Roots: []verify.Root{{Generation: 1, Key: rootKey(1)}},
	}
	w.start = situation{trust: w.chart(stamp(first, nil, epoch)), requests: requests, turns: turns, boots: boots, lates: lates}
	for i := range nodes {
		w.start.nodes[i] = place{leaf: 1, saidOf: 1, serving: true, late: -1}
	}
	return w
}

var epoch = time.Unix(1_800_000_000, 0)

func rootKey(generation int) fingerprint.Key { return fingerprint.Key{byte(generation)} }

// chart gives a trust state its number. What differs with the way that led to it, and nothing looks at, is left out.
func (w *walk) chart(b *verify.Bundle) int16 {
	b.Previous = verify.Digest{}
	payload, err := b.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	n, ok := w.number[string(payload)]
	if !ok {
		n = int16(len(w.atlas))
		w.number[string(payload)] = n
		w.atlas = append(w.atlas, b)
		w.digest = append(w.digest, verify.DigestOf(payload))
	}
	return n
}

// identities of the explored nodes.
var identities = func() (ids [maxExplored]fingerprint.Identity) {
	for i := range ids {
		ids[i] = fingerprint.Identity{Domain: "x", Role: fingerprint.Node, ID: string(rune('a' + i))}
	}
	return ids
}()

var known = keystore.Algorithms()

// record is what the CA has of a node.
func (w *walk) record(s *situation, i int) Member {
	p := &s.nodes[i]
	return Member{Identity: identities[i], Report: w.report(p.said, p.saidOf, p.serving, 2)}
}

func (w *walk) report(said int16, leaf int8, serving bool, count uint64) *verify.Report {
	r := &verify.Report{Member: identities[0], Serving: serving, Issuer: rootKey(int(leaf)), Algorithms: known, Count: count}
	if said >= 0 {
		b := w.atlas[said]
		r.State, r.Digest = b.Version, w.digest[said]
		for _, root := range b.Roots {
			r.Proven = append(r.Proven, root.Key)
		}
	}
	return r
}

func (w *walk) view(s *situation) View {
	v := View{State: w.atlas[s.trust], Digest: w.digest[s.trust], Members: make([]Member, w.nodes)}
	for i := range w.nodes {
		v.Members[i] = w.record(s, i)
	}
	return v
}

// observe lets a report reach the CA, through the production function.
func (w *walk) observe(s *situation, i int, said int16, leaf int8, serving, older bool) {
	count := uint64(3)
	if older {
		count = 1
	}
	m, err := observe(w.record(s, i), w.report(said, leaf, serving, count))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &s.nodes[i]
	p.said, p.saidOf, p.serving = said, leaf, m.Report.Serving
	if m.Report.State.IsZero() {
		p.said = -1
	}
}

// events yields every situation that can follow s, with the event that leads there.
func (w *walk) events(s situation, yield func(string, situation)) {
	w.cluster(s, yield)
	for i := range w.nodes {
		w.node(s, i, yield)
	}
}

// cluster: the driver, and an operator.
func (w *walk) cluster(s situation, yield func(string, situation)) {
	held := w.atlas[s.trust]
	commit := func(name string, next *verify.Bundle) {
		to := s
		to.trust = w.chart(stamp(next, held, epoch))
		yield(name, to)
	}
	d := w.next(w.view(&s), epoch)
	switch {
	case d.Commit != nil:
		commit("driver: "+string(d.Commit.Phase), d.Commit)
	case d.Make != nil:
		next, err := prepared(held, verify.Root{Generation: d.Make.Generation, Key: rootKey(d.Make.Generation)}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		commit("driver: trust", next)
	}
	if s.requests > 0 {
		if next, err := requested(held, keystore.P256); err == nil {
			s := s
			s.requests--
			s.trust = w.chart(stamp(next, held, epoch))
			yield("operator: rollover", s)
		}
	}
	turns := []struct {
		name string
		turn func(*verify.Bundle) (*verify.Bundle, error)
	}{{"rollback", w.rolledBack}, {"forward again", w.forwarded}}
	for _, x := range turns {
		if s.turns == 0 {
			break
		}
		if next, err := x.turn(held); err == nil {
			to := s
			to.turns--
			to.trust = w.chart(stamp(next, held, epoch))
			yield("operator: "+x.name, to)
		}
	}
}

// node: what one node does, and what reaches it.
func (w *walk) node(s situation, i int, yield func(string, situation)) {
	change := func(name string, edit func(*situation, *place)) {
		to := s
		edit(&to, &to.nodes[i])
		yield(fmt.Sprintf("%s: %s", identities[i].ID, name), to)
	}
	p := s.nodes[i]
	trust, live := w.atlas[s.trust], w.atlas[p.held]
	if trust.Supersedes(live) {
		change(fmt.Sprintf("installs state %v (%s)", trust.Version, trust.Phase), func(_ *situation, p *place) { p.held = s.trust })
	}
	// A leaf is signed by the root that signs now; it comes later, and a second one may overtake it.
	signer := int8(trust.Signer)
	if p.coming == 0 && signer != p.leaf {
		change(fmt.Sprintf("a leaf of g%d is signed", signer), func(_ *situation, p *place) { p.coming = signer })
	}
	if p.coming != 0 && p.second == 0 && p.coming != signer {
		change(fmt.Sprintf("a second leaf, of g%d, is signed", signer), func(_ *situation, p *place) { p.second = signer })
	}
	arrive := func(leaf int8) func(*situation, *place) {
		return func(_ *situation, p *place) {
			if w.admits(live, rootKey(int(leaf))) {
				p.leaf = leaf
			}
		}
	}
	if p.coming != 0 {
		change(fmt.Sprintf("a leaf of g%d arrives", p.coming), func(s *situation, q *place) {
			arrive(p.coming)(s, q)
			q.coming, q.second = p.second, 0
		})
	}
	if p.second != 0 {
		change(fmt.Sprintf("the second leaf, of g%d, arrives first", p.second), func(s *situation, q *place) {
			arrive(p.second)(s, q)
			q.second = 0
		})
	}
	w.reports(s, i, change)
	w.boots(s, i, change)
}

// reports: a report speaks of what is live. It is recorded at once, or is on its way while other things happen.
func (w *walk) reports(s situation, i int, change func(string, func(*situation, *place))) {
	p := s.nodes[i]
	if !p.booting && (p.said != p.held || p.saidOf != p.leaf) {
		change("reports", func(s *situation, q *place) {
			w.observe(s, i, p.held, p.leaf, true, false)
			q.older = q.late >= 0
		})
		if s.lates > 0 && p.late < 0 {
			change("sends a report that will be late", func(s *situation, q *place) {
				s.lates--
				q.late, q.lateOf, q.older = p.held, p.leaf, false
			})
		}
	}
	if p.late >= 0 {
		change("its late report arrives", func(s *situation, q *place) {
			w.observe(s, i, p.late, p.lateOf, true, p.older)
			q.late, q.lateOf, q.older = -1, 0, false
		})
	}
}

// boots: a boot is a rejoin. It is recorded, which withdraws what was confirmed; then the state is read, a leaf of its
// signer taken, and only when that is recorded, and the state still the same, does the node serve.
func (w *walk) boots(s situation, i int, change func(string, func(*situation, *place))) {
	p := s.nodes[i]
	if s.boots > 0 && !p.booting {
		change("is killed and boots", func(s *situation, q *place) {
			s.boots--
			q.booting, q.coming, q.second = true, 0, 0
			w.observe(s, i, p.held, p.leaf, false, false)
			q.older = q.late >= 0
		})
	}
	if p.booting && p.held == s.trust && w.admits(w.atlas[p.held], rootKey(int(p.leaf))) {
		change("serves", func(s *situation, q *place) {
			q.booting = false
			w.observe(s, i, p.held, p.leaf, true, false)
			q.older = q.late >= 0
		})
	}
}

// canonical orders the nodes, which are alike.
func (w *walk) canonical(s situation) situation {
	slices.SortFunc(s.nodes[:w.nodes], func(a, b place) int {
		return cmp.Or(cmp.Compare(a.held, b.held), cmp.Compare(a.leaf, b.leaf), cmp.Compare(a.coming, b.coming), cmp.Compare(a.second, b.second),
			cmp.Compare(a.said, b.said), cmp.Compare(a.saidOf, b.saidOf), cmp.Compare(a.late, b.late), cmp.Compare(a.lateOf, b.lateOf),
			cmp.Compare(flag(a), flag(b)))
	})
	return s
}

func flag(p place) int {
	n := 0
	for i, b := range []bool{p.booting, p.serving, p.older} {
		if b {
			n |= 1 << i
		}
	}
	return n
}

// violation says what is wrong in s; "" when nothing is.
func (w *walk) violation(s situation) string {
	v := w.view(&s)
	for i := range w.nodes {
		a := s.nodes[i]
		if a.booting || !counted(v, v.Members[i]) {
			continue
		}
		for j := range w.nodes {
			b := s.nodes[j]
			if i != j && !b.booting && counted(v, v.Members[j]) && !trusts(w.atlas[b.held], int(a.leaf)) {
				return fmt.Sprintf("I1: %s, which holds state %v (%s), refuses %s's leaf of g%d",
					identities[j].ID, w.atlas[b.held].Version, w.atlas[b.held].Phase, identities[i].ID, a.leaf)
			}
		}
		if held := w.atlas[a.held]; v.State.Phase == verify.Settled && (len(held.Roots) != 1 || !trusts(held, v.State.Signer)) {
			return fmt.Sprintf("I2: settled on g%d, and %s holds %d roots", v.State.Signer, identities[i].ID, len(held.Roots))
		}
	}
	return ""
}

func trusts(b *verify.Bundle, generation int) bool {
	_, ok := b.Root(generation)
	return ok && !slices.Contains(b.Retired, rootKey(generation))
}

// goal: the rollover is over, and everybody is where it ends.
func (w *walk) goal(s situation) bool {
	trust := w.atlas[s.trust]
	if trust.Phase != verify.Settled || trust.Pending != nil {
		return false
	}
	for _, p := range s.nodes[:w.nodes] {
		if held := w.atlas[p.held]; p.booting || int(p.leaf) != trust.Signer || len(held.Roots) != 1 || !trusts(held, trust.Signer) {
			return false
		}
	}
	return true
}

// run explores until a violation, which it returns with the way that leads there; "" when there is none.
func (w *walk) run() string {
	w.visit(w.canonical(w.start), -1, "")
	for n := 0; n < len(w.states); n++ {
		if what := w.violation(w.states[n]); what != "" {
			return what + "\n" + w.way(int32(n))
		}
		w.events(w.states[n], func(event string, to situation) {
			w.edges++
			w.visit(w.canonical(to), int32(n), event)
		})
		if len(w.states) > w.most {
			w.t.Fatalf("more than %d states", w.most)
		}
	}
	return w.deadEnd()
}

func (w *walk) visit(s situation, from int32, event string) {
	n, ok := w.index[s]
	if !ok {
		n = int32(len(w.states))
		w.index[s] = n
		w.states = append(w.states, s)
		w.from, w.by, w.into = append(w.from, from), append(w.by, event), append(w.into, nil)
	}
	if from >= 0 && from != n {
		w.into[n] = append(w.into[n], from)
	}
}

// deadEnd looks for a state from which the goal cannot be reached, backwards from the goals.
func (w *walk) deadEnd() string {
	alive := make([]bool, len(w.states))
	var todo []int32
	for n, s := range w.states {
		if w.goal(s) {
			alive[n] = true
			todo = append(todo, int32(n))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, before := range w.into[n] {
			if !alive[before] {
				alive[before] = true
				todo = append(todo, before)
			}
		}
	}
	if n := slices.Index(alive, false); n >= 0 {
		return "L: the rollover can never be over from here\n" + w.way(int32(n))
	}
	return ""
}

// way is the counter-example: the events that lead to a state. Since nodes that are alike are exchanged on the way, a
// name stands for a node only within one line.
func (w *walk) way(n int32) string {
	var lines []string
	for ; w.from[n] >= 0; n = w.from[n] {
		lines = append(lines, w.by[n]+"   ["+w.describe(w.states[n])+"]")
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

func (w *walk) describe(s situation) string {
	trust := w.atlas[s.trust]
	text := fmt.Sprintf("state %v %s g%d", trust.Version, trust.Phase, trust.Signer)
	for i, p := range s.nodes[:w.nodes] {
		text += fmt.Sprintf(", %s: %v leaf g%d", identities[i].ID, w.atlas[p.held].Version, p.leaf)
	}
	return text
}

// B22, B24, B29, B33, B36, B37, A8, A90: no state that can be reached cuts two counted nodes off, and each has a way to
// the end.
func TestExplore(t *testing.T) {
	for _, test := range []struct {
		name                          string
		nodes                         int
		requests, turns, boots, lates int8
	}{
		{"one rollover", 3, 1, 0, 0, 0},
		{"two rollovers", 3, 2, 0, 0, 0},
		{"rollback", 3, 2, 1, 0, 0},
		{"rollback, and forward again", 3, 1, 2, 0, 0},
		{"back and forth", 2, 1, 4, 0, 0},
		{"boots", 3, 1, 0, 2, 0},
		{"boots and rollback", 2, 2, 1, 1, 0},
		{"late and overtaken reports", 3, 1, 0, 0, 1},
		{"late reports, boots and rollback", 2, 1, 1, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, production(), test.nodes, test.requests, test.turns, test.boots, test.lates)
			if what := w.run(); what != "" {
				t.Fatal(what)
			}
			t.Logf("%d nodes, at most %d rollovers, %d turns, %d boots, %d late reports: %d states, %d transitions, %d trust states",
				test.nodes, test.requests, test.turns, test.boots, test.lates, len(w.states), w.edges, len(w.atlas))
			if len(w.states) < 100 {
				t.Error("next to nothing was explored")
			}
		})
	}
}

// The same walk finds each of these faults when it is put in.
func TestExploreFindsFaults(t *testing.T) {
	// unguarded takes a step whatever the members say.
	unguarded := func(phase verify.Phase, change func(*verify.Bundle)) func(View, time.Time) Decision {
		return func(v View, now time.Time) Decision {
			if v.State.Phase != phase {
				return Next(v, now)
			}
			next := v.State.Clone()
			change(next)
			return Decision{Commit: next}
		}
	}
	for _, test := range []struct {
		name  string
		seed  func(*machine)
		says  string // the invariant that breaks
		turns int8
	}{
		{"drop by timer", func(m *machine) { m.next = unguarded(verify.Switch, dropped) }, "I1", 1},
		{"signing before trust is confirmed", func(m *machine) { m.next = unguarded(verify.Trust, switched) }, "I1", 1},
		{"settled by timer", func(m *machine) { m.next = unguarded(verify.Drop, settled) }, "I2", 1},
		{"acknowledgement of any state", func(m *machine) {
			m.next = func(v View, now time.Time) Decision {
				for i := range v.Members { // "it has heard of a state" instead of "this state"
					r := *v.Members[i].Report
					r.State, r.Digest = v.State.Version, v.Digest
					v.Members[i].Report = &r
				}
				return Next(v, now)
			}
		}, "I2", 0},
		{"no fence", func(m *machine) {
			m.admits = func(*verify.Bundle, fingerprint.Key) bool { return true }
		}, "I1", 1},
		{"forward again without trust", func(m *machine) {
			m.forwarded = func(s *verify.Bundle) (*verify.Bundle, error) {
				next, err := forwarded(s)
				if err == nil {
					switched(next)
				}
				return next, err
			}
		}, "I1", 2},
		{"rollback after drop", func(m *machine) {
			m.rolledBack = func(s *verify.Bundle) (*verify.Bundle, error) {
				if s.Phase != verify.Drop {
					return rolledBack(s)
				}
				next := s.Clone()
				next.Roots = []verify.Root{{Generation: s.From, Key: rootKey(s.From)}, s.Roots[0]}
				next.Retired = nil
				next.From, next.To, next.Signer, next.Phase = s.To, s.From, s.From, verify.Switch
				return next, nil
			}
		}, "I1", 1},
		{"nobody drops", func(m *machine) {
			m.next = func(v View, now time.Time) Decision {
				if v.State.Phase == verify.Switch {
					return Decision{}
				}
				return Next(v, now)
			}
		}, "L", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := production()
			test.seed(&m)
			w := newWalk(t, m, 3, 1, test.turns, 0, 0)
			what := w.run()
			if !strings.HasPrefix(what, test.says+":") {
				t.Fatalf("found %q, want a violation of %s", what, test.says)
			}
			t.Logf("found after %d states:\n%s", len(w.states), what)
		})
	}
}
