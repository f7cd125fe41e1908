package verify_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// A77, A78, B72: a chain that is good in every other way is refused when its leaf begins before a cut-off or is not the
// one that is pinned; a pin makes no other leaf good. Control members, whom the trust state lists, are no exception.
func TestCutoffAndPin(t *testing.T) {
	w := newWorld(t, 1)
	issue := func(role fingerprint.Role, name string, key keystore.Signer) (old, young *x509.Certificate) {
		id := w.member(role, name)
		return w.issue(1, id, key, w.now.Add(-30*time.Minute)), w.issue(1, id, key, w.now)
	}
	key := newKey(t, keystore.P256)
	old, young := issue(fingerprint.Node, "a", key)
	oldCA, youngCA := issue(fingerprint.Control, "ca-1", w.control)
	expired := w.issue(1, w.member(fingerprint.Node, "a"), key, w.now.Add(-61*time.Minute))
	entry := fingerprint.Entry{Member: w.member(fingerprint.Node, "a"), Current: keyOf(t, key)}
	ca1 := fingerprint.Entry{Member: w.member(fingerprint.Control, "ca-1"), Current: keyOf(t, w.control)}
	from := young.NotBefore // certificates are backdated: the cut-off is compared with how they begin
	cut := func(e fingerprint.Entry) fingerprint.Entry { e.VoidBefore = from; return e }
	pin := func(e fingerprint.Entry, c *x509.Certificate) fingerprint.Entry {
		e.Pin = fingerprint.OfCertificate(c.Raw)
		return e
	}
	for name, test := range map[string]struct {
		entries []fingerprint.Entry
		cutoffs []fingerprint.Cutoff
		leaf    *x509.Certificate
		want    verify.Reason
	}{
		"no cut-off":                    {[]fingerprint.Entry{entry}, nil, old, "accepted"},
		"from before the member's":      {[]fingerprint.Entry{cut(entry)}, nil, old, verify.BeforeCutoff},
		"renewed after it":              {[]fingerprint.Entry{cut(entry)}, nil, young, "accepted"},
		"from before the role's":        {nil, []fingerprint.Cutoff{{Role: fingerprint.Node, Before: from}}, old, verify.BeforeCutoff},
		"renewed after the role's":      {nil, []fingerprint.Cutoff{{Role: fingerprint.Node, Before: from}}, young, "accepted"},
		"another role's":                {nil, []fingerprint.Cutoff{{Role: fingerprint.User, Before: from}}, old, "accepted"},
		"pinned":                        {[]fingerprint.Entry{pin(entry, old)}, nil, old, "accepted"},
		"another is pinned":             {[]fingerprint.Entry{pin(entry, old)}, nil, young, verify.NotPinned},
		"pinned and expired":            {[]fingerprint.Entry{pin(entry, expired)}, nil, expired, verify.Expired},
		"pinned from before":            {[]fingerprint.Entry{pin(cut(entry), old)}, nil, old, verify.BeforeCutoff},
		"control from before its own":   {[]fingerprint.Entry{cut(ca1)}, nil, oldCA, verify.BeforeCutoff},
		"control after it":              {[]fingerprint.Entry{cut(ca1)}, nil, youngCA, "accepted"},
		"another of control is pinned":  {[]fingerprint.Entry{pin(ca1, youngCA)}, nil, oldCA, verify.NotPinned},
		"control that a pin speaks for": {[]fingerprint.Entry{pin(ca1, youngCA)}, nil, youngCA, "accepted"},
	} {
		r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 1}, test.entries, test.cutoffs...)
		if err != nil {
			t.Fatal(err)
		}
		v := w.verifier(w.bundle(1), r)
		for range 2 { // the second time from memory, as on a resumed session
			if _, err := v.Peer([]*x509.Certificate{test.leaf}, verify.Client, anyone, w.now); reason(err) != test.want {
				t.Errorf("%s: %v, want %s", name, err, test.want)
			}
		}
	}
}
