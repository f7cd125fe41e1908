package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// contest runs contestants in turns and reports each one's median time and its ratio to the first's. Whoever goes first
// in a round has the colder caches, so the first one changes; the median leaves out the rounds that a neighbour
// disturbed.
func contest(b *testing.B, names []string, run []func() error) {
	spent := make([][]time.Duration, len(run))
	for round := 0; b.Loop(); round++ {
		for i := range run {
			who := (i + round) % len(run)
			start := time.Now()
			if err := run[who](); err != nil {
				b.Fatal(names[who], err)
			}
			spent[who] = append(spent[who], time.Since(start))
		}
	}
	b.ReportMetric(0, "ns/op") // of all together: says nothing
	first := median(spent[0])
	for i, name := range names {
		m := median(spent[i])
		b.ReportMetric(m, "ns/"+name)
		if i > 0 {
			b.ReportMetric(m/first, name+"/"+names[0])
		}
	}
}

func median(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Nanoseconds())
}

type benchCluster struct {
	id     fingerprint.ClusterID
	key    keystore.Signer
	root   *ca.Authority
	node   fingerprint.Identity
	uri    *url.URL
	public crypto.PublicKey
	hosts  []string
}

func newBenchCluster(b *testing.B, a keystore.Algorithm) *benchCluster {
	id := newID(b)
	key := newKey(b, a)
	root, err := ca.CreateRoot(key, ca.RootRequest{Cluster: id, Generation: 1})
	if err != nil {
		b.Fatal(err)
	}
	node := member(b, id, fingerprint.Node, fingerprint.NewUUID())
	uri, err := url.Parse(node.String())
	if err != nil {
		b.Fatal(err)
	}
	return &benchCluster{id, key, root, node, uri, newKey(b, a).Public(), []string{"octopus.example"}}
}

func (c *benchCluster) rawSign() error {
	_, err := crypto.SignMessage(c.key, rand.Reader, message, crypto.SHA256)
	return err
}

// message is as long as a leaf's to-be-signed part.
var message = make([]byte, 480)

func (c *benchCluster) issue() error {
	_, err := c.root.Issue(ca.Request{Cluster: c.id, Identity: c.node, PublicKey: c.public, Hosts: c.hosts})
	return err
}

// x509Issue makes the same leaf by the standard library, in DER.
func (c *benchCluster) x509Issue() error {
	_, err := c.x509Create(c.public)
	return err
}

// x509Parsed makes what Issue returns: the same leaf, parsed.
func (c *benchCluster) x509Parsed() error {
	der, err := c.x509Create(c.public)
	if err != nil {
		return err
	}
	_, err = x509.ParseCertificate(der)
	return err
}

func (c *benchCluster) x509Create(public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	now := time.Now()
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{c.id.Domain}, CommonName: c.node.ID, SerialNumber: c.id.UUID},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, SubjectKeyId: sum[:20], URIs: []*url.URL{c.uri}, DNSNames: c.hosts,
	}, c.root.Certificate(), public, c.key)
}

// DESIGN §9: a leaf from a public key against the raw signature and x509.CreateCertificate. Must: ≤ 3.5 of the raw
// signature for P-256, and x509.CreateCertificate takes ≥ 1.25 times as long.
func BenchmarkIssue(b *testing.B) {
	for _, a := range []keystore.Algorithm{keystore.P256, keystore.Ed25519, keystore.P384, keystore.RSA3072} {
		b.Run(string(a), func(b *testing.B) {
			c := newBenchCluster(b, a)
			sign := c.rawSign
			if a == keystore.Ed25519 {
				sign = func() error { _, err := c.key.Sign(rand.Reader, message, crypto.Hash(0)); return err }
			}
			contest(b, []string{"sign", "issue", "x509", "x509+parse"}, []func() error{sign, c.issue, c.x509Issue, c.x509Parsed})
		})
	}
}

// BenchmarkRecorded is what the record adds: chained, in the Memory store.
func BenchmarkRecorded(b *testing.B) {
	c := newBenchCluster(b, keystore.P256)
	ruled := *c
	ruled.root = c.root.Under(ca.Rules{Recorder: openLog(b, keystore.NewMemory()).Recorder(background)})
	contest(b, []string{"issue", "recorded"}, []func() error{c.issue, ruled.issue})
}

// BenchmarkSelfCheck is what is not to be traded: of an issuance's cost over the raw signature most is the check of it.
func BenchmarkSelfCheck(b *testing.B) {
	c := newBenchCluster(b, keystore.P256)
	root := c.root.Certificate()
	leaf := newLeaf(b, c.root, c.id, fingerprint.Node, keystore.P256).Certificate
	contest(b, []string{"sign", "check", "parse"}, []func() error{
		c.rawSign,
		func() error {
			return root.CheckSignature(x509.ECDSAWithSHA256, leaf.RawTBSCertificate, leaf.Signature)
		},
		func() error { _, err := x509.ParseCertificate(leaf.Raw); return err },
	})
}

// DESIGN §9: from a request to a certificate. Must: Kubernetes' signer takes ≥ 1.15 times as long, swarmkit's ≥ 1.35.
func BenchmarkRequest(b *testing.B) {
	c := newBenchCluster(b, keystore.P256)
	der, err := ca.NewRequest(newKey(b, keystore.P256), c.node)
	if err != nil {
		b.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	ours := func() error {
		public, err := ca.ParseRequest(der, c.node)
		if err != nil {
			return err
		}
		_, err = c.root.Issue(ca.Request{Cluster: c.id, Identity: c.node, PublicKey: public, Hosts: c.hosts})
		return err
	}
	contest(b, []string{"ours", "kubernetes", "swarmkit"}, []func() error{ours,
		func() error { _, err := c.kubernetes(text); return err },
		func() error { _, err := c.swarmkit(text); return err },
	})
}

// kubernetes are the steps of Kubernetes' signing controller: the request is parsed for the policy and again by the
// authority, its signature checked, the certificate made and put into PEM.
func (c *benchCluster) kubernetes(text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	if _, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
		return nil, err
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	der, err := c.x509Create(request.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// swarmkit are the steps of swarmkit's root with cfssl's local signer: the request is parsed and checked, each of the
// three host names tried as an address and as a mail address, the key identifier computed from the key's encoding taken
// apart, the certificate made, put into PEM and parsed again for its authority key identifier.
func (c *benchCluster) swarmkit(text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	for _, host := range []string{"swarm-worker", c.node.ID, "swarm-ca"} {
		if address, err := mail.ParseAddress(host); net.ParseIP(host) != nil || err == nil {
			return nil, errors.New(address.String())
		}
	}
	encoded, err := x509.MarshalPKIXPublicKey(request.PublicKey)
	if err != nil {
		return nil, err
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(encoded, &spki); err != nil {
		return nil, err
	}
	sha1.Sum(spki.Key.Bytes)
	der, err := c.x509Create(request.PublicKey)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, parsePEM(certificate)
}

func parsePEM(text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("no PEM")
	}
	_, err := x509.ParseCertificate(block.Bytes)
	return err
}

// DESIGN §9: key and certificate of a new node, against the bare key and signature. Must: swarmkit takes ≥ 3.5 times as
// long as we do.
func BenchmarkKeyAndCertificate(b *testing.B) {
	c := newBenchCluster(b, keystore.P256)
	bare := func() error {
		if _, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		return c.rawSign()
	}
	ours := func() error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		_, err = c.root.Issue(ca.Request{Cluster: c.id, Identity: c.node, PublicKey: key.Public(), Hosts: c.hosts})
		return err
	}
	contest(b, []string{"bare", "ours", "swarmkit"}, []func() error{bare, ours, c.swarmkitNode})
}

// swarmkitNode are swarmkit's steps for a node whose root is at hand: key, key in PEM, request in PEM, the signer's
// steps, and the pair put together from PEM.
func (c *benchCluster) swarmkitNode() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	keyText := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: c.node.ID}}, key)
	if err != nil {
		return err
	}
	chain, err := c.swarmkit(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	if err != nil {
		return err
	}
	_, err = tls.X509KeyPair(chain, keyText)
	return err
}
