package main

import (
	"crypto/x509"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/clusterca/clusterca/rotation"
)

// expiryLine is one certificate of the expiry table.
type expiryLine struct {
	Who      string    `json:"who"`
	What     string    `json:"what"`
	NotAfter time.Time `json:"not_after"`
}

// expiry shows when each certificate in use ends.
func (d *display) expiry(s rotation.Status) {
	lines := expiryLines(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		d.emit("expiry", lines)
		return
	}
	d.erase()
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CERTIFICATE\tOF\tENDS\tIN")
	now := time.Now()
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.What, l.Who, l.NotAfter.UTC().Format(time.DateTime), remaining(l.NotAfter.Sub(now)))
	}
	w.Flush()
}

func expiryLines(s rotation.Status) []expiryLine {
	var lines []expiryLine
	for _, r := range s.State.Roots {
		if c, err := x509.ParseCertificate(r.Certificate); err == nil {
			lines = append(lines, expiryLine{r.Key.Short(), fmt.Sprintf("root g%d", r.Generation), c.NotAfter})
		}
	}
	for _, x := range s.State.Control {
		for _, der := range x.Documents {
			if c, err := x509.ParseCertificate(der); err == nil {
				lines = append(lines, expiryLine{x.Member.ID, "document signer", c.NotAfter})
			}
		}
	}
	for _, m := range s.Members {
		lines = append(lines, expiryLine{m.Identity.ID, string(m.Identity.Role), m.NotAfter})
	}
	return lines
}

// remaining is a span as people say it.
func remaining(d time.Duration) string {
	switch {
	case d < 0:
		return "expired"
	case d < 48*time.Hour:
		return d.Round(time.Minute).String()[:len(d.Round(time.Minute).String())-2]
	case d < 2*365*24*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return fmt.Sprintf("%.1f years", d.Hours()/24/365.25)
}
