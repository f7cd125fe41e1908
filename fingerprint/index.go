package fingerprint

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math/bits"
)

// seed is random in each process: whoever chooses identities and keys cannot choose where they fall in an index, and so
// cannot make many fall together.
var seed = maphash.MakeSeed()

// index finds records by hash: open addressing with linear probing. A slot holds where a record begins, plus one, and a
// byte of the hash, so that a record is read only when it is most likely the one; 0 is an empty slot. Four fifths of the
// slots are taken at most: 6.25 bytes a record.
type index struct {
	slots []byte
	count uint64
}

const slotSize = 5

// newIndex makes an index of records by their hashes, about n, and asks clash about each two that look alike: its error
// ends all.
func newIndex(n int, hashes iter.Seq2[uint64, int], clash func(at, other int) error) (index, error) {
	sorted := byParts(n, hashes)
	count := uint64(len(sorted) + len(sorted)/4 + 1)
	x := index{make([]byte, count*slotSize), count}
	for _, h := range sorted {
		p := x.probe(h.hash)
		for other := p.next(); other >= 0; other = p.next() {
			if err := clash(int(h.begins), other); err != nil {
				return x, err
			}
		}
		p.put(int(h.begins))
	}
	return x, nil
}

type hashed struct {
	hash   uint64
	begins uint32
}

// byParts orders hashes by their first byte: a million slots filled at random are a million misses of the cache, a part
// of them fits into it.
func byParts(n int, hashes iter.Seq2[uint64, int]) []hashed {
	list := make([]hashed, 0, n)
	var ends [257]int
	for hash, begins := range hashes {
		ends[hash>>56+1]++
		list = append(list, hashed{hash, uint32(begins)})
	}
	for i := range ends[1:] {
		ends[i+1] += ends[i]
	}
	sorted := make([]hashed, len(list))
	for _, h := range list {
		place := &ends[h.hash>>56]
		sorted[*place] = h
		*place++
	}
	return sorted
}

// probe is a walk along the slots where a hash may stand.
type probe struct {
	index
	at  uint64
	tag byte
}

func (x index) probe(hash uint64) probe {
	at, _ := bits.Mul64(hash, x.count) // by the high bits; the tag is the low ones
	return probe{x, at, byte(hash)}
}

// next is where the next record begins that may be the one sought; none is left when it is negative.
func (p *probe) next() int {
	for p.count > 0 {
		slot := p.slots[p.at*slotSize:][:slotSize]
		begins := int(binary.LittleEndian.Uint32(slot)) - 1
		if begins < 0 {
			break
		}
		p.step()
		if slot[slotSize-1] == p.tag {
			return begins
		}
	}
	return -1
}

// put takes the first empty slot of the walk for the record that begins there.
func (p *probe) put(begins int) {
	slot := p.slots[p.at*slotSize:][:slotSize]
	for binary.LittleEndian.Uint32(slot) != 0 {
		p.step()
		slot = p.slots[p.at*slotSize:][:slotSize]
	}
	binary.LittleEndian.PutUint32(slot, uint32(begins)+1)
	slot[slotSize-1] = p.tag
}

func (p *probe) step() {
	if p.at++; p.at == p.count {
		p.at = 0
	}
}
