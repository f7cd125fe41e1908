package verify_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// forgery is a chain of root, link and leaf as somebody would make it who does not keep to package ca: templates first,
// then what no template can say.
type forgery struct {
	t                         testing.TB
	now                       time.Time
	root, link, leaf          *x509.Certificate
	rootKey, linkKey, leafKey crypto.Signer
	after                     map[*x509.Certificate]func(*der) // edits of what was encoded, by template
}

func newForgery(t testing.TB) *forgery {
	now := time.Now().UTC().Truncate(time.Second)
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	}
	authority := func(name string) *x509.Certificate {
		c := template(name)
		c.IsCA, c.KeyUsage, c.SubjectKeyId = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, []byte(name)
		return c
	}
	f := &forgery{t: t, now: now, root: authority("the root"), link: authority("link"), leaf: template("a.example"),
		rootKey: newKey(t, keystore.P256), linkKey: newKey(t, keystore.P256), leafKey: newKey(t, keystore.P256), after: make(map[*x509.Certificate]func(*der))}
	f.leaf.KeyUsage, f.leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	f.leaf.DNSNames = []string{"a.example"}
	return f
}

// made is what came out.
type made struct {
	root, link, leaf *x509.Certificate
	linkKey, rootKey crypto.Signer
}

func (f *forgery) make() *made {
	f.t.Helper()
	m := &made{linkKey: f.linkKey, rootKey: f.rootKey}
	m.root = f.sign(f.root, f.root, f.rootKey.Public(), f.rootKey)
	m.link = f.sign(f.link, m.root, f.linkKey.Public(), f.rootKey)
	m.leaf = f.sign(f.leaf, m.link, f.leafKey.Public(), f.linkKey)
	return m
}

func (f *forgery) sign(template, issuer *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	f.t.Helper()
	parent := *issuer
	if parent.SubjectKeyId == nil { // a row took it away; the child names it all the same
		parent.SubjectKeyId = []byte(parent.Subject.CommonName)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, &parent, public, key)
	if err != nil {
		f.t.Fatal(err)
	}
	if edit := f.after[template]; edit != nil {
		raw = f.edited(raw, key, edit)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// der is a certificate or a CRL taken apart.
type der struct {
	body       []asn1.RawValue // of the TBS, less the extensions
	extensions []pkix.Extension
	behind     []asn1.RawValue // after the extensions
	outer      []asn1.RawValue // after the signature
}

func (f *forgery) edited(raw []byte, key crypto.Signer, edit func(*der)) []byte {
	var outer, body []asn1.RawValue
	f.unmarshal(raw, &outer)
	f.unmarshal(outer[0].FullBytes, &body)
	d := &der{body: body[:len(body)-1]}
	f.unmarshal(body[len(body)-1].Bytes, &d.extensions)
	edit(d)
	var list asn1.RawValue
	if d.extensions != nil {
		f.unmarshal(marshal(d.extensions), &list)
		d.body = append(d.body, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: body[len(body)-1].Tag, IsCompound: true, Bytes: list.FullBytes})
	}
	tbs := marshal(append(d.body, d.behind...))
	digest := sha256.Sum256(tbs)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		f.t.Fatal(err)
	}
	return marshal(append([]asn1.RawValue{{FullBytes: tbs}, outer[1], {FullBytes: marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})}}, d.outer...))
}

func (f *forgery) unmarshal(b []byte, v any) {
	f.t.Helper()
	if rest, err := asn1.Unmarshal(b, v); err != nil || len(rest) > 0 {
		f.t.Fatal(err, len(rest))
	}
}

func marshal(v any) []byte { return must(asn1.Marshal(v)) }

// The extensions that the rows edit.
var (
	oidSKI = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKU  = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBC  = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNC  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAKI = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidPC  = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidEKU = asn1.ObjectIdentifier{2, 5, 29, 37}
)

func without(id asn1.ObjectIdentifier) func(*der) {
	return func(d *der) {
		d.extensions = slices.DeleteFunc(d.extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
	}
}

func change(id asn1.ObjectIdentifier, edit func(*pkix.Extension)) func(*der) {
	return func(d *der) {
		i := slices.IndexFunc(d.extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
		edit(&d.extensions[i])
	}
}

func notCritical(id asn1.ObjectIdentifier) func(*der) {
	return change(id, func(e *pkix.Extension) { e.Critical = false })
}

func add(id asn1.ObjectIdentifier, critical bool, value ...byte) func(*der) {
	return func(d *der) {
		d.extensions = append(d.extensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

var null = asn1.RawValue{FullBytes: []byte{5, 0}}

func names(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("n%d.example", i))
	}
	return list
}

// standard is what the standard library says of the same chain.
func (m *made) standard(now time.Time) error {
	roots, links := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(m.root)
	links.AddCert(m.link)
	_, err := m.leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: links, CurrentTime: now})
	return err
}

func (m *made) presented() []*x509.Certificate { return []*x509.Certificate{m.leaf, m.link} }

func (m *made) options() verify.ChainOptions {
	roots := x509.NewCertPool()
	roots.AddCert(m.root)
	return verify.ChainOptions{Roots: roots, AcceptUnchecked: true}
}

// dsaKey is a SubjectPublicKeyInfo of DSA with numbers that parse.
func dsaKey() []byte {
	n := big.NewInt(23)
	type parameters struct{ P, Q, G *big.Int }
	return marshal(struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters parameters
		}
		Key asn1.BitString
	}{struct {
		ID         asn1.ObjectIdentifier
		Parameters parameters
	}{asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, parameters{n, big.NewInt(11), big.NewInt(4)}}, asn1.BitString{Bytes: marshal(big.NewInt(8)), BitLength: 24}})
}

// A111, A112: what x509.Certificate.Verify lets through, one row for each, the standard library's own answer beside
// ours: it accepts every one of these chains.
func TestWhatVerifyLetsThrough(t *testing.T) {
	const accepted = verify.Reason("accepted")
	for _, row := range []struct {
		name  string
		edit  func(*forgery)
		want  verify.Reason
		which string
		field string
	}{
		{"nothing wrong", func(*forgery) {}, accepted, "", ""},

		// Key identifiers.
		{"leaf names no issuer's key", func(f *forgery) { f.after[f.leaf] = without(oidAKI) }, verify.MalformedLeaf, "leaf", "authority key identifier"},
		{"link names no issuer's key", func(f *forgery) { f.after[f.link] = without(oidAKI) }, verify.MalformedIssuer, "issuer 1", "authority key identifier"},
		{"link names no key of its own", func(f *forgery) { f.after[f.link] = without(oidSKI) }, verify.MalformedIssuer, "issuer 1", "subject key identifier"},
		{"root names no key of its own", func(f *forgery) { f.after[f.root] = without(oidSKI) }, verify.MalformedIssuer, "issuer 2", "subject key identifier"},
		{"root names another key as its issuer's", func(f *forgery) { f.after[f.root] = add(oidAKI, false, 0x30, 3, 0x80, 1, 'x') }, verify.MalformedIssuer, "issuer 2", "authority key identifier"},
		{"leaf names another key than the link's", func(f *forgery) {
			f.after[f.leaf] = change(oidAKI, func(e *pkix.Extension) { e.Value = []byte{0x30, 3, 0x80, 1, 'x'} })
		}, verify.UnknownIssuer, "issuer 1", "subject key identifier"},

		// Form.
		{"root's basic constraints not critical", func(f *forgery) { f.after[f.root] = notCritical(oidBC) }, verify.MalformedIssuer, "issuer 2", "basic constraints"},
		{"extended key usage empty", func(f *forgery) { f.leaf.ExtKeyUsage = nil; f.after[f.leaf] = add(oidEKU, false, 0x30, 0) }, verify.MalformedLeaf, "leaf", "extended key usage"},
		{"names not critical under an empty subject", func(f *forgery) { f.leaf.Subject = pkix.Name{}; f.after[f.leaf] = notCritical(oidSAN) }, verify.MalformedLeaf, "leaf", "subject alternative name"},
		{"name constraints in a leaf", func(f *forgery) {
			f.after[f.leaf] = add(oidNC, true, 0x30, 9, 0xa0, 7, 0x30, 5, 0x82, 3, 'c', 'o', 'm')
		}, verify.MalformedLeaf, "leaf", "name constraints"},
		{"constraint with a leading dot", func(f *forgery) {
			f.link.PermittedDNSDomainsCritical, f.link.PermittedDNSDomains = true, []string{".example"}
		}, verify.MalformedIssuer, "issuer 1", "name constraints"},
		{"name constraints not critical", func(f *forgery) { f.link.PermittedDNSDomains = []string{"example"} }, verify.MalformedIssuer, "issuer 1", "name constraints"},
		{"underscore in a DNS name", func(f *forgery) { f.leaf.DNSNames = []string{"a_b.example"} }, verify.MalformedLeaf, "leaf", "subject alternative name"},
		{"link without a subject", func(f *forgery) { f.link.Subject = pkix.Name{} }, verify.MalformedLeaf, "leaf", "issuer"},
		{"leaf that is a CA without a subject", func(f *forgery) {
			f.leaf.Subject, f.leaf.IsCA, f.leaf.KeyUsage = pkix.Name{}, true, x509.KeyUsageCertSign
		}, verify.MalformedLeaf, "leaf", "subject"},
		{"link with key usage, but none", func(f *forgery) { f.link.KeyUsage = 0; f.after[f.link] = add(oidKU, true, 3, 1, 0) }, verify.MalformedIssuer, "issuer 1", "key usage"},
		{"leaf that is a CA without keyCertSign", func(f *forgery) { f.leaf.IsCA = true }, verify.MalformedLeaf, "leaf", "key usage"},
		{"keyCertSign on a leaf", func(f *forgery) { f.leaf.KeyUsage |= x509.KeyUsageCertSign }, verify.MalformedLeaf, "leaf", "key usage"},

		// Serial numbers and keys.
		{"serial number zero", func(f *forgery) {
			f.after[f.leaf] = func(d *der) { d.body[1] = asn1.RawValue{FullBytes: []byte{2, 1, 0}} }
		}, verify.MalformedLeaf, "leaf", "serial number"},
		{"serial number of 21 octets", func(f *forgery) {
			f.after[f.leaf] = func(d *der) {
				d.body[1] = asn1.RawValue{FullBytes: marshal(new(big.Int).Lsh(big.NewInt(1), 160))}
			}
		}, verify.MalformedLeaf, "leaf", "serial number"},
		{"RSA of 1024 bits", func(f *forgery) { f.leafKey = must(rsa.GenerateKey(rand.Reader, 1024)) }, verify.WeakKey, "leaf", "public key"},
		{"RSA not of whole bytes", func(f *forgery) { f.leafKey = must(rsa.GenerateKey(rand.Reader, 2050)) }, verify.WeakKey, "leaf", "public key"},
		{"P-224", func(f *forgery) { f.leafKey = must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) }, verify.WeakKey, "leaf", "public key"},
		{"X25519", func(f *forgery) {
			spki := must(x509.MarshalPKIXPublicKey(must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()))
			f.after[f.leaf] = func(d *der) { d.body[6] = asn1.RawValue{FullBytes: spki} }
		}, verify.WeakKey, "leaf", "public key"},
		{"DSA", func(f *forgery) { f.after[f.leaf] = func(d *der) { d.body[6] = asn1.RawValue{FullBytes: dsaKey()} } }, verify.WeakKey, "leaf", "public key"},
		{"root's RSA of 1024 bits", func(f *forgery) { f.rootKey = must(rsa.GenerateKey(rand.Reader, 1024)) }, verify.WeakKey, "issuer 2", "public key"},

		// Work.
		{"1,100 names under 1,000 constraints", func(f *forgery) {
			f.leaf.DNSNames, f.link.PermittedDNSDomainsCritical, f.link.ExcludedDNSDomains = names(1100), true, names(3000)[2000:]
		}, verify.TooMuchWork, "chain", "name constraints"},
		{"3,000 names under 10 constraints", func(f *forgery) {
			f.leaf.DNSNames, f.link.PermittedDNSDomainsCritical, f.link.ExcludedDNSDomains = names(3000), true, names(3010)[3000:]
		}, accepted, "", ""},

		// Encoding: what the parser reads past.
		{"data after an extension's value", func(f *forgery) {
			f.after[f.leaf] = change(oidSAN, func(e *pkix.Extension) { e.Value = append(e.Value, 5, 0) })
		}, verify.MalformedLeaf, "leaf", "extension 2.5.29.17"},
		{"data inside basic constraints", func(f *forgery) {
			f.after[f.link] = change(oidBC, func(e *pkix.Extension) { e.Value = []byte{0x30, 8, 1, 1, 0xff, 2, 1, 3, 5, 0} })
		}, verify.MalformedIssuer, "issuer 1", "basic constraints"},
		{"an element behind the extensions", func(f *forgery) { f.after[f.leaf] = func(d *der) { d.behind = append(d.behind, null) } }, verify.MalformedLeaf, "leaf", "encoding"},
		{"an element behind the signature", func(f *forgery) { f.after[f.leaf] = func(d *der) { d.outer = append(d.outer, null) } }, verify.MalformedLeaf, "leaf", "encoding"},
		{"version 2 with extensions", func(f *forgery) {
			f.after[f.leaf] = func(d *der) { d.body[0] = asn1.RawValue{FullBytes: []byte{0xa0, 3, 2, 1, 1}} }
		}, verify.MalformedLeaf, "leaf", "version"},
		{"version 1 with extensions", func(f *forgery) { f.after[f.leaf] = func(d *der) { d.body = d.body[1:] } }, verify.MalformedLeaf, "leaf", "version"},
		{"empty list of extensions", func(f *forgery) { f.after[f.leaf] = func(d *der) { d.extensions = []pkix.Extension{} } }, verify.MalformedLeaf, "leaf", "extensions"},
		{"an extension with data behind its value", func(f *forgery) {
			f.after[f.leaf] = func(d *der) {
				d.extensions, d.behind = nil, []asn1.RawValue{{FullBytes: []byte{0xa3, 14, 0x30, 12, 0x30, 10, 6, 2, 0x2a, 3, 4, 2, 5, 0, 5, 0}}}
			}
		}, verify.MalformedLeaf, "leaf", "extensions"},
		{"an extension with two values", func(f *forgery) {
			f.after[f.leaf] = func(d *der) {
				d.extensions, d.behind = nil, []asn1.RawValue{{FullBytes: []byte{0xa3, 16, 0x30, 14, 0x30, 12, 6, 2, 0x2a, 3, 4, 2, 5, 0, 4, 2, 5, 0}}}
			}
		}, verify.MalformedLeaf, "leaf", "extensions"},
		{"dates without seconds", func(f *forgery) {
			f.after[f.leaf] = func(d *der) {
				minute := func(at time.Time) asn1.RawValue {
					return asn1.RawValue{Tag: asn1.TagUTCTime, Bytes: []byte(at.Format("0601021504Z"))}
				}
				d.body[4] = asn1.RawValue{FullBytes: marshal([]asn1.RawValue{minute(f.now.Add(-time.Hour)), minute(f.now.Add(time.Hour))})}
			}
		}, verify.MalformedLeaf, "leaf", "validity"},

		// Left to those who issue: valid certificates break these rules, and what they protect is obeyed in any case.
		{"link's basic constraints not critical", func(f *forgery) { f.after[f.link] = notCritical(oidBC) }, accepted, "", ""},
		{"policy constraints not critical", func(f *forgery) { f.after[f.link] = add(oidPC, false, 0x30, 3, 0x81, 1, 0) }, accepted, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newForgery(t)
			row.edit(f)
			m := f.make()
			if err := m.standard(f.now); err != nil {
				t.Errorf("x509 refuses it by itself: %v", err)
			}
			_, err := verify.Chain(m.presented(), m.options(), f.now)
			if reason(err) != row.want {
				t.Fatalf("%v, want %s", err, row.want)
			}
			if r, ok := err.(*verify.Refusal); ok && (r.Certificate != row.which || r.Field != row.field) {
				t.Errorf("%v, want it to be about %s of %s", err, row.field, row.which)
			}
		})
	}
}

// What x509 refuses is refused with a reason, too, and the two never differ.
func TestWhatVerifyRefuses(t *testing.T) {
	for _, row := range []struct {
		name  string
		edit  func(*forgery)
		want  verify.Reason
		which string
	}{
		{"leaf ended", func(f *forgery) { f.leaf.NotAfter = f.now.Add(-time.Second) }, verify.Expired, "leaf"},
		{"leaf not begun", func(f *forgery) { f.leaf.NotBefore = f.now.Add(time.Second) }, verify.NotYetValid, "leaf"},
		{"link ended", func(f *forgery) { f.link.NotAfter = f.now.Add(-time.Second) }, verify.Expired, `"CN=link"`},
		{"root not begun", func(f *forgery) { f.root.NotBefore = f.now.Add(time.Second) }, verify.NotYetValid, `"CN=the root"`},
		{"link is no CA", func(f *forgery) { f.link.IsCA, f.link.KeyUsage = false, x509.KeyUsageDigitalSignature }, verify.UnknownIssuer, "leaf"},
		{"link's path length", func(f *forgery) { f.root.MaxPathLenZero = true }, verify.TooManyCerts, `"CN=the root"`},
		{"clients only", func(f *forgery) { f.leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, verify.WrongUsage, "leaf"},
		{"link for clients only", func(f *forgery) { f.link.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, verify.WrongUsage, "leaf"},
		{"name not permitted", func(f *forgery) {
			f.link.PermittedDNSDomainsCritical, f.link.PermittedDNSDomains = true, []string{"b.example"}
		}, verify.NotPermitted, "leaf"},
		{"policy wanted and none named", func(f *forgery) { f.after[f.link] = add(oidPC, true, 0x30, 3, 0x80, 1, 0) }, verify.NotPermitted, "leaf"},
		{"unknown critical extension of the leaf", func(f *forgery) { f.after[f.leaf] = add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, true, 5, 0) }, verify.MalformedLeaf, "leaf"},
		{"unknown critical extension of the link", func(f *forgery) { f.after[f.link] = add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, true, 5, 0) }, verify.MalformedIssuer, "intermediate 1"},
		{"unknown critical extension of the root", func(f *forgery) { f.after[f.root] = add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, true, 5, 0) }, verify.MalformedIssuer, "root"},
		{"directory names permitted", func(f *forgery) {
			f.after[f.link] = add(oidNC, true, 0x30, 8, 0xa0, 6, 0x30, 4, 0xa4, 2, 0x30, 0)
		}, verify.MalformedIssuer, "intermediate 1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newForgery(t)
			row.edit(f)
			m := f.make()
			if m.standard(f.now) == nil {
				t.Error("x509 accepts it")
			}
			_, err := verify.Chain(m.presented(), m.options(), f.now)
			if reason(err) != row.want || err.(*verify.Refusal).Certificate != row.which {
				t.Errorf("%v, want %s of %s", err, row.want, row.which)
			}
		})
	}
}

// A111: what the caller asks for beyond the chain itself.
func TestChainOptions(t *testing.T) {
	f := newForgery(t)
	f.leaf.DNSNames, f.leaf.EmailAddresses = []string{"a.example", "*.b.example"}, []string{"a@example"}
	m := f.make()
	for _, row := range []struct {
		name string
		edit func(*verify.ChainOptions)
		want verify.Reason
	}{
		{"nothing more", func(*verify.ChainOptions) {}, "accepted"},
		{"its name", func(o *verify.ChainOptions) { o.Host = "A.example" }, "accepted"},
		{"a name under its wildcard", func(o *verify.ChainOptions) { o.Host = "x.b.example" }, "accepted"},
		{"another name", func(o *verify.ChainOptions) { o.Host = "c.example" }, verify.WrongHost},
		{"an address", func(o *verify.ChainOptions) { o.Host = "192.0.2.1" }, verify.WrongHost},
		{"nobody trusted", func(o *verify.ChainOptions) { o.Roots = nil }, verify.UnknownIssuer},
		{"somebody else trusted", func(o *verify.ChainOptions) { *o = newForgery(t).make().options() }, verify.UnknownIssuer},
		{"a client", func(o *verify.ChainOptions) { o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, verify.WrongUsage},
		{"either", func(o *verify.ChainOptions) {
			o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}, "accepted"},
		{"one intermediate", func(o *verify.ChainOptions) { o.MaxIntermediates = 1 }, "accepted"},
		{"no intermediate", func(o *verify.ChainOptions) { o.MaxIntermediates = -1 }, verify.TooManyCerts},
		{"revocation", func(o *verify.ChainOptions) { o.AcceptUnchecked = false }, verify.NoCRL},
		{"too many CRLs", func(o *verify.ChainOptions) { o.CRLs = make([]*x509.RevocationList, 65) }, verify.TooMuchWork},
		{"no list where one should be", func(o *verify.ChainOptions) { o.CRLs = make([]*x509.RevocationList, 1) }, "accepted"},
	} {
		o := m.options()
		row.edit(&o)
		v, err := verify.Chain(m.presented(), o, f.now)
		if reason(err) != row.want {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
		if err == nil && (len(v.Chain) != 3 || !v.NotAfter.Equal(f.now.Add(time.Hour)) || len(v.Unchecked) != 2) {
			t.Errorf("%s: %+v", row.name, v)
		}
	}
	o := m.options()
	o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	if _, err := verify.Chain(m.presented(), o, f.now); reason(err) != verify.WrongUsage || !strings.Contains(err.Error(), `refused certificate of "CN=a.example": wrong-usage`) {
		t.Errorf("code: %v", err)
	}
	if _, err := verify.Chain(m.presented(), m.options(), time.Time{}); reason(err) != verify.NotYetValid {
		t.Errorf("no time: %v", err)
	}
}

// A112: the rules of the public web, each broken once; without the option nobody asks.
func TestPublicWeb(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*forgery)
		want verify.Reason
	}{
		{"nothing wrong", func(*forgery) {}, "accepted"},
		{"constraints not critical", func(f *forgery) { f.link.PermittedDNSDomains = []string{"example"} }, "accepted"},
		{"any extended key usage", func(f *forgery) { f.leaf.ExtKeyUsage = append(f.leaf.ExtKeyUsage, x509.ExtKeyUsageAny) }, verify.NotPublicWeb},
		{"no extended key usage", func(f *forgery) { f.leaf.ExtKeyUsage = nil }, verify.NotPublicWeb},
		{"extended key usage of the root", func(f *forgery) { f.root.ExtKeyUsage = f.leaf.ExtKeyUsage }, verify.NotPublicWeb},
		{"a CA as a server", func(f *forgery) { f.leaf.IsCA = true; f.leaf.KeyUsage |= x509.KeyUsageCertSign }, verify.NotPublicWeb},
		{"names critical under a subject", func(f *forgery) { f.after[f.leaf] = change(oidSAN, func(e *pkix.Extension) { e.Critical = true }) }, verify.NotPublicWeb},
		{"common name that is no name", func(f *forgery) { f.leaf.Subject.CommonName = "A.example" }, verify.NotPublicWeb},
		{"wildcard of a whole country", func(f *forgery) { f.leaf.Subject.CommonName = ""; f.leaf.DNSNames = []string{"*.org"} }, verify.NotPublicWeb},
		{"label that ends with a hyphen", func(f *forgery) { f.leaf.DNSNames = append(f.leaf.DNSNames, "a-.example") }, verify.NotPublicWeb},
		{"issuer named by certificate", func(f *forgery) {
			f.after[f.link] = change(oidAKI, func(e *pkix.Extension) {
				e.Value = append([]byte{0x30, 13, 0x80, 8}, "the root\x82\x01\x08"...)
			})
		}, verify.NotPublicWeb},
	} {
		f := newForgery(t)
		row.edit(f)
		m := f.make()
		o := m.options()
		o.PublicWeb = true
		if _, err := verify.Chain(m.presented(), o, f.now); reason(err) != row.want {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
		if o.PublicWeb = false; row.want != verify.NotPublicWeb {
			continue
		}
		if _, err := verify.Chain(m.presented(), o, f.now); err != nil {
			t.Errorf("%s: refused although nobody asked for the web's rules: %v", row.name, err)
		}
	}
}

// Issue 3, bad input: what costs an attacker nothing must not cost us much, and says so. The superfluous is no reason
// to refuse.
func TestChainBounds(t *testing.T) {
	f := newForgery(t)
	m := f.make()
	judge := func(presented []*x509.Certificate) error {
		_, err := verify.Chain(presented, m.options(), f.now)
		return err
	}
	same := make([]*x509.Certificate, 100) // of one name, each with a key of its own; none of them issued the leaf
	for i := range same {
		same[i] = f.sign(f.link, m.root, newKey(t, keystore.P256).Public(), f.rootKey)
	}
	loop := make([]*x509.Certificate, 30) // of one name and key, each issued by every other
	for i := range loop {
		link := *f.link
		link.DNSNames = []string{fmt.Sprintf("n%d.example", i)}
		loop[i] = f.sign(&link, f.link, f.linkKey.Public(), f.linkKey)
	}
	weak := f.sign(f.link, m.root, must(rsa.GenerateKey(rand.Reader, 1024)).Public(), f.rootKey)
	big, huge := *f.link, *f.link
	big.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, Value: make([]byte, 200<<10)}}
	huge.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, Value: make([]byte, 300<<10)}}
	large, larger := f.sign(&big, m.root, f.linkKey.Public(), f.rootKey), f.sign(&huge, m.root, f.linkKey.Public(), f.rootKey)
	for _, row := range []struct {
		name      string
		presented []*x509.Certificate
		want      verify.Reason
	}{
		{"nothing", nil, verify.NoCertificate},
		{"a nil leaf", []*x509.Certificate{nil}, verify.MalformedLeaf},
		{"a leaf that was never parsed", []*x509.Certificate{f.leaf}, verify.MalformedLeaf},
		{"a leaf that was made up", []*x509.Certificate{{Raw: []byte{0x30, 6, 0x30, 0, 5, 0, 5, 0}, PublicKey: f.leafKey.Public()}}, verify.MalformedLeaf},
		{"an intermediate that was never parsed", []*x509.Certificate{m.leaf, f.link}, verify.MalformedIssuer},
		{"10,000 of one name", append([]*x509.Certificate{m.leaf}, slices.Repeat(same, 100)...), verify.TooManyCerts},
		{"100 of one name", append([]*x509.Certificate{m.leaf}, same...), verify.UnknownIssuer},
		{"30 that issued each other", append([]*x509.Certificate{m.leaf}, loop...), verify.TooMuchWork},
		{"20 of one name, and the right one", append(append([]*x509.Certificate{m.leaf}, same[:20]...), m.link), "accepted"},
		{"one of 200 KiB", []*x509.Certificate{m.leaf, large}, "accepted"},
		{"one of 300 KiB", []*x509.Certificate{m.leaf, larger}, verify.TooMuchWork},
		{"six of 200 KiB", append([]*x509.Certificate{m.leaf}, slices.Repeat([]*x509.Certificate{large}, 6)...), verify.TooMuchWork},
		{"one with a weak key, and the right one", []*x509.Certificate{m.leaf, weak, m.link}, "accepted"},
		{"one with a weak key alone", []*x509.Certificate{m.leaf, weak}, verify.WeakKey},
		{"the root and the leaf again", []*x509.Certificate{m.leaf, m.root, m.leaf, m.link}, "accepted"},
		{"the root as its own leaf", []*x509.Certificate{m.root}, "accepted"},
	} {
		if err := judge(row.presented); reason(err) != row.want {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
	}
}

// A131: one line, whatever a stranger's certificate says.
func TestChainRefusalIsReadable(t *testing.T) {
	f := newForgery(t)
	f.leaf.Subject.CommonName = "evil\nlevel=INFO msg=accepted" + strings.Repeat("!", 100_000)
	f.leaf.EmailAddresses = []string{"evil\nlevel=INFO@" + strings.Repeat("a", 100_000)}
	f.link.PermittedDNSDomainsCritical, f.link.PermittedEmailAddresses = true, []string{"example"}
	m := f.make()
	_, err := verify.Chain(m.presented(), m.options(), f.now)
	if err == nil {
		t.Fatal("accepted")
	}
	// Writing that name out would take longer than everything else (x509-limbo's pathological::nc-dos-1).
	if line := err.Error(); strings.Contains(line, "\n") || len(line) > 1500 || !strings.Contains(line, "server a name of 1000") {
		t.Errorf("a stranger writes our log, %d bytes: %.1500q", len(line), line)
	}
}
