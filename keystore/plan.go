package keystore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/clusterca/clusterca/internal/durable"
)

// Change is what is to be done to one file. It shows sizes, modes and owners, never content.
type Change struct {
	Name   string
	Action string // "create", "replace" (its content), "mend" (its mode or owner alone), "remove", "prune" (its generations)
	Detail string // for people

	file  File
	found found
}

// String is the line of a plan.
func (c Change) String() string { return fmt.Sprintf("%s %s: %s", c.Action, c.Name, c.Detail) }

// Format is String under every verb, so that no content is printed.
func (c Change) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// Plan is what would be done to a folder.
type Plan struct {
	Changes []Change // in the order that was asked for; none: all is as it is to be
	Notes   []string // what is no change and must be seen: checks that this system cannot make, names one letter off
}

// String is a line for each change and note.
func (p Plan) String() string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintln(&b, c)
	}
	if len(p.Changes) == 0 {
		fmt.Fprintln(&b, "nothing to change")
	}
	for _, n := range p.Notes {
		fmt.Fprintln(&b, "note:", n)
	}
	return b.String()
}

// Plan says what must be done so that the files are as they are to be, and does nothing; others are left alone. A file
// that cannot be judged (a link, a directory, one too long) is an error. The plan of a second call after Apply is
// empty.
func (f *Folder) Plan(want ...File) (Plan, error) {
	p, err := f.plan(want)
	if err != nil {
		return Plan{}, fmt.Errorf("keystore: plan: %w", err)
	}
	return p, nil
}

func (f *Folder) plan(want []File) (Plan, error) {
	var p Plan
	for _, check := range Unchecked() {
		p.Notes = append(p.Notes, "not checked on this system: "+check)
	}
	names := map[string]bool{}
	for _, w := range want {
		if err := w.judge(); err != nil {
			return Plan{}, err
		}
		if names[w.Name] {
			return Plan{}, fmt.Errorf("%s is asked for twice", w.Name)
		}
		names[w.Name] = true
	}
	for _, w := range want {
		held, err := f.look(w.Name)
		if err != nil {
			return Plan{}, err
		}
		c, needed, err := f.change(held, w)
		if err != nil {
			return Plan{}, err
		}
		if needed {
			p.Changes = append(p.Changes, c)
		}
		if !held.there && !w.Absent {
			notes, err := f.near(w.Name, names)
			if err != nil {
				return Plan{}, err
			}
			p.Notes = append(p.Notes, notes...)
		}
	}
	return p, nil
}

// change is what a file needs. A change of the file itself prunes too.
func (f *Folder) change(h found, w File) (c Change, needed bool, err error) {
	c, needed = h.change(w)
	list, err := f.generations(w.Name)
	if over := len(list) - f.keep; err == nil && !needed && over > 0 {
		return Change{w.Name, "prune", fmt.Sprintf("%d of %d generations", over, len(list)), w, h}, true, nil
	}
	return c, needed, err
}

// change compares what stands there with what is to be.
func (h found) change(w File) (c Change, needed bool) {
	c = Change{Name: w.Name, file: w, found: h}
	kept := fmt.Sprintf("%d bytes, %s", h.size, h.access())
	switch {
	case w.Absent:
		c.Action, c.Detail = "remove", kept
		return c, h.there
	case !h.there:
		c.Action, c.Detail = "create", fmt.Sprintf("%d bytes, %s", len(w.Data), w.access())
		return c, true
	case h.sum != sha256.Sum256(w.Data):
		c.Action, c.Detail = "replace", fmt.Sprintf("%s, by %d bytes, %s", kept, len(w.Data), w.access())
		return c, true
	case !h.fits(w):
		c.Action, c.Detail = "mend", fmt.Sprintf("%s, to %s", h.access(), w.access())
		return c, true
	}
	return Change{}, false
}

func (h found) fits(w File) bool {
	uid, gid := os.Geteuid(), h.gid
	if w.Owner != nil {
		uid, gid = w.Owner.UID, w.Owner.GID
	}
	return !modesMeanSomething || h.mode == w.mode() && h.uid == uid && h.gid == gid
}

func (h found) access() string { return fmt.Sprintf("mode %04o, owner %d:%d", h.mode, h.uid, h.gid) }

// near finds names that somebody may have meant as one that is missing: another case, or one letter off.
func (f *Folder) near(name string, asked map[string]bool) (notes []string, err error) {
	entries, err := fs.ReadDir(f.tree.Root.FS(), ".")
	for _, e := range entries {
		other := e.Name()
		if !asked[other] && other != name && fileName(other) && oneEdit(strings.ToLower(other), strings.ToLower(name)) {
			notes = append(notes, fmt.Sprintf("%s is missing, and there is %s: if that is it, rename it", name, other))
		}
	}
	return notes, err
}

// Apply does what a plan says, file by file. When one of its files is not as the plan found it, the error wraps
// ErrConflict and nothing was done; else, after an error, each file is the old one or the new one, and another Plan
// says what is left.
func (f *Folder) Apply(ctx context.Context, p Plan) error {
	if err := f.apply(ctx, p); err != nil {
		return fmt.Errorf("keystore: apply: %w", err)
	}
	return nil
}

func (f *Folder) apply(ctx context.Context, p Plan) error {
	release, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	for _, c := range p.Changes {
		now, err := f.look(c.Name)
		if err != nil {
			return err
		}
		if !now.same(c.found) {
			return fmt.Errorf("%s is not as it was planned for: plan again: %w", c.Name, ErrConflict)
		}
	}
	for _, c := range p.Changes {
		if err := f.do(c); err != nil {
			return fmt.Errorf("%s %s: %w", c.Action, c.Name, err)
		}
	}
	return nil
}

func (f *Folder) do(c Change) error {
	if c.Action == "prune" {
		_, err := f.drop(c.Name, f.keep)
		return errors.Join(err, f.tree.SyncDir("."))
	}
	if err := f.put(c); err != nil {
		return err
	}
	// What a crash or a power cut leaves of these, the next plan prunes.
	_, err := f.drop(c.Name, f.keep)
	return err
}

// put keeps what it replaces or removes before it does so. A crash in between leaves a generation that is the file
// itself, which is not kept twice.
func (f *Folder) put(c Change) error {
	switch {
	case c.Action == "remove" && f.keep > 0:
		kept, next, err := f.kept(c)
		switch {
		case err != nil:
			return err
		case kept:
			return f.tree.Remove(c.Name)
		}
		return f.tree.Move(c.Name, next)
	case c.Action == "remove":
		return f.tree.Remove(c.Name)
	case c.Action == "replace" && f.keep > 0:
		if err := f.keepCopy(c); err != nil {
			return fmt.Errorf("keep what is there: %w", err)
		}
	}
	return f.tree.Put(c.Name, durable.File{Data: c.file.Data, Mode: c.file.mode(), Owner: c.file.Owner.durable()})
}

func (o *Owner) durable() *durable.Owner {
	if o == nil {
		return nil
	}
	return &durable.Owner{UID: o.UID, GID: o.GID}
}
