package member

import (
	"context"
	"crypto/x509"
	"reflect"
	"time"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/verify"
)

// reporter remembers what the CA was told, so that a report goes out when something changed and as a sign of life.
type reporter struct {
	count uint64
	said  verify.Report // without count and clock
	at    time.Time
}

func (r *reporter) due(now verify.Report, at time.Time) bool {
	return !reflect.DeepEqual(now, r.said) || at.Sub(r.at) >= heartbeat || at.Before(r.at)
}

// observe says what is live, and only that.
func (f *follower) observe(serving bool) verify.Report {
	c, self := f.live.Credentials(), f.live.Self()
	return verify.Report{
		Cluster:    c.Bundle.Cluster,
		Member:     self.Identity,
		Boot:       f.disk.record.Boot,
		Serving:    serving,
		State:      c.Bundle.Version,
		Digest:     c.Bundle.Digest(),
		Registry:   c.Registry.Version(),
		Key:        self.Key,
		Next:       f.next,
		Leaf:       self.Leaf,
		Issuer:     self.Issuer,
		NotAfter:   self.NotAfter.UTC(),
		Algorithms: keystore.Algorithms(),
		Proven:     f.live.Proven(time.Now()),
		Refusals:   f.live.Refusals(),
	}
}

// report sends what is live, signed by the key that is served.
func (f *follower) report(ctx context.Context, serving bool) (rotation.Ack, error) {
	key := f.live.Credentials().Key
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return rotation.Ack{}, err
	}
	now := f.observe(serving)
	sent := now
	f.reporter.count++
	sent.Count, sent.Clock = f.reporter.count, time.Now().UTC().Truncate(time.Second)
	signed, err := verify.SignReport(&sent, key)
	if err != nil {
		return rotation.Ack{}, err
	}
	ack, err := f.ca.report(ctx, spki, signed)
	if err == nil {
		f.reporter.said, f.reporter.at = now, time.Now()
	}
	return ack, err
}
