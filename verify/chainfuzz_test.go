package verify_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/verify"
)

// fixed is a forgery that is the same in every process, so that a corpus keeps its meaning: Ed25519 signs without chance.
func fixed(t testing.TB) (*forgery, *made) {
	f := newForgery(t)
	f.now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range []*x509.Certificate{f.root, f.link, f.leaf} {
		c.NotBefore, c.NotAfter, c.SerialNumber = f.now.Add(-time.Hour), f.now.Add(time.Hour), big.NewInt(int64(i+1))
	}
	f.rootKey, f.linkKey, f.leafKey = fixedKey(1), fixedKey(2), fixedKey(3)
	f.root.PermittedDNSDomainsCritical, f.root.PermittedDNSDomains = true, []string{"example"}
	return f, f.make()
}

func fixedKey(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = b
	return ed25519.NewKeyFromSeed(seed)
}

// signed puts a good signature under whatever body, so that what is found in it is looked at, and behind it whatever else.
func signed(body, behind []byte, key crypto.Signer) []byte {
	signature := must(key.Sign(rand.Reader, body, crypto.Hash(0)))
	algorithm := []byte{0x30, 5, 6, 3, 0x2b, 0x65, 0x70} // id-Ed25519
	content := append(append([]byte{}, body...), algorithm...)
	content = append(content, marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})...)
	return marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(content, behind...)})
}

// B101: whatever stands in a leaf and an intermediate that are well signed, the answer is a chain that the standard
// library accepts too, or one line.
func FuzzChain(f *testing.F) {
	seeds, m := fixed(f)
	roots := m.options().Roots
	f.Add(m.leaf.RawTBSCertificate, m.link.RawTBSCertificate, []byte{})
	f.Add(m.leaf.RawTBSCertificate, m.link.RawTBSCertificate, []byte{5, 0})
	f.Add(m.link.RawTBSCertificate, m.root.RawTBSCertificate, []byte{})
	g, _ := fixed(f)
	g.link.PermittedDNSDomains, g.link.ExcludedEmailAddresses = []string{".example"}, []string{"a@example"}
	g.leaf.IssuingCertificateURL, g.leaf.EmailAddresses = []string{"http://b"}, []string{"b@example"}
	strange := g.make()
	f.Add(strange.leaf.RawTBSCertificate, strange.link.RawTBSCertificate, []byte{})
	f.Fuzz(func(t *testing.T, leaf, link, behind []byte) {
		var presented []*x509.Certificate
		for _, der := range [][]byte{signed(leaf, behind, seeds.linkKey), signed(link, nil, seeds.rootKey)} {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return
			}
			presented = append(presented, c)
		}
		for _, web := range []bool{false, true} {
			o := verify.ChainOptions{Roots: roots, PublicWeb: web, AcceptUnchecked: true}
			v, err := verify.Chain(presented, o, seeds.now)
			if err != nil {
				if r, ok := err.(*verify.Refusal); !ok || r.Reason == "" || strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 2000 {
					t.Errorf("%q", err)
				}
				continue
			}
			again := &made{root: m.root, link: presented[1], leaf: presented[0]}
			if err := again.standard(seeds.now); err != nil {
				t.Errorf("accepted, and the standard library refuses: %v", err)
			}
			if len(v.Chain) < 2 || v.Chain[0] != presented[0] || !v.Chain[len(v.Chain)-1].Equal(m.root) || v.NotAfter.Before(seeds.now) || len(presented[0].AuthorityKeyId) == 0 {
				t.Errorf("accepted %d links until %v", len(v.Chain), v.NotAfter)
			}
		}
	})
}

// B101: whatever stands in a list that is well signed, a certificate that it names is not accepted.
func FuzzCRL(f *testing.F) {
	seeds, m := fixed(f)
	roots := m.options().Roots
	for _, gone := range [][]*x509.Certificate{nil, {m.link}, {m.leaf}} {
		f.Add(seeds.list(m.root, seeds.rootKey, nil, nil, gone...).RawTBSRevocationList)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		crl, err := x509.ParseRevocationList(signed(body, nil, seeds.rootKey))
		if err != nil {
			return
		}
		o := verify.ChainOptions{Roots: roots, CRLs: []*x509.RevocationList{crl}}
		if _, err := verify.Chain([]*x509.Certificate{m.link}, o, seeds.now); err != nil {
			if _, ok := err.(*verify.Refusal); !ok || strings.ContainsAny(err.Error(), "\n\r") || len(err.Error()) > 2000 {
				t.Errorf("%q", err)
			}
			return
		}
		for _, e := range crl.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(m.link.SerialNumber) == 0 {
				t.Error("accepted, and taken back")
			}
		}
	})
}
