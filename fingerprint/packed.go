package fingerprint

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"time"
)

// packed holds entries as a million of them need it: in order of member, in one piece of memory without pointers, which
// the garbage collector passes over. A record is
//
//	flags, kind (uvarint), id, current key [, next key] [, void before] [, forget after] [, pin] [, next pin]
//
// where an id is 16 bytes for a UUID, otherwise a length byte and the bytes, and a time is 8 bytes of Unix seconds.
type packed struct {
	kinds   []kind // what members of one domain and role share: a record has its number
	records []byte
	blocks  []uint32 // where each blockth record begins
	count   int
	cutoffs [len(roles)]int64 // of each role, in Unix seconds; 0 where there is none
}

// roles in the order of their text.
var roles = [...]Role{Control, Node, User}

// cutoff is that of a role, in Unix seconds.
func (p *packed) cutoff(role Role) int64 {
	for n := range roles {
		if roles[n] == role {
			return p.cutoffs[n]
		}
	}
	return 0
}

// kind is a trust domain with a role, and how the text form of its members begins.
type kind struct {
	domain string
	role   Role
	prefix string
}

// block is how many records are walked over to find a place by order, at most: 4/block bytes an entry.
const block = 64

// Flags of a record. Those from hasNext on say which of the optional fields it has, in their order.
const (
	isPrivileged = 1 << iota
	isRevoked
	isUUID
	hasNext
	hasVoid
	hasForget
	hasPin
	hasNextPin
)

const (
	sumSize  = len(Key{})
	timeSize = 8
	uuidSize = 16
)

// fieldsSize is how many bytes the keys, times and pins of a record have, by its flags.
var fieldsSize = func() (size [256]uint8) {
	optional := map[int]int{hasNext: sumSize, hasVoid: timeSize, hasForget: timeSize, hasPin: sumSize, hasNextPin: sumSize}
	for flags := range size {
		n := sumSize
		for flag, width := range optional {
			if flags&flag != 0 {
				n += width
			}
		}
		size[flags] = uint8(n)
	}
	return size
}()

// record is one entry in place; id and fields are parts of packed.records and are never changed.
type record struct {
	flags  byte
	kind   uint32
	id     []byte
	fields []byte // from the current key on
}

// read reads the record that begins at the offset, and says where the next one does.
func (p *packed) read(at int) (record, int) {
	b := p.records
	r := record{flags: b[at], kind: uint32(b[at+1])}
	at += 2
	if r.kind >= 0x80 {
		number, width := binary.Uvarint(b[at-1:])
		r.kind = uint32(number)
		at += width - 1
	}
	size := uuidSize
	if r.flags&isUUID == 0 {
		size = int(b[at])
		at++
	}
	end := at + size + int(fieldsSize[r.flags])
	r.id, r.fields = b[at:at+size], b[at+size:end]
	return r, end
}

// all yields the records with where they begin.
func (p *packed) all() iter.Seq2[int, record] {
	return func(yield func(int, record) bool) {
		for at := 0; at < len(p.records); {
			r, end := p.read(at)
			if !yield(at, r) {
				return
			}
			at = end
		}
	}
}

// field is an optional field, nil when the record lacks it.
func (r record) field(flag byte) []byte {
	if r.flags&flag == 0 {
		return nil
	}
	size := sumSize
	if flag == hasVoid || flag == hasForget {
		size = timeSize
	}
	from := fieldsSize[r.flags&(flag-1)] // what stands before it
	return r.fields[from : int(from)+size]
}

// seconds is a time field, in Unix seconds; 0 when the record lacks it.
func (r record) seconds(flag byte) int64 {
	if b := r.field(flag); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r record) time(flag byte) time.Time {
	if s := r.seconds(flag); s != 0 {
		return time.Unix(s, 0).UTC()
	}
	return time.Time{}
}

// pinned reports whether the record's pins, if it has any, allow a certificate.
func (r record) pinned(leaf *Certificate) bool {
	return r.flags&hasPin == 0 || bytes.Equal(r.field(hasPin), leaf[:]) || bytes.Equal(r.field(hasNextPin), leaf[:])
}

func (r record) current() []byte { return r.fields[:sumSize] }

// has reports whether k is the current or the next key.
func (r record) has(k []byte) bool {
	return bytes.Equal(r.current(), k) || r.flags&hasNext != 0 && bytes.Equal(r.fields[sumSize:2*sumSize], k)
}

func (p *packed) identity(r record) Identity {
	k := &p.kinds[r.kind]
	if r.flags&isUUID != 0 {
		return Identity{k.domain, k.role, string(appendUUID(nil, r.id))}
	}
	return Identity{k.domain, k.role, string(r.id)}
}

func (p *packed) entry(r record) Entry {
	e := Entry{
		Member: p.identity(r), Current: Key(r.current()),
		Privileged: r.flags&isPrivileged != 0, Revoked: r.flags&isRevoked != 0,
	}
	copy(e.Next[:], r.field(hasNext))
	copy(e.Pin[:], r.field(hasPin))
	copy(e.NextPin[:], r.field(hasNextPin))
	e.VoidBefore, e.ForgetAfter = r.time(hasVoid), r.time(hasForget)
	return e
}

// sought is a member as records have it.
type sought struct {
	kind uint32
	uuid [uuidSize]byte
	id   string // unless it is a UUID
}

func (r *Registry) sought(id Identity) (s sought, ok bool) {
	if s.kind, ok = r.kindOf[kind{domain: id.Domain, role: id.Role}]; !ok {
		return s, false
	}
	if !parseUUID(s.uuid[:], id.ID) {
		s.id = id.ID
	}
	return s, id.ID != "" // an empty one here means a UUID
}

func (s *sought) is(r record) bool {
	if r.kind != s.kind || (r.flags&isUUID != 0) != (s.id == "") {
		return false
	}
	if s.id == "" {
		return [uuidSize]byte(r.id) == s.uuid
	}
	return string(r.id) == s.id
}

func (s *sought) hash() uint64 {
	if s.id == "" {
		return mix(maphash.Bytes(seed, s.uuid[:]), s.kind)
	}
	return mix(maphash.String(seed, s.id), s.kind)
}

func (r record) hash() uint64 { return mix(maphash.Bytes(seed, r.id), r.kind) }

// mix tells members of one id and different kinds apart.
func mix(hash uint64, kind uint32) uint64 { return hash ^ uint64(kind)*0x9e3779b97f4a7c15 }
