package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// DESIGN §9: a certificate encoded beyond its signature. Must: ≤ 20 % of a P-256 signature and 30 allocations; the key
// is encoded too.
func BenchmarkEncode(b *testing.B) {
	cluster := fingerprint.ClusterID{Domain: "prod.example", UUID: fingerprint.NewUUID()}
	node := fingerprint.Identity{Domain: cluster.Domain, Role: fingerprint.Node, ID: fingerprint.NewUUID()}
	key := testKey(b, keystore.P256)
	root, err := CreateRoot(key, RootRequest{Cluster: cluster, Generation: 1})
	if err != nil {
		b.Fatal(err)
	}
	public := testKey(b, keystore.P256).Public()
	r := Request{Cluster: cluster, Identity: node, PublicKey: public, Hosts: []string{"octopus.example"}}
	encode := func() {
		d, err := root.draft(r)
		if err != nil {
			b.Fatal(err)
		}
		d.issuer, d.by = root.certificate, root.key.scheme
		d.drawSerial()
		if _, err := d.encode(); err != nil {
			b.Fatal(err)
		}
	}
	digest := sha256.Sum256(nil)
	var sign, ours []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		encode()
		sign, ours = append(sign, middle.Sub(start)), append(ours, time.Since(middle))
	}
	slices.Sort(sign)
	slices.Sort(ours)
	b.ReportMetric(float64(ours[len(ours)/2])/float64(sign[len(sign)/2]), "encode/sign")
	b.ReportMetric(float64(ours[len(ours)/2].Nanoseconds()), "ns/encode")
	b.ReportMetric(testing.AllocsPerRun(100, encode), "allocs/encode")
}
