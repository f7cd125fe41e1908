package main

import (
	"crypto/x509"
	"fmt"
	"html"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation"
)

// timeline gathers what was in use when, and draws it: a row for each root and member, a bar for each certificate from
// when it was first seen in use to when it was replaced, labelled with its own validity; behind them the phases.
type timeline struct {
	began time.Time

	mu     sync.Mutex // guards what follows
	rows   []*row
	byName map[string]*row
	phases []span
}

type row struct {
	name string
	bars []span
}

// span is something that was so for a time.
type span struct {
	label    string
	class    int // generation of the root it belongs to, for the colour
	from, to time.Time
	id       string
}

func newTimeline(began time.Time) *timeline {
	return &timeline{began: began, byName: make(map[string]*row)}
}

// phase notes that a phase goes on.
func (t *timeline) phase(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if n := len(t.phases); n > 0 {
		t.phases[n-1].to = now
		if t.phases[n-1].label == name {
			return
		}
	}
	t.phases = append(t.phases, span{label: name, from: now, to: now})
}

// see notes what is in use.
func (t *timeline) see(s rotation.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if n := len(t.phases); n > 0 && s.State.From == 0 && s.State.Pending == nil {
		t.phases[n-1].to = now
	}
	generation := make(map[fingerprint.Key]int)
	for _, r := range s.State.Roots {
		generation[r.Key] = r.Generation
		if c, err := x509.ParseCertificate(r.Certificate); err == nil {
			t.use(fmt.Sprintf("root g%d", r.Generation), r.Key.String(), r.Generation, c.NotAfter, now)
		}
	}
	for _, m := range s.Members {
		if m.Report != nil {
			t.use(fmt.Sprintf("%s %.8s", m.Identity.Role, m.Identity.ID), m.Report.Leaf.String(), generation[m.Report.Issuer], m.Report.NotAfter, now)
		}
	}
}

func (t *timeline) use(name, id string, generation int, notAfter, now time.Time) {
	r := t.byName[name]
	if r == nil {
		r = &row{name: name}
		t.byName[name] = r
		t.rows = append(t.rows, r)
	}
	if n := len(r.bars); n > 0 && r.bars[n-1].id == id {
		r.bars[n-1].to = now
		return
	}
	if n := len(r.bars); n > 0 {
		r.bars[n-1].to = now
	}
	r.bars = append(r.bars, span{label: fmt.Sprintf("g%d, until %s", generation, notAfter.UTC().Format("2006-01-02 15:04")), class: generation, from: now, to: now, id: id})
}

// write draws into a file.
func (t *timeline) write(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := os.WriteFile(path, []byte(t.svg()), 0o644); err != nil {
		return fmt.Errorf("timeline: %w", err)
	}
	return nil
}

const (
	svgLeft, svgWidth, svgTop, svgRow = 130, 900, 56, 26
)

var (
	rootColors  = []string{"#4477aa", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#ee6677"}
	phaseColors = map[string]string{"trust": "#fff3cd", "switch": "#ffe0b3", "drop": "#f8d7da"}
)

func (t *timeline) svg() string {
	end := time.Since(t.began)
	x := func(at time.Time) float64 { return svgLeft + svgWidth*at.Sub(t.began).Seconds()/end.Seconds() }
	bottom := svgTop + svgRow*len(t.rows)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", svgLeft+svgWidth+20, bottom+40)
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for i, p := range t.phases {
		t.drawPhase(&b, p, i, x(p.from), max(x(p.to)-x(p.from), 2), bottom)
	}
	for i, r := range t.rows {
		y := svgTop + svgRow*i
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text>`+"\n", svgLeft-8, y+17, html.EscapeString(r.name))
		for _, s := range r.bars {
			drawBar(&b, s, x(s.from), max(x(s.to)-x(s.from), 2), y)
		}
	}
	for s := 0; s <= int(end.Seconds()); s++ {
		at := x(t.began.Add(time.Duration(s) * time.Second))
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#999999"/><text x="%.1f" y="%d" text-anchor="middle" fill="#444444">%d s</text>`+"\n", at, bottom+4, at, bottom+10, at, bottom+26, s)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (t *timeline) drawPhase(b *strings.Builder, p span, i int, x, width float64, bottom int) {
	color := phaseColors[p.label]
	if color == "" {
		color = "#eef2f7"
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, x, svgTop-6, width, bottom-svgTop+6, color)
	fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#666666" font-size="11">%s</text>`+"\n", x, 16+13*(i%3), html.EscapeString(p.label))
}

func drawBar(b *strings.Builder, s span, x, width float64, y int) {
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="3" fill="%s" stroke="#ffffff"><title>%s</title></rect>`, x, y+3, width, svgRow-6, rootColors[s.class%len(rootColors)], html.EscapeString(s.label))
	if width > 150 {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" fill="#ffffff" font-size="11">%s</text>`, x+6, y+17, html.EscapeString(s.label))
	}
	b.WriteString("\n")
}
