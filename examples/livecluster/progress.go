package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/verify"
)

// display shows a run: bars that move on a terminal, a line a change elsewhere, or JSON lines.
type display struct {
	out   io.Writer
	json  bool
	moves bool // a terminal: what is drawn may be drawn over
	color bool
	began time.Time

	mu    sync.Mutex // guards what follows
	drawn int        // lines that the next picture goes over
	said  string     // the line said last, where nothing moves
}

// bar is one progress bar.
type bar struct {
	name     string
	done, of int
}

const barWidth = 24

// newDisplay finds out what the output can do. CI and NO_COLOR are honoured.
func newDisplay(out io.Writer, asJSON bool) *display {
	d := &display{out: out, json: asJSON, began: time.Now()}
	if f, ok := out.(*os.File); ok && !asJSON && os.Getenv("CI") == "" {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			d.moves, d.color = true, os.Getenv("NO_COLOR") == ""
		}
	}
	return d
}

// emit writes one JSON line.
func (d *display) emit(kind string, v any) {
	json.NewEncoder(d.out).Encode(map[string]any{"event": kind, "at": time.Since(d.began).Seconds(), "value": v})
}

func (d *display) paint(code, s string) string {
	if !d.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// line writes a line that stays, below which pictures are drawn again.
func (d *display) line(s string) {
	d.erase()
	fmt.Fprintln(d.out, s)
}

func (d *display) erase() {
	if d.drawn > 0 {
		fmt.Fprintf(d.out, "\x1b[%dA\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// note says that something happened.
func (d *display) note(what, detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		d.emit("note", map[string]string{"what": what, "detail": detail})
		return
	}
	d.line(d.stamp() + d.paint("1", fmt.Sprintf("%-10s", what)) + " " + detail)
}

func (d *display) stamp() string {
	return d.paint("2", fmt.Sprintf("%6.1f s  ", time.Since(d.began).Seconds()))
}

// cluster introduces root and members.
func (d *display) cluster(s rotation.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		d.emit("cluster", map[string]any{"id": s.State.Cluster, "root": s.State.Roots[0].Key, "members": identities(s)})
		return
	}
	d.line(fmt.Sprintf("cluster %s (%s)", d.paint("1", s.State.Cluster.Domain), s.State.Cluster.UUID))
	for _, r := range s.State.Roots {
		d.line(fmt.Sprintf("  root g%d   %s", r.Generation, r.Key))
	}
	for _, m := range s.Members {
		d.line(fmt.Sprintf("  %-8s  %s  %s", m.Identity.Role, m.Current.Short(), m.Identity.ID))
	}
}

func identities(s rotation.Status) []string {
	var ids []string
	for _, m := range s.Members {
		ids = append(ids, m.Identity.String())
	}
	return ids
}

// progress shows where a change stands, and who keeps it waiting.
func (d *display) progress(what string, s rotation.Status, bars ...bar) {
	d.mu.Lock()
	defer d.mu.Unlock()
	waits := ""
	if len(s.Blockers) > 0 {
		waits = shortNames(s).Replace(s.Blockers[0].Reason)
		if more := len(s.Blockers) - 1; more > 0 {
			waits += fmt.Sprintf(" (and %d more)", more)
		}
	}
	switch {
	case d.json:
		d.emitProgress(what, s, bars, waits)
	case d.moves:
		d.drawBars(what, s, bars, waits)
	default:
		d.sayBars(what, s, bars, waits)
	}
}

// shortNames says 48449815… for 48449815-0866-4aa0-accb-ec613457ac00.
func shortNames(s rotation.Status) *strings.Replacer {
	var names []string
	for _, m := range s.Members {
		if len(m.Identity.ID) > 12 {
			names = append(names, m.Identity.ID, m.Identity.ID[:8]+"…")
		}
	}
	return strings.NewReplacer(names...)
}

func (d *display) emitProgress(what string, s rotation.Status, bars []bar, waits string) {
	v := map[string]any{"what": what, "phase": s.State.Phase, "state": s.State.Version, "blockers": s.Blockers}
	for _, b := range bars {
		v[b.name] = [2]int{b.done, b.of}
	}
	key := fmt.Sprint(v, waits)
	if key != d.said {
		d.said = key
		d.emit("progress", v)
	}
}

func (d *display) drawBars(what string, s rotation.Status, bars []bar, waits string) {
	d.erase()
	fmt.Fprintf(d.out, "%s%s  %s\n", d.stamp(), d.paint("1", what), s.State.Phase)
	for _, b := range bars {
		filled := 0
		if b.of > 0 {
			filled = barWidth * b.done / b.of
		}
		fmt.Fprintf(d.out, "  %-14s %s%s %d/%d\n", b.name, d.paint("32", strings.Repeat("█", filled)), strings.Repeat("░", barWidth-filled), b.done, b.of)
	}
	if waits == "" {
		waits = "nobody blocks"
	}
	fmt.Fprintf(d.out, "  %s\n", d.paint("33", clip(waits, 110)))
	d.drawn = len(bars) + 2
}

func (d *display) sayBars(what string, s rotation.Status, bars []bar, waits string) {
	said := fmt.Sprintf("%s  %-7s", what, s.State.Phase)
	for _, b := range bars {
		said += fmt.Sprintf("  %s %d/%d", b.name, b.done, b.of)
	}
	if waits != "" {
		said += "  waits: " + waits
	}
	if said != d.said {
		d.said = said
		d.line(d.stamp() + said)
	}
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// pairs shows the judgement of every pair.
func (d *display) pairs(pairs int, refused []verify.Denial) {
	if len(refused) == 0 {
		d.note("verified", fmt.Sprintf("all %d pairs of nodes accept each other, both ways round", pairs))
		return
	}
	for _, r := range refused {
		d.note("refused", fmt.Sprintf("%s by %s: %v", r.Peer.ID, r.By.ID, r.Refusal))
	}
}

// result ends a run.
func (d *display) result(r result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		d.emit("result", r)
		return
	}
	d.line("")
	for _, reason := range r.Reasons {
		d.line("  " + clip(reason, 240))
	}
	if s := r.interruption(); s != "" {
		d.line(s)
	}
	code := "32;1"
	if r.Failed > 0 {
		code = "31;1"
	}
	d.line(d.paint(code, r.line()))
}
