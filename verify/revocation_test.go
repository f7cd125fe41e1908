package verify_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// list makes a CRL as somebody would who does not keep to package ca.
func (f *forgery) list(issuer *x509.Certificate, key crypto.Signer, edit func(*x509.RevocationList), after func(*der), gone ...*x509.Certificate) *x509.RevocationList {
	f.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(5), ThisUpdate: f.now.Add(-time.Minute), NextUpdate: f.now.Add(time.Minute)}
	for _, c := range gone {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: f.now.Add(-time.Hour)})
	}
	if edit != nil {
		edit(template)
	}
	raw, err := x509.CreateRevocationList(rand.Reader, template, issuer, key)
	if err != nil {
		f.t.Fatal(err)
	}
	if after != nil {
		raw = f.edited(raw, key, after)
	}
	crl, err := x509.ParseRevocationList(raw)
	if err != nil {
		f.t.Fatal(err)
	}
	return crl
}

var (
	oidNumber       = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDelta        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistribution = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// A74, A75, B77: what a list does, in either configuration: without a good and current one a link is refused, or
// accepted and named. What is taken back is refused whatever the configuration says.
func TestRevocation(t *testing.T) {
	f := newForgery(t)
	m := f.make()
	if err := m.standard(f.now); err != nil { // that looks at no list, so this is its answer to every row
		t.Fatal(err)
	}
	of := func(edit func(*x509.RevocationList), after func(*der), gone ...*x509.Certificate) *x509.RevocationList {
		return f.list(m.link, f.linkKey, edit, after, gone...)
	}
	good := of(nil, nil)
	rootList := f.list(m.root, f.rootKey, nil, nil)
	stale := func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = f.now.Add(-time.Hour), f.now.Add(-time.Minute)
	}
	older := func(l *x509.RevocationList) { l.ThisUpdate = f.now.Add(-time.Hour) }
	for _, row := range []struct {
		name  string
		lists []*x509.RevocationList
		want  verify.Reason
		which string
	}{
		{"a list of each issuer", []*x509.RevocationList{good, rootList}, "accepted", ""},
		{"no list", nil, verify.NoCRL, "leaf"},
		{"none of the leaf's issuer", []*x509.RevocationList{rootList}, verify.NoCRL, "leaf"},
		{"none of the link's issuer", []*x509.RevocationList{good}, verify.NoCRL, "issuer 1"},
		{"leaf taken back", []*x509.RevocationList{of(nil, nil, m.leaf), rootList}, verify.CertificateRevoked, "leaf"},
		{"link taken back", []*x509.RevocationList{good, f.list(m.root, f.rootKey, nil, nil, m.link)}, verify.CertificateRevoked, "issuer 1"},
		{"leaf's number taken back by the root", []*x509.RevocationList{good, f.list(m.root, f.rootKey, nil, nil, m.leaf)}, "accepted", ""},
		{"ended", []*x509.RevocationList{of(stale, nil), rootList}, verify.StaleCRL, "leaf"},
		{"ended, leaf taken back", []*x509.RevocationList{of(stale, nil, m.leaf), rootList}, verify.CertificateRevoked, "leaf"},
		{"leaf on hold, then not", []*x509.RevocationList{of(older, nil, m.leaf), good, rootList}, "accepted", ""},
		{"leaf not taken back, then taken back", []*x509.RevocationList{of(nil, nil, m.leaf), of(older, nil), rootList}, verify.CertificateRevoked, "leaf"},
		{"not begun", []*x509.RevocationList{of(func(l *x509.RevocationList) { l.ThisUpdate = f.now.Add(time.Second) }, nil), rootList}, verify.MalformedCRL, "leaf"},
		{"without an end", []*x509.RevocationList{of(nil, func(d *der) { d.body = slices.Delete(d.body, 4, 5) }), rootList}, verify.MalformedCRL, "leaf"},
		{"without a number", []*x509.RevocationList{of(nil, without(oidNumber)), rootList}, verify.MalformedCRL, "leaf"},
		{"without a key identifier", []*x509.RevocationList{of(nil, without(oidAKI)), rootList}, verify.MalformedCRL, "leaf"},
		{"of another key of the same name", []*x509.RevocationList{f.list(m.link, f.rootKey, nil, nil), rootList}, verify.MalformedCRL, "leaf"},
		{"number critical", []*x509.RevocationList{of(nil, add(oidNumber, true, 2, 1, 5)), rootList}, verify.MalformedCRL, "leaf"},
		{"changes only", []*x509.RevocationList{of(nil, add(oidDelta, true, 2, 1, 1)), rootList}, verify.MalformedCRL, "leaf"},
		{"of a part only", []*x509.RevocationList{of(nil, add(oidDistribution, true, 0x30, 3, 0x81, 1, 0xff)), rootList}, verify.MalformedCRL, "leaf"},
		{"over SHA-1", []*x509.RevocationList{of(func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.ECDSAWithSHA1 }, nil), rootList}, verify.MalformedCRL, "leaf"},
		{"an entry of another issuer", []*x509.RevocationList{of(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{certificateIssuer}
		}, nil, m.link), rootList}, verify.MalformedCRL, "leaf"},
		{"a bad one and a good one", []*x509.RevocationList{of(nil, without(oidNumber)), good, nil, rootList}, "accepted", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := m.options()
			o.CRLs, o.AcceptUnchecked = row.lists, false
			v, err := verify.Chain(m.presented(), o, f.now)
			if reason(err) != row.want {
				t.Fatalf("%v, want %s", err, row.want)
			}
			if r, ok := err.(*verify.Refusal); ok && r.Certificate != row.which {
				t.Errorf("%v, want it to be about %s", err, row.which)
			}
			if err == nil && (!v.NotAfter.Equal(f.now.Add(time.Minute)) || len(v.Unchecked) != 0) {
				t.Errorf("good until %v, unchecked %v; want the end of the lists, and none", v.NotAfter, v.Unchecked)
			}
			o.AcceptUnchecked = true
			v, err = verify.Chain(m.presented(), o, f.now)
			switch {
			case row.want == verify.CertificateRevoked:
				if reason(err) != row.want {
					t.Errorf("although unchecked is accepted: %v, want %s", err, row.want)
				}
			case err != nil:
				t.Errorf("although unchecked is accepted: %v", err)
			case row.want != "accepted" && (len(v.Unchecked) == 0 || v.Unchecked[0].Reason != row.want || v.Unchecked[0].Certificate != row.which):
				t.Errorf("unchecked %v, want %s of %s", v.Unchecked, row.want, row.which)
			}
		})
	}
}

// certificateIssuer says that an entry is not about the list's own issuer (RFC 5280 §5.3.3).
var certificateIssuer = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}

// B77: a CA that may not sign lists signs none, even if it does.
func TestListOfWhoMayNot(t *testing.T) {
	f := newForgery(t)
	may := *f.link
	may.SubjectKeyId, may.RawSubject = f.link.SubjectKeyId, marshal(f.link.Subject.ToRDNSequence())
	f.link.KeyUsage = x509.KeyUsageCertSign
	m := f.make()
	o := m.options()
	o.CRLs, o.AcceptUnchecked = []*x509.RevocationList{f.list(&may, f.linkKey, nil, nil), f.list(m.root, f.rootKey, nil, nil)}, false
	if _, err := verify.Chain(m.presented(), o, f.now); reason(err) != verify.MalformedCRL {
		t.Errorf("%v, want %s", err, verify.MalformedCRL)
	}
}

// A74, B76, B77: a list that our own authority makes is one that a chain is judged by.
func TestOwnListRevokes(t *testing.T) {
	w := newWorld(t, 1)
	gone := w.issue(1, w.member(fingerprint.Node, "a"), newKey(t, keystore.P256), w.now)
	stays := w.issue(1, w.member(fingerprint.Node, "b"), newKey(t, keystore.P256), w.now)
	crl, err := w.roots[0].CRL(ca.CRLRequest{Number: 2, Revoked: []x509.RevocationListEntry{{SerialNumber: gone.SerialNumber, RevocationTime: w.now}}, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	before, err := w.roots[0].CRL(ca.CRLRequest{Number: 1, Now: w.now}) // of the same second
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.roots[0].Certificate())
	for leaf, want := range map[*x509.Certificate]verify.Reason{gone: verify.CertificateRevoked, stays: "accepted"} {
		for _, crls := range [][]*x509.RevocationList{{crl}, {before, crl}, {crl, before}} {
			if _, err := verify.Chain([]*x509.Certificate{leaf}, verify.ChainOptions{Roots: roots, CRLs: crls}, w.now); reason(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

// A111: everything that our own CA makes is a chain by the strictest reading: each role, through the bridge of a
// rollover too.
func TestOwnChains(t *testing.T) {
	w := newWorld(t, 2)
	old := x509.NewCertPool()
	old.AddCert(w.roots[0].Certificate())
	for role, usage := range map[fingerprint.Role]x509.ExtKeyUsage{
		fingerprint.Control: x509.ExtKeyUsageServerAuth, fingerprint.Node: x509.ExtKeyUsageServerAuth, fingerprint.User: x509.ExtKeyUsageClientAuth,
	} {
		leaf := w.issue(2, w.member(role, "a"), newKey(t, keystore.P256), w.now)
		o := verify.ChainOptions{Roots: old, Usages: []x509.ExtKeyUsage{usage}, AcceptUnchecked: true}
		if _, err := verify.Chain([]*x509.Certificate{leaf, w.bridges[0]}, o, w.now); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}
