package fingerprint

import (
	"maps"
	"slices"
	"sort"
)

// place is where an entry goes: instead of the records from one offset to the other, which is one record or none.
type place struct {
	member   Identity
	entry    *Entry // nil: the record goes
	from, to int
}

func (r *Registry) place(id Identity, e *Entry) place {
	_, at := r.find(id)
	if at < 0 {
		at = r.before(id)
		return place{id, e, at, at}
	}
	_, end := r.read(at)
	return place{id, e, at, end}
}

// before is where the first record begins that comes after id, which has none.
func (p *packed) before(id Identity) int {
	after := func(at int) bool {
		rec, _ := p.read(at)
		return p.identity(rec).Compare(id) > 0
	}
	n := sort.Search(len(p.blocks), func(n int) bool { return after(int(p.blocks[n])) })
	if n == 0 {
		return 0
	}
	at := int(p.blocks[n-1])
	for at < len(p.records) && !after(at) {
		_, at = p.read(at)
	}
	return at
}

// merge copies the records in one pass and puts entries in their places, which are sorted by member. What lies between
// two places is copied as it is.
func (r *Registry) merge(v Version, places []place) (*Registry, error) {
	return r.mergeCut(v, places, r.cutoffs)
}

// mergeCut is merge with other cut-offs of roles.
func (r *Registry) mergeCut(v Version, places []place, cutoffs [len(roles)]int64) (*Registry, error) {
	b := r.merged(places, cutoffs)
	if err := countable(b.count); err != nil {
		return nil, err
	}
	return b.registry(v, b.digestText())
}

func (r *Registry) merged(places []place, cutoffs [len(roles)]int64) *builder {
	b := r.builder(min(len(places), maxEntries))
	b.cutoffs = cutoffs
	at := 0
	for _, p := range places {
		b.copy(&r.packed, at, p.from)
		if at = p.to; p.entry != nil {
			b.add(p.entry)
		}
	}
	b.copy(&r.packed, at, len(r.records))
	return b
}

// builder makes one for what follows r, with more records about.
func (r *Registry) builder(more int) *builder {
	b := newBuilder(0)
	b.records = make([]byte, 0, len(r.records)+more*(2+uuidSize+sumSize))
	b.cutoffs, b.kinds = r.cutoffs, slices.Clone(r.kinds)
	maps.Copy(b.kindOf, r.kindOf)
	return b
}

// copy takes over the records from one offset to the other.
func (b *builder) copy(p *packed, from, to int) {
	shift := len(b.records) - from
	b.records = append(b.records, p.records[from:to]...)
	for at := from; at < to; b.count++ {
		if b.count%block == 0 {
			b.blocks = append(b.blocks, uint32(at+shift))
		}
		_, at = p.read(at)
	}
}
