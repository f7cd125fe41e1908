package fingerprint

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// builder packs entries one after another, in order of member.
type builder struct {
	packed
	kindOf map[kind]uint32 // by domain and role alone
}

// newBuilder expects n entries.
func newBuilder(n int) *builder {
	usual := 2 + uuidSize + sumSize
	return &builder{kindOf: make(map[kind]uint32), packed: packed{
		records: make([]byte, 0, n*usual), blocks: make([]uint32, 0, (n+block-1)/block),
	}}
}

func (b *builder) kind(domain string, role Role) uint32 {
	k := kind{domain: domain, role: role}
	n, ok := b.kindOf[k]
	if !ok {
		n = uint32(len(b.kinds))
		b.kindOf[k] = n
		k.prefix = scheme + domain + "/" + string(role) + "/"
		b.kinds = append(b.kinds, k)
	}
	return n
}

// begin opens the next record; its id and its fields are appended to records by whoever has them.
func (b *builder) begin(flags byte, kind uint32) {
	if b.count%block == 0 {
		b.blocks = append(b.blocks, uint32(len(b.records)))
	}
	b.count++
	b.records = append(b.records, flags)
	b.records = binary.AppendUvarint(b.records, uint64(kind))
}

func (b *builder) add(e *Entry) {
	flags := flagsOf(e)
	b.beginID(flags, b.kind(e.Member.Domain, e.Member.Role), e.Member.ID)
	b.records = append(b.records, e.Current[:]...)
	if flags&hasNext != 0 {
		b.records = append(b.records, e.Next[:]...)
	}
	if flags&hasVoid != 0 {
		b.time(e.VoidBefore)
	}
	if flags&hasForget != 0 {
		b.time(e.ForgetAfter)
	}
	if flags&hasPin != 0 {
		b.records = append(b.records, e.Pin[:]...)
	}
	if flags&hasNextPin != 0 {
		b.records = append(b.records, e.NextPin[:]...)
	}
}

func (b *builder) time(t time.Time) {
	b.records = binary.BigEndian.AppendUint64(b.records, uint64(t.Unix()))
}

// cut takes a role's cut-off up.
func (b *builder) cut(c Cutoff) error {
	n := slices.Index(roles[:], c.Role)
	switch {
	case n < 0:
		return fmt.Errorf("fingerprint: cut-off of role %q, which is none of control, node, user", c.Role)
	case b.cutoffs[n] != 0:
		return fmt.Errorf("fingerprint: cut-off of role %q: %w", c.Role, ErrDuplicate)
	case !writable(c.Before):
		return fmt.Errorf("fingerprint: cut-off of role %q is not a whole second between 1970 and 9999", c.Role)
	}
	b.cutoffs[n] = c.Before.Unix()
	return nil
}

// beginID opens the next record and writes its id.
func (b *builder) beginID(flags byte, kind uint32, id string) {
	var uuid [uuidSize]byte
	if parseUUID(uuid[:], id) {
		b.begin(flags|isUUID, kind)
		b.records = append(b.records, uuid[:]...)
		return
	}
	b.begin(flags, kind)
	b.records = append(b.records, byte(len(id)))
	b.records = append(b.records, id...)
}

func flagsOf(e *Entry) (flags byte) {
	set := func(flag byte, yes bool) {
		if yes {
			flags |= flag
		}
	}
	set(isPrivileged, e.Privileged)
	set(isRevoked, e.Revoked)
	set(hasNext, !e.Next.IsZero())
	set(hasVoid, !e.VoidBefore.IsZero())
	set(hasForget, !e.ForgetAfter.IsZero())
	set(hasPin, !e.Pin.IsZero())
	set(hasNextPin, !e.NextPin.IsZero())
	return flags
}

// done gives what was packed, without the room that was not needed.
func (b *builder) done() packed {
	if cap(b.records)-len(b.records) > len(b.records)/16 {
		b.records = append(make([]byte, 0, len(b.records)), b.records...)
	}
	b.blocks = slices.Clip(b.blocks)
	return b.packed
}
