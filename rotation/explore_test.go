package rotation

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// The explorer walks, breadth first, every state that a small cluster can reach, over the production functions: Next,
// requested, prepared, rolledBack, forwarded, withWaiver, withoutWaiver, stamp, observe, counted, Bundle.Supersedes and
// Bundle.Admits. Certificates are opaque to those, so here a root is a number and a leaf is the number of its root.
// Nodes are alike, so states that differ in their order are one.
//
// In every state it checks
//
//	I1  every two counted nodes that serve accept each other;
//	I2  while settled, every counted node holds exactly the root that signs;
//	I4  a key that is trusted no more is retired, so that no certificate of it is accepted whatever is presented;
//	L   the cluster can still get to the end: settled, no debt left, one root everywhere, and leaves of it.
//
// An event may happen at any time or not at all, so a node that is offline is one to which nothing happens for a while,
// a driver that is down or paused is one that does not step, and what is written to disk before it goes live is a crash
// before or after. What is left out is bounded by budget: so many requests, turns, boots, late reports and so on.

const maxExplored = 4 // nodes

const none = 0xff // no trust state

// place is one node, small and comparable.
type place struct {
	held    uint8 // the state that is live, by its number in the atlas
	leaf    uint8 // generation of the leaf served
	coming  uint8 // generation of a leaf that was signed and is on its way; 0: none
	second  uint8 // another one: answers may overtake each other
	said    uint8 // the newest report that the CA recorded: of which state, none when it was withdrawn,
	saidOf  uint8 // and with which leaf
	late    uint8 // a report on its way: of which state,
	lateOf  uint8 // and with which leaf
	waived  uint8 // hour at which its waiver ends; 0: it has none
	booting bool
	serving bool // what the CA recorded
	older   bool // the report on its way was made before the one recorded
	debt    bool
}

// rank orders places: equal ranks are equal places.
func (p *place) rank() (uint64, uint64) {
	var flags uint64
	for i, b := range [...]bool{p.booting, p.serving, p.older, p.debt} {
		if b {
			flags |= 1 << i
		}
	}
	a := uint64(p.held) | uint64(p.said)<<8 | uint64(p.late)<<16 | uint64(p.leaf)<<24 | uint64(p.saidOf)<<32 | uint64(p.lateOf)<<40 | uint64(p.coming)<<48 | uint64(p.second)<<56
	return a, uint64(p.waived)<<8 | flags
}

// budget bounds a walk: how often each of these may still happen.
type budget struct {
	rollovers, turns, boots, lates, waivers, hours, again uint8
}

// situation is a whole cluster. It is comparable: two equal ones are one state of the walk. Waivers and debts name
// nodes, which are exchanged here; so they stand with the places and not in the trust state, until a View is made.
type situation struct {
	trust uint8
	hour  uint8
	left  budget
	nodes [maxExplored]place
}

// machine is what is explored; a test seeds a fault by exchanging one of its functions.
type machine struct {
	next       func(View, time.Time) Decision
	rolledBack func(*verify.Bundle) (*verify.Bundle, error)
	forwarded  func(*verify.Bundle) (*verify.Bundle, error)
	admits     func(b *verify.Bundle, issuer fingerprint.Key) bool
	rejoins    bool // whether a boot withdraws what was confirmed, and is not counted until it holds the state in force
}

func production() machine {
	return machine{Next, rolledBack, forwarded, (*verify.Bundle).Admits, true}
}

// kind is what happens; an event says to whom. It becomes text only in a counter-example.
type kind uint8

const (
	stepped kind = iota
	asked
	turnedBack
	turnedForward
	committedAgain
	hourPassed
	gaveWaiver
	tookWaiver
	installed
	signed
	signedSecond
	arrived
	overtook
	reported
	sentLate
	arrivedLate
	booted
	served
)

var texts = [...]string{
	"the driver steps", "operator: rollover", "operator: rollback", "operator: forward again",
	"the CA commits another change", "an hour passes", "operator: waives %s", "operator: takes %s's waiver back", "%s installs the state",
	"a leaf is signed for %s", "a second leaf is signed for %s", "%s gets the leaf", "%s gets the second leaf first", "%s reports",
	"%s sends a report that will be late", "%s's late report arrives", "%s is killed and boots", "%s serves",
}

type event struct {
	kind kind
	node uint8
}

func (e event) String() string {
	if text := texts[e.kind]; strings.Contains(text, "%s") {
		return fmt.Sprintf(text, identities[e.node].ID)
	}
	return texts[e.kind]
}

// walk is one exploration.
type walk struct {
	machine
	t     *testing.T
	nodes int
	most  int // states; more is a failure

	start   situation
	atlas   []*verify.Bundle // every trust state met, without waivers and debts
	digest  []verify.Digest
	number  map[outline]uint8
	full    map[owing]*verify.Bundle
	reports []*verify.Report
	view    View // of the situation at hand; Next keeps nothing of it

	states []situation
	index  map[situation]int32
	parent []int32 // the state that led here first
	to     []int32 // where every transition leads, in the order of the states that it leaves
	leaves []int32 // where in to those of a state begin
}

func newWalk(t *testing.T, m machine, nodes int, left budget) *walk {
	w := &walk{
		machine: m, t: t, nodes: nodes, most: 3_000_000,
		number: make(map[outline]uint8), full: make(map[owing]*verify.Bundle), index: make(map[situation]int32),
		reports: make([]*verify.Report, 1<<16), view: View{Members: make([]Member, nodes)},
	}
	first := &verify.Bundle{
		Cluster: fingerprint.ClusterID{Domain: "x", UUID: "x"}, Phase: verify.Settled, Signer: 1, Generations: 1,
		Roots: []verify.Root{{Generation: 1, Key: rootKey(1)}},
	}
	w.start = situation{trust: w.chart(nil, first), left: left}
	for i := range nodes {
		w.start.nodes[i] = place{leaf: 1, saidOf: 1, serving: true, late: none}
	}
	return w
}

var epoch = time.Unix(1_800_000_000, 0)

func rootKey(generation int) fingerprint.Key { return fingerprint.Key{byte(generation)} }

// identities of the explored nodes.
var identities = func() (ids [maxExplored]fingerprint.Identity) {
	for i := range ids {
		ids[i] = fingerprint.Identity{Domain: "x", Role: fingerprint.Node, ID: string(rune('a' + i))}
	}
	return ids
}()

var known = keystore.Algorithms()

// outline is all in which two trust states of a walk can differ.
type outline struct {
	number                        uint64
	phase                         verify.Phase
	signer, from, to, generations int
	pending                       int
	roots, retired                uint64 // a bit for each generation
}

// What a trust state is made of. A field that comes new has to be put in its place here: into the outline, or among
// those that the machine never looks at.
func TestOutline(t *testing.T) {
	in := []string{"Version", "Phase", "Roots", "Signer", "From", "To", "Generations", "Retired", "Waivers", "Debts", "Pending"}
	out := []string{"Cluster", "Control", "Rules", "Issued", "FreshUntil", "Previous", "digest", "certificates"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[verify.Bundle]()) {
		if !slices.Contains(in, f.Name) && !slices.Contains(out, f.Name) {
			t.Errorf("field %s: do walks have to tell trust states apart by it?", f.Name)
		}
	}
}

func outlineOf(b *verify.Bundle) outline {
	o := outline{number: b.Version.Number, phase: b.Phase, signer: b.Signer, from: b.From, to: b.To, generations: b.Generations}
	if b.Pending != nil {
		o.pending = b.Pending.Generation
	}
	for _, r := range b.Roots {
		o.roots |= 1 << r.Generation
	}
	for _, k := range b.Retired {
		o.retired |= 1 << k[0]
	}
	return o
}

// chart stamps what is to follow held and gives it its number.
func (w *walk) chart(held, next *verify.Bundle) uint8 {
	o := outlineOf(next)
	if held != nil {
		o.number = held.Version.Number + 1
	}
	if n, ok := w.number[o]; ok {
		return n
	}
	b := stamp(next, held, epoch)
	b.Waivers, b.Debts = nil, nil
	if held != nil && b.Version.Number != o.number || len(w.atlas) == none {
		w.t.Fatalf("state %v after %v, %d trust states", b.Version, held.Version, len(w.atlas))
	}
	n := uint8(len(w.atlas))
	w.number[outlineOf(b)] = n
	w.atlas = append(w.atlas, b)
	w.digest = append(w.digest, b.Digest())
	return n
}

// owing is a trust state with whom waivers and debts name.
type owing struct {
	trust  uint8
	waived [maxExplored]uint8
	debts  [maxExplored]bool
}

// held is the trust state in force.
func (w *walk) held(s *situation) *verify.Bundle {
	o := owing{trust: s.trust}
	for i := range w.nodes {
		o.waived[i], o.debts[i] = s.nodes[i].waived, s.nodes[i].debt
	}
	b, ok := w.full[o]
	if !ok {
		b = w.atlas[s.trust].Clone()
		for i := range w.nodes {
			if o.waived[i] > 0 {
				b.Waivers = append(b.Waivers, waiverOf(i, o.waived[i]))
			}
			if o.debts[i] {
				b.Debts = append(b.Debts, identities[i])
			}
		}
		w.full[o] = b
	}
	return b
}

func waiverOf(node int, until uint8) verify.Waiver {
	return verify.Waiver{Member: identities[node], Operator: "anna", Reason: "it is away", Until: at(until)}
}

func at(hour uint8) time.Time { return epoch.Add(time.Duration(hour) * time.Hour) }

// commit makes next the state in force.
func (w *walk) commit(s *situation, next *verify.Bundle) {
	s.trust = w.chart(w.held(s), next)
	for i := range w.nodes {
		p := &s.nodes[i]
		p.debt, p.waived = slices.Contains(next.Debts, identities[i]), 0
		for _, x := range next.Waivers {
			if x.Member == identities[i] {
				p.waived = uint8(x.Until.Sub(epoch) / time.Hour)
			}
		}
	}
}

// Reports are numbered in the order in which they are made: one that is late comes before the recorded one, or after.
const (
	before = iota
	recorded
	after
)

// report is what a node says, or said.
func (w *walk) report(i int, said, leaf uint8, serving bool, count int) *verify.Report {
	slot := int(said) | i<<8 | int(leaf)<<10 | count<<13
	if serving {
		slot |= 1 << 15
	}
	if r := w.reports[slot]; r != nil {
		return r
	}
	r := &verify.Report{Member: identities[i], Serving: serving, Issuer: rootKey(int(leaf)), Algorithms: known, Count: uint64(count)}
	if said != none {
		b := w.atlas[said]
		r.State, r.Digest = b.Version, w.digest[said]
		for _, root := range b.Roots {
			r.Proven = append(r.Proven, root.Key)
		}
	}
	w.reports[slot] = r
	return r
}

// record is what the CA has of a node.
func (w *walk) record(s *situation, i int) Member {
	p := &s.nodes[i]
	return Member{Identity: identities[i], Report: w.report(i, p.said, p.saidOf, p.serving, recorded)}
}

// observe lets a report reach the CA, through the production function.
func (w *walk) observe(s *situation, i int, said, leaf uint8, serving bool, count int) {
	m, err := observe(w.record(s, i), w.report(i, said, leaf, serving, count))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &s.nodes[i]
	p.said, p.saidOf, p.serving = said, leaf, m.Report.Serving
	if m.Report.State.IsZero() {
		p.said = none
	}
}

// look makes the View of s. It is good until the next look.
func (w *walk) look(s *situation) View {
	w.view.State, w.view.Digest = w.held(s), w.digest[s.trust]
	for i := range w.nodes {
		w.view.Members[i] = w.record(s, i)
	}
	return w.view
}

// events yields every situation that can follow s, with the event that leads there.
func (w *walk) events(s situation, yield func(event, situation)) {
	w.cluster(s, yield)
	for i := range w.nodes {
		w.waivers(s, i, yield)
		w.node(s, i, yield)
	}
}

// cluster: the driver, an operator, and time.
func (w *walk) cluster(s situation, yield func(event, situation)) {
	held := w.held(&s)
	commit := func(k kind, to situation, next *verify.Bundle, err error) {
		if err == nil {
			w.commit(&to, next)
			yield(event{kind: k}, to)
		}
	}
	d := w.next(w.look(&s), at(s.hour))
	switch {
	case d.Commit != nil:
		commit(stepped, s, d.Commit, nil)
	case d.Make != nil:
		next, err := prepared(held, verify.Root{Generation: d.Make.Generation, Key: rootKey(d.Make.Generation)}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		commit(stepped, s, next, nil)
	}
	if to := s; spend(&to.left.rollovers) {
		next, err := requested(held, keystore.P256)
		commit(asked, to, next, err)
	}
	if to := s; spend(&to.left.turns) {
		next, err := w.rolledBack(held)
		commit(turnedBack, to, next, err)
		next, err = w.forwarded(held)
		commit(turnedForward, to, next, err)
	}
	if to := s; spend(&to.left.again) {
		commit(committedAgain, to, held.Clone(), nil)
	}
	if to := s; spend(&to.left.hours) {
		to.hour++
		yield(event{kind: hourPassed}, to)
	}
}

func spend(left *uint8) bool {
	if *left == 0 {
		return false
	}
	*left--
	return true
}

func (w *walk) waivers(s situation, i int, yield func(event, situation)) {
	if to := s; s.nodes[i].waived > 0 {
		next, err := withoutWaiver(w.held(&s), identities[i])
		if err != nil {
			w.t.Fatal(err)
		}
		w.commit(&to, next)
		yield(event{tookWaiver, uint8(i)}, to)
	}
	if until := s.hour + 1; spend(&s.left.waivers) && s.nodes[i].waived < until {
		if next, err := withWaiver(w.held(&s), waiverOf(i, until), at(s.hour)); err == nil {
			w.commit(&s, next)
			yield(event{gaveWaiver, uint8(i)}, s)
		}
	}
}

// node: what one node does, and what reaches it.
func (w *walk) node(s situation, i int, yield func(event, situation)) {
	change := func(k kind, edit func(*situation, *place)) {
		to := s
		edit(&to, &to.nodes[i])
		yield(event{k, uint8(i)}, to)
	}
	p := &s.nodes[i]
	trust, live := w.atlas[s.trust], w.atlas[p.held]
	if trust.Supersedes(live) {
		change(installed, func(_ *situation, q *place) { q.held = s.trust })
	}
	// A leaf is signed by the root that signs now; it comes later, and a second one may overtake it.
	signer := uint8(trust.Signer)
	if p.coming == 0 && signer != p.leaf {
		change(signed, func(_ *situation, q *place) { q.coming = signer })
	}
	if p.coming != 0 && p.second == 0 && p.coming != signer {
		change(signedSecond, func(_ *situation, q *place) { q.second = signer })
	}
	arrive := func(q *place, leaf uint8) {
		if w.admits(live, rootKey(int(leaf))) {
			q.leaf = leaf
		}
	}
	if p.coming != 0 {
		change(arrived, func(_ *situation, q *place) {
			arrive(q, p.coming)
			q.coming, q.second = p.second, 0
		})
	}
	if p.second != 0 {
		change(overtook, func(_ *situation, q *place) {
			arrive(q, p.second)
			q.second = 0
		})
	}
	w.speaks(s, i, change)
	w.boots(s, i, change)
}

// say records at once what a node says of what is live; a report that is still on its way has become an older one.
func (w *walk) say(s *situation, i int, serving bool) {
	p := &s.nodes[i]
	w.observe(s, i, p.held, p.leaf, serving, after)
	p.older = p.late != none
}

// speaks: a report is recorded at once, or is on its way while other things happen.
func (w *walk) speaks(s situation, i int, change func(kind, func(*situation, *place))) {
	p := &s.nodes[i]
	if !p.booting && (p.said != p.held || p.saidOf != p.leaf) {
		change(reported, func(s *situation, _ *place) { w.say(s, i, true) })
		if s.left.lates > 0 && p.late == none {
			change(sentLate, func(s *situation, q *place) {
				s.left.lates--
				q.late, q.lateOf, q.older = p.held, p.leaf, false
			})
		}
	}
	if p.late != none {
		change(arrivedLate, func(s *situation, q *place) {
			count := after
			if p.older {
				count = before
			}
			w.observe(s, i, p.late, p.lateOf, true, count)
			q.late, q.lateOf, q.older = none, 0, false
		})
	}
}

// boots: a boot is a rejoin. It is recorded, which withdraws what was confirmed; then the state is read, a leaf of its
// signer taken, and only when that is recorded, and the state still the same, does the node serve.
func (w *walk) boots(s situation, i int, change func(kind, func(*situation, *place))) {
	p := &s.nodes[i]
	if s.left.boots > 0 && !p.booting {
		change(booted, func(s *situation, q *place) {
			s.left.boots--
			q.booting, q.coming, q.second = true, 0, 0
			w.say(s, i, false)
		})
	}
	if p.booting && (!w.rejoins || p.held == s.trust && w.admits(w.atlas[p.held], rootKey(int(p.leaf)))) {
		change(served, func(s *situation, q *place) {
			q.booting = false
			w.say(s, i, true)
		})
	}
}

// canonical orders the nodes, which are alike.
func (w *walk) canonical(s situation) situation {
	for i := 1; i < w.nodes; i++ {
		for j := i; j > 0 && less(&s.nodes[j], &s.nodes[j-1]); j-- {
			s.nodes[j], s.nodes[j-1] = s.nodes[j-1], s.nodes[j]
		}
	}
	return s
}

func less(a, b *place) bool {
	a1, a2 := a.rank()
	b1, b2 := b.rank()
	return a1 < b1 || a1 == b1 && a2 < b2
}

// violation says what is wrong in s; "" when nothing is.
func (w *walk) violation(s situation) string {
	v := w.look(&s)
	for i := range w.nodes {
		a := &s.nodes[i]
		if a.booting || !counted(v, v.Members[i]) {
			continue
		}
		held := w.atlas[a.held]
		for j := range w.nodes {
			b := &s.nodes[j]
			if i != j && !b.booting && counted(v, v.Members[j]) && !trusts(held, int(b.leaf)) {
				return fmt.Sprintf("I1: %s, which holds state %v (%s), refuses %s's leaf of g%d",
					identities[i].ID, held.Version, held.Phase, identities[j].ID, b.leaf)
			}
		}
		if v.State.Phase == verify.Settled && (len(held.Roots) != 1 || !trusts(held, v.State.Signer)) {
			return fmt.Sprintf("I2: settled on g%d, and %s holds %d roots", v.State.Signer, identities[i].ID, len(held.Roots))
		}
		if g := forgotten(held); g > 0 {
			return fmt.Sprintf("I4: %s trusts g%d no more, and its key is not retired", identities[i].ID, g)
		}
	}
	return ""
}

func trusts(b *verify.Bundle, generation int) bool {
	_, ok := b.Root(generation)
	return ok && !slices.Contains(b.Retired, rootKey(generation))
}

// forgotten is a generation that was trusted and is neither that nor retired; 0 when there is none.
func forgotten(b *verify.Bundle) int {
	for g := 1; g <= b.Generations; g++ {
		_, trusted := b.Root(g)
		if !trusted && !slices.Contains(b.Retired, rootKey(g)) && (b.Pending == nil || b.Pending.Generation != g) {
			return g
		}
	}
	return 0
}

// goal: the rollover is over, nobody owes anything, and everybody is where it ends.
func (w *walk) goal(s situation) bool {
	trust := w.atlas[s.trust]
	if trust.Phase != verify.Settled || trust.Pending != nil {
		return false
	}
	for _, p := range s.nodes[:w.nodes] {
		held := w.atlas[p.held]
		if p.booting || p.debt || int(p.leaf) != trust.Signer || len(held.Roots) != 1 || !trusts(held, trust.Signer) {
			return false
		}
	}
	return true
}

// run explores until a violation, which it returns with the way that leads there; "" when there is none.
func (w *walk) run() string {
	w.visit(w.canonical(w.start), -1)
	for n := 0; n < len(w.states); n++ {
		if what := w.violation(w.states[n]); what != "" {
			return what + "\n" + w.way(int32(n))
		}
		w.leaves = append(w.leaves, int32(len(w.to)))
		w.events(w.states[n], func(_ event, to situation) { w.to = append(w.to, w.visit(w.canonical(to), int32(n))) })
		if len(w.states) > w.most {
			w.t.Fatalf("more than %d states", w.most)
		}
	}
	return w.deadEnd()
}

// visit returns the number of a state; from is where it was come from.
func (w *walk) visit(s situation, from int32) int32 {
	n, ok := w.index[s]
	if !ok {
		n = int32(len(w.states))
		w.index[s] = n
		w.states = append(w.states, s)
		w.parent = append(w.parent, from)
	}
	return n
}

// backwards turns the transitions around: those into state n come from into[first[n]:first[n+1]].
func (w *walk) backwards() (into, first []int32) {
	first = make([]int32, len(w.states)+1)
	for _, to := range w.to {
		first[to]++
	}
	for n := 1; n < len(first); n++ {
		first[n] += first[n-1]
	}
	into = make([]int32, len(w.to))
	leaves := append(w.leaves, int32(len(w.to)))
	for n := range w.states {
		for _, to := range w.to[leaves[n]:leaves[n+1]] {
			first[to]--
			into[first[to]] = int32(n)
		}
	}
	return into, first
}

// deadEnd looks for a state from which the goal cannot be reached, backwards from the goals.
func (w *walk) deadEnd() string {
	into, first := w.backwards()
	alive := make([]bool, len(w.states))
	var todo []int32
	reach := func(n int32) {
		if !alive[n] {
			alive[n] = true
			todo = append(todo, n)
		}
	}
	for n, s := range w.states {
		if w.goal(s) {
			reach(int32(n))
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, before := range into[first[n]:first[n+1]] {
			reach(before)
		}
	}
	if n := slices.Index(alive, false); n >= 0 {
		return "L: the rollover can never be over from here\n" + w.way(int32(n))
	}
	return ""
}

// way is the counter-example: the events that lead to a state, told again without exchanging nodes, so that a name
// stands for one node throughout.
func (w *walk) way(n int32) string {
	var path []situation
	for ; w.parent[n] >= 0; n = w.parent[n] {
		path = append(path, w.states[n])
	}
	slices.Reverse(path)
	s := w.start
	var lines []string
	for _, want := range path {
		var by event
		from := s
		w.events(from, func(e event, to situation) {
			if s == from && w.canonical(to) == want {
				by, s = e, to
			}
		})
		lines = append(lines, fmt.Sprintf("%-40s %s", by, w.describe(&s)))
	}
	// The names in what was found are of the last situation after sorting; say it again with these.
	if what := w.violation(s); what != "" {
		lines = append(lines, what)
	}
	return strings.Join(lines, "\n")
}

func (w *walk) describe(s *situation) string {
	trust := w.atlas[s.trust]
	text := fmt.Sprintf("%v %-7s g%d", trust.Version, trust.Phase, trust.Signer)
	for i, p := range s.nodes[:w.nodes] {
		text += fmt.Sprintf(" | %s: %v leaf g%d", identities[i].ID, w.atlas[p.held].Version, p.leaf)
		for _, mark := range []struct {
			has  bool
			text string
		}{{p.booting, " booting"}, {p.waived > s.hour, " waived"}, {p.debt, " owes"}} {
			if mark.has {
				text += mark.text
			}
		}
	}
	return text
}

// exploration is one row of what is walked.
type exploration struct {
	name  string
	nodes int
	left  budget
}

func explore(t *testing.T, all []exploration) {
	for _, x := range all {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			w := newWalk(t, production(), x.nodes, x.left)
			if what := w.run(); what != "" {
				t.Fatal(what)
			}
			t.Logf("%d nodes, at most %+v: %d states, %d transitions, %d trust states",
				x.nodes, x.left, len(w.states), len(w.to), len(w.atlas))
			if len(w.states) < 100 {
				t.Error("next to nothing was explored")
			}
		})
	}
}

// B22, B24, B29, B32, B33, B34, B36, B37, A8, A62, A90: no state that can be reached cuts two counted nodes off, and each
// has a way to the end.
func TestExplore(t *testing.T) {
	explore(t, []exploration{
		{"one rollover", 3, budget{rollovers: 1}},
		{"three rollovers", 3, budget{rollovers: 3}},
		{"rollback", 3, budget{rollovers: 2, turns: 1}},
		{"rollback, and forward again", 3, budget{rollovers: 1, turns: 2}},
		{"back and forth", 2, budget{rollovers: 1, turns: 4}},
		{"boots", 3, budget{rollovers: 1, boots: 2}},
		{"boots and rollback", 3, budget{rollovers: 1, turns: 1, boots: 1}},
		{"late and overtaken reports", 3, budget{rollovers: 1, lates: 2}},
		{"late reports, boots and rollback", 2, budget{rollovers: 1, turns: 1, boots: 1, lates: 1}},
		{"waivers that end", 3, budget{rollovers: 1, waivers: 1, hours: 1}},
		{"waivers and rollback", 2, budget{rollovers: 1, turns: 1, waivers: 1}},
		{"debts over a second rollover", 2, budget{rollovers: 2, waivers: 1}},
		{"other commits on the way", 3, budget{rollovers: 1, again: 2}},
		{"four nodes", 4, budget{rollovers: 2}},
	})
}

// What does not fit into a minute.
func TestExploreFurther(t *testing.T) {
	if os.Getenv("CLUSTERCA_LONG") == "" {
		t.Skip("takes minutes: ./test.sh -long")
	}
	explore(t, []exploration{
		{"four nodes and rollback", 4, budget{rollovers: 1, turns: 1}},
		{"boots, rollback and a third root", 2, budget{rollovers: 2, turns: 1, boots: 1}},
		{"late reports and rollback", 3, budget{rollovers: 1, turns: 1, lates: 1}},
		{"late reports, boots and rollback", 3, budget{rollovers: 1, turns: 1, boots: 1, lates: 1}},
		{"waivers that end, and rollback", 2, budget{rollovers: 1, turns: 1, waivers: 1, hours: 1}},
		{"waivers and rollback", 3, budget{rollovers: 1, turns: 1, waivers: 1}},
		{"waivers, boots and late reports", 2, budget{rollovers: 1, waivers: 1, hours: 1, boots: 1, lates: 1}},
		{"two waivers", 3, budget{rollovers: 1, waivers: 2}},
		{"other commits, boots and rollback", 3, budget{rollovers: 1, turns: 1, boots: 1, again: 1}},
		{"four nodes, rollback and a third root", 4, budget{rollovers: 2, turns: 1}},
	})
}

// unguarded takes a step whatever the members say.
func unguarded(phase verify.Phase, change func(*verify.Bundle)) func(View, time.Time) Decision {
	return func(v View, now time.Time) Decision {
		if v.State.Phase != phase {
			return Next(v, now)
		}
		next := v.State.Clone()
		change(next)
		return Decision{Commit: next}
	}
}

// hearsay takes whatever a member said last for the word that edit makes of it.
func hearsay(edit func(View, *verify.Report)) func(View, time.Time) Decision {
	return func(v View, now time.Time) Decision {
		v.Members = slices.Clone(v.Members)
		for i := range v.Members {
			r := *v.Members[i].Report
			edit(v, &r)
			v.Members[i].Report = &r
		}
		return Next(v, now)
	}
}

// corrected takes production's step and changes what would be committed.
func corrected(edit func(View, *verify.Bundle)) func(View, time.Time) Decision {
	return func(v View, now time.Time) Decision {
		d := Next(v, now)
		if d.Commit != nil {
			edit(v, d.Commit)
		}
		return d
	}
}

func afterDrop(s *verify.Bundle) (*verify.Bundle, error) {
	if s.Phase != verify.Drop {
		return rolledBack(s)
	}
	next := s.Clone()
	next.Roots = []verify.Root{{Generation: s.From, Key: rootKey(s.From)}, s.Roots[0]}
	next.Retired = nil
	next.From, next.To, next.Signer, next.Phase = s.To, s.From, s.From, verify.Switch
	return next, nil
}

func skipTrust(s *verify.Bundle) (*verify.Bundle, error) {
	next, err := forwarded(s)
	if err == nil {
		switched(next)
	}
	return next, err
}

// The same walk finds each of these faults when it is put in. The names are those of the design's counter-examples.
func TestExploreFindsFaults(t *testing.T) {
	turn, waiver := budget{rollovers: 1, turns: 1}, budget{rollovers: 1, waivers: 1, hours: 1}
	for _, test := range []struct {
		name string
		seed func(*machine)
		says string // the invariant that breaks
		left budget
	}{
		{"drop by timer", func(m *machine) { m.next = unguarded(verify.Switch, dropped) }, "I1", turn},
		{"signing before trust is confirmed", func(m *machine) { m.next = unguarded(verify.Trust, switched) }, "I1", turn},
		{"settled by timer", func(m *machine) { m.next = unguarded(verify.Drop, settled) }, "I2", turn},
		{"acknowledgement of any state", func(m *machine) {
			m.next = hearsay(func(v View, r *verify.Report) { r.State, r.Digest = v.State.Version, v.Digest })
		}, "I2", budget{rollovers: 1}},
		{"drop without new leaves", func(m *machine) {
			m.next = hearsay(func(v View, r *verify.Report) { r.Issuer = rootKey(v.State.To) })
		}, "I1", budget{rollovers: 1}},
		{"no fence", func(m *machine) { m.admits = func(*verify.Bundle, fingerprint.Key) bool { return true } }, "I1", turn},
		{"a boot is no rejoin", func(m *machine) { m.rejoins = false }, "I1", budget{rollovers: 1, boots: 1}},
		{"forward again without trust", func(m *machine) { m.forwarded = skipTrust }, "I1", budget{rollovers: 1, turns: 2}},
		{"rollback after drop", func(m *machine) { m.rolledBack = afterDrop }, "I1", turn},
		{"dropped and not retired", func(m *machine) {
			m.next = corrected(func(_ View, next *verify.Bundle) { next.Retired = nil })
		}, "I4", budget{rollovers: 1}},
		{"waiver used, and no debt", func(m *machine) {
			m.next = corrected(func(_ View, next *verify.Bundle) { next.Debts = nil })
		}, "I1", waiver},
		{"debt ended by contact", func(m *machine) {
			m.next = corrected(func(v View, next *verify.Bundle) {
				next.Debts = slices.DeleteFunc(next.Debts, func(id fingerprint.Identity) bool { return indebted(v.State, id) })
			})
		}, "I1", waiver},
		{"nobody drops", func(m *machine) {
			m.next = func(v View, now time.Time) Decision {
				if v.State.Phase == verify.Switch {
					return Decision{}
				}
				return Next(v, now)
			}
		}, "L", turn},
		{"debts are never settled", func(m *machine) {
			m.next = func(v View, now time.Time) Decision {
				if v.State.Phase == verify.Settled && len(v.State.Debts) > 0 {
					return Decision{}
				}
				return Next(v, now)
			}
		}, "L", waiver},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := production()
			test.seed(&m)
			w := newWalk(t, m, 3, test.left)
			what := w.run()
			if !strings.HasPrefix(what, test.says+":") {
				t.Fatalf("found %q, want a violation of %s", what, test.says)
			}
			t.Logf("found after %d states:\n%s", len(w.states), what)
		})
	}
}
