package verify

import (
	"crypto/x509"
	"encoding/binary"
)

// MaxRemembered is the bound that the tests fill.
const MaxRemembered = maxRemembered

// MaxSkew is the bound at which the tests stand.
const MaxSkew = maxSkew

// Fill makes v remember n more peers.
func (v *Verifier) Fill(n int) {
	for i := range n {
		v.memory.remember([]*x509.Certificate{{Raw: binary.BigEndian.AppendUint64(nil, uint64(i))}}, &accepted{familiar: true})
	}
}

// Remembered is how many peers v remembers.
func (v *Verifier) Remembered() int { return len(v.memory.known) }

// Collide makes every chain hash alike, as if somebody had found out how.
func (v *Verifier) Collide(a, b []*x509.Certificate) {
	v.memory.known[v.memory.place(b)] = v.memory.known[v.memory.place(a)]
}

// Forget makes v judge everybody as if for the first time.
func (v *Verifier) Forget() { clear(v.memory.known) }
