package rotation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

var update = flag.Bool("update", false, "rewrite the traces of the histories")

// A history is a text: what operators, members and the driver do, a line each, and indented below it all that came of
// it. Members are letters, roots are generations. The commands:
//
//	members a b c              the cluster begins: all serve, hold state 1.1 and have reported it
//	rollover ed25519, rollback, forward
//	waive b 2h, unwaive b      an operator's
//	hours 2                    time passes
//	step                       the driver looks once: a commit, or who blocks
//	install a b                members make the state in force live
//	renew a b                  members get a leaf of the root that signs; the fence may refuse it
//	report a b                 members say what is live; with one member also
//	    proven=1               only these canaries were accepted
//	    knows=p256             only these algorithms
//	    refused=b:reason       a refusal
//	    count=3, boot=2        out of turn
//	boot a                     a restart: reported, not serving
//	remove a                   the record is closed
type story struct {
	t       *testing.T
	state   *verify.Bundle
	now     time.Time
	members []*actor
	out     strings.Builder
}

type actor struct {
	record      Member
	held        *verify.Bundle
	leaf        int
	serving     bool
	boot, count uint64
}

// B22, B24, B28, B29, B32, B33, B34, B36, B38, A8, A62, A90, A91: histories, with all that the machine said.
func TestHistories(t *testing.T) {
	files, err := filepath.Glob("testdata/history/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no histories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if at := firstDifference(got, string(want)); at != "" {
				t.Errorf("%s\nif this is meant: go test ./rotation -run Histories -update", at)
			}
		})
	}
}

func tell(t *testing.T, text string) string {
	s := &story{t: t, now: epoch}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue // of the last run
		}
		s.out.WriteString(line + "\n")
		if line != "" && !strings.HasPrefix(line, "#") {
			s.do(strings.Fields(line))
		}
	}
	return s.out.String()
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d:\n got %q\nwant %q", i+1, a[min(i, len(a)):min(i+1, len(a))], b[min(i, len(b)):min(i+1, len(b))])
		}
	}
	return ""
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.out, "    "+format+"\n", args...) }

func (s *story) do(words []string) {
	s.t.Helper()
	verb, args := words[0], words[1:]
	switch verb {
	case "members":
		s.begin(args)
	case "rollover":
		s.commit(requested(s.state, keystore.Algorithm(args[0])))
	case "rollback":
		s.commit(rolledBack(s.state))
	case "forward":
		s.commit(forwarded(s.state))
	case "waive":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.commit(withWaiver(s.state, verify.Waiver{Member: s.actor(args[0]).record.Identity, Operator: "anna", Reason: "it is away", Until: s.now.Add(d)}, s.now))
	case "unwaive":
		s.commit(withoutWaiver(s.state, s.actor(args[0]).record.Identity))
	case "hours":
		s.now = s.now.Add(time.Duration(s.number(args[0])) * time.Hour)
	case "step":
		s.step()
	default:
		s.member(verb, args)
	}
}

func (s *story) member(verb string, args []string) {
	s.t.Helper()
	names := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.Contains(a, "=") })
	for _, name := range names {
		m := s.actor(name)
		switch verb {
		case "install":
			s.install(m)
		case "renew":
			s.renew(m)
		case "report":
			s.report(m, args[len(names):])
		case "boot":
			m.boot, m.count, m.serving = m.boot+1, 0, false
			s.report(m, nil)
			m.serving = true
		case "remove":
			m.record.Revoked = &Revocation{At: s.now, Reason: "gone"}
		default:
			s.t.Fatalf("no command %q", verb)
		}
	}
}

func (s *story) begin(names []string) {
	s.state = stamp(&verify.Bundle{
		Phase: verify.Settled, Signer: 1, Generations: 1, Roots: []verify.Root{{Generation: 1, Key: rootKey(1)}},
		Rules: verify.Rules{Node: fingerprint.Open, User: fingerprint.Open},
	}, nil, s.now)
	for _, name := range names {
		id := fingerprint.Identity{Domain: "x", Role: fingerprint.Node, ID: name}
		m := &actor{record: Member{Identity: id, Current: fingerprint.Key{9, name[0]}}, held: s.state, leaf: 1, serving: true, boot: 1}
		s.members = append(s.members, m)
		s.report(m, nil)
	}
	s.describe()
}

func (s *story) actor(name string) *actor {
	s.t.Helper()
	i := slices.IndexFunc(s.members, func(m *actor) bool { return m.record.Identity.ID == name })
	if i < 0 {
		s.t.Fatalf("no member %q", name)
	}
	return s.members[i]
}

func (s *story) number(text string) int {
	s.t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// step is the driver's.
func (s *story) step() {
	v := View{State: s.state, Digest: s.state.Digest()}
	for _, m := range s.members {
		v.Members = append(v.Members, m.record)
	}
	d := Next(v, s.now)
	switch {
	case d.Commit != nil:
		s.commit(d.Commit, nil)
	case d.Make != nil:
		s.say("makes %s with %s", d.Make.Label, d.Make.Algorithm)
		s.commit(prepared(s.state, verify.Root{Generation: d.Make.Generation, Key: rootKey(d.Make.Generation)}, nil))
	case len(d.Blockers) == 0:
		s.say("nothing to do")
	}
	for _, b := range d.Blockers {
		s.say("%s: %s", b.Code, b.Reason)
	}
}

func (s *story) commit(next *verify.Bundle, err error) {
	if err != nil {
		s.say("refused: %v", err)
		return
	}
	s.state = stamp(next, s.state, s.now)
	s.describe()
}

// describe tells the whole state in force, in one line.
func (s *story) describe() {
	b := s.state
	text := fmt.Sprintf("state %v %s:", b.Version, b.Phase)
	for _, r := range b.Roots {
		text += fmt.Sprintf(" g%d", r.Generation)
	}
	text += fmt.Sprintf(" trusted, g%d signs", b.Signer)
	if b.From > 0 {
		text += fmt.Sprintf(", g%d → g%d", b.From, b.To)
	}
	for i, k := range b.Retired {
		text += []string{", retired", ""}[min(i, 1)] + fmt.Sprintf(" g%d", k[0])
	}
	if b.Pending != nil {
		text += fmt.Sprintf(", pending g%d %s", b.Pending.Generation, b.Pending.Algorithm)
	}
	for _, w := range b.Waivers {
		text += fmt.Sprintf(", %s waived until %s", w.Member.ID, w.Until.UTC().Format("15:04"))
	}
	for _, id := range b.Debts {
		text += fmt.Sprintf(", %s owes", id.ID)
	}
	s.say("%s", text)
}

func (s *story) install(m *actor) {
	if !s.state.Supersedes(m.held) {
		s.say("%s holds state %v already", m.record.Identity.ID, m.held.Version)
		return
	}
	m.held = s.state
}

func (s *story) renew(m *actor) {
	if !m.held.Admits(s.state.SignerKey()) {
		s.say("%s does not take a leaf of g%d: in state %v g%d signs", m.record.Identity.ID, s.state.Signer, m.held.Version, m.held.Signer)
		return
	}
	m.leaf = s.state.Signer
}

func (s *story) report(m *actor, details []string) {
	s.t.Helper()
	m.count++
	r := &verify.Report{
		Member: m.record.Identity, Boot: m.boot, Count: m.count, Serving: m.serving, State: m.held.Version, Digest: m.held.Digest(),
		Issuer: rootKey(m.leaf), Key: m.record.Current, Algorithms: known, Clock: s.now,
	}
	for _, root := range m.held.Roots {
		r.Proven = append(r.Proven, root.Key)
	}
	for _, detail := range details {
		s.detail(r, detail)
	}
	var err error
	if m.record, err = observe(m.record, r); err != nil {
		s.t.Fatal(err)
	}
	if m.record.Report.State != r.State {
		s.say("%s is withdrawn: report %d of boot %d after a later one", m.record.Identity.ID, r.Count, r.Boot)
	}
}

func (s *story) detail(r *verify.Report, detail string) {
	s.t.Helper()
	name, value, _ := strings.Cut(detail, "=")
	switch name {
	case "proven":
		r.Proven = []fingerprint.Key{rootKey(s.number(value))}
	case "knows":
		r.Algorithms = []keystore.Algorithm{keystore.Algorithm(value)}
	case "refused":
		peer, reason, _ := strings.Cut(value, ":")
		r.Refusals = append(r.Refusals, verify.Refused{Peer: s.actor(peer).record.Identity, Reason: verify.Reason(reason)})
	case "count":
		r.Count = uint64(s.number(value))
	case "boot":
		r.Boot = uint64(s.number(value))
	default:
		s.t.Fatalf("no detail %q", detail)
	}
}
