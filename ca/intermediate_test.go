package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// newIntermediate carries the two files between the place of the key and the root's.
func newIntermediate(t testing.TB, root *ca.Authority, id fingerprint.ClusterID, a keystore.Algorithm) *ca.Authority {
	t.Helper()
	key := newKey(t, a)
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	response, err := root.SignIntermediate(request, ca.IntermediateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := ca.AcceptIntermediate(response, key, root.Certificate(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return intermediate
}

// A15, A17, B8, B10: an intermediate under an offline root, by two files that hold no secret.
func TestIntermediate(t *testing.T) {
	id := newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	key := newKey(t, keystore.P384)
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	response, err := root.SignIntermediate(request, ca.IntermediateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(response, []byte("PRIVATE")) || bytes.Contains(request, []byte("PRIVATE")) {
		t.Error("a key is in the files")
	}
	intermediate, err := ca.AcceptIntermediate(response, key, root.Certificate(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	c := intermediate.Certificate()
	if c.MaxPathLen != 0 || !c.MaxPathLenZero || ca.ClusterUUIDOf(c) != id.UUID || len(c.PermittedURIDomains) != 1 || !c.PermittedDNSDomainsCritical {
		t.Errorf("path length %d, cluster %s, constraints %v", c.MaxPathLen, ca.ClusterUUIDOf(c), c.PermittedURIDomains)
	}
	if life := time.Until(c.NotAfter).Round(24 * time.Hour); life != 365*24*time.Hour {
		t.Errorf("it lives %s", life)
	}
	leaf := newLeaf(t, intermediate, id, fingerprint.Node, keystore.P256)
	judges(t, root.Certificate(), []*x509.Certificate{leaf.Issuer}, leaf.Certificate, "high")
	below, err := ca.NewIntermediateRequest(newKey(t, keystore.P256), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intermediate.SignIntermediate(below, ca.IntermediateRequest{Clamp: true}); !errors.Is(err, ca.ErrNotAsked) {
		t.Errorf("an intermediate of path length 0 signed a CA: %v", err)
	}
	if _, err := intermediate.Bridge(newRoot(t, id, 2, keystore.P256).Certificate()); !errors.Is(err, ca.ErrNotAsked) {
		t.Errorf("an intermediate of path length 0 signed a bridge: %v", err)
	}
}

// A17, B10: every request file that is not what it should be is refused, and nothing is signed.
func TestSignIntermediateRefuses(t *testing.T) {
	id, other := newID(t), newID(t)
	root := newRoot(t, id, 1, keystore.P256)
	request := func(id fingerprint.ClusterID) []byte {
		file, err := ca.NewIntermediateRequest(newKey(t, keystore.P256), id)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := request(id)
	member, err := ca.NewRequest(newKey(t, keystore.P256), member(t, id, fingerprint.Node, "n"))
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(good)
	block, _ := pem.Decode(forged)
	block.Bytes[len(block.Bytes)-1] ^= 1
	own, err := ca.CreateRoot(newKey(t, keystore.P256), ca.RootRequest{Cluster: id, Generation: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		file []byte
		r    ca.IntermediateRequest
		want error
		says string
	}{
		{"another cluster of the same name", request(other), ca.IntermediateRequest{}, ca.ErrRequest, "it is of cluster"},
		{"a member's request", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: member}), ca.IntermediateRequest{}, ca.ErrRequest, "it names"},
		{"signature", pem.EncodeToMemory(block), ca.IntermediateRequest{}, ca.ErrRequest, "possession"},
		{"not PEM", member, ca.IntermediateRequest{}, ca.ErrRequest, "PEM"},
		{"empty", nil, ca.IntermediateRequest{}, ca.ErrRequest, "no PEM"},
		{"two of them", append(slices.Clone(good), good...), ca.IntermediateRequest{}, ca.ErrRequest, "more than 1"},
		{"text around it", append([]byte("hello\n"), good...), ca.IntermediateRequest{}, ca.ErrRequest, "text before"},
		{"a certificate", chainFile(own.Certificate()), ca.IntermediateRequest{}, ca.ErrRequest, "want a CERTIFICATE REQUEST"},
		{"too long", bytes.Repeat([]byte(" "), 1<<20), ca.IntermediateRequest{}, ca.ErrRequest, "at most"},
		{"lives too long", good, ca.IntermediateRequest{Lifetime: 3 * 365 * 24 * time.Hour}, ca.ErrLifetime, "at most"},
		{"root about to end", good, ca.IntermediateRequest{Now: root.Certificate().NotAfter.Add(-time.Hour)}, ca.ErrLifetime, "its issuer ends"},
	} {
		if _, err := root.SignIntermediate(test.file, test.r); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
}

func chainFile(certificates ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certificates {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// A15, A17: a response is taken only for the key at hand, and from the root that the caller trusts.
func TestAcceptIntermediateRefuses(t *testing.T) {
	id, other := newID(t), newID(t)
	root, second, foreign := newRoot(t, id, 1, keystore.P256), newRoot(t, id, 2, keystore.P256), newRoot(t, other, 1, keystore.P256)
	key := newKey(t, keystore.P256)
	request, err := ca.NewIntermediateRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	good, err := root.SignIntermediate(request, ca.IntermediateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(good)
	alone := good[:len(good)-len(rest)]
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	leaf := newLeaf(t, root, id, fingerprint.Node, keystore.P256).Certificate
	for _, test := range []struct {
		name string
		file []byte
		key  keystore.Signer
		root *ca.Authority
		now  time.Time
		want error
	}{
		{"good", good, key, root, time.Time{}, nil},
		{"without the root", alone, key, root, time.Time{}, nil},
		{"another key", good, newKey(t, keystore.P256), root, time.Time{}, ca.ErrMismatch},
		{"another root of the cluster", good, key, second, time.Time{}, ca.ErrChain},
		{"another root, without its certificate", alone, key, second, time.Time{}, ca.ErrChain},
		{"another cluster's root", alone, key, foreign, time.Time{}, ca.ErrChain},
		{"not yet", good, key, root, time.Now().Add(-24 * time.Hour), ca.ErrChain},
		{"expired", good, key, root, time.Now().Add(400 * 24 * time.Hour), ca.ErrChain},
		{"forged", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: forged}), key, root, time.Time{}, ca.ErrChain},
		{"cut off", good[:len(good)-30], key, root, time.Time{}, ca.ErrChain},
		{"second certificate broken", append(slices.Clone(alone), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}})...), key, root, time.Time{}, ca.ErrChain},
		{"a leaf", chainFile(leaf), key, root, time.Time{}, ca.ErrMismatch},
		{"the request", request, key, root, time.Time{}, ca.ErrChain},
		{"nothing", nil, key, root, time.Time{}, ca.ErrChain},
	} {
		if _, err := ca.AcceptIntermediate(test.file, test.key, test.root.Certificate(), test.now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}
