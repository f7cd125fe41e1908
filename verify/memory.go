package verify

import (
	"bytes"
	"crypto/x509"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// memory is whom a verifier accepted, by everything that was presented, byte for byte: a leaf that was accepted with
// some certificates beside it says nothing of the same leaf with others. The hash only finds the place; no decision
// rests on it. State and registry are the verifier's own, so another state is another memory.
type memory struct {
	seed maphash.Seed

	mu    sync.RWMutex
	known map[uint64]*accepted // guarded by mu
}

// accepted is what there is to remember of a peer: all that does not change with time, side and expectation.
type accepted struct {
	presented [][]byte // DER
	peer      Peer
	notBefore time.Time // the last on the chain to begin
	sides     sides
	familiar  bool // every certificate is one that this cluster's CA signed: see remember
}

// sides are the parts that a peer may play.
type sides struct{ client, server bool }

func (s sides) has(side Side) bool {
	return side == Client && s.client || side == Server && s.server
}

// good looks at what does change.
func (a *accepted) good(side Side, now time.Time) bool {
	return a != nil && a.sides.has(side) && !now.Before(a.notBefore) && !now.After(a.peer.NotAfter)
}

func newMemory() memory {
	return memory{seed: maphash.MakeSeed(), known: make(map[uint64]*accepted)}
}

func (m *memory) place(presented []*x509.Certificate) uint64 {
	var sum uint64
	for _, c := range presented {
		sum = sum*31 + maphash.Bytes(m.seed, c.Raw)
	}
	return sum
}

// recall returns what is remembered of exactly these certificates in this order, or nil.
func (m *memory) recall(presented []*x509.Certificate) *accepted {
	place := m.place(presented)
	m.mu.RLock()
	a := m.known[place]
	m.mu.RUnlock()
	if a == nil || !slices.EqualFunc(a.presented, presented, func(der []byte, c *x509.Certificate) bool { return bytes.Equal(der, c.Raw) }) {
		return nil
	}
	return a
}

// remember makes room by forgetting somebody at random: whoever is forgotten costs one signature check. A chain with
// strange certificates beside it is good, and not remembered: in a handshake peers are judged before they have
// shown that they hold the leaf's key, so anybody could fill the memory with a leaf that he saw and junk behind it.
func (m *memory) remember(presented []*x509.Certificate, a *accepted) {
	size := 0
	for _, c := range presented {
		size += len(c.Raw)
	}
	if !a.familiar || size > maxRememberedChain {
		return
	}
	for _, c := range presented {
		a.presented = append(a.presented, bytes.Clone(c.Raw))
	}
	place := m.place(presented)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxRemembered && m.known[place] == nil {
		for other := range m.known {
			delete(m.known, other)
			break
		}
	}
	m.known[place] = a
}
