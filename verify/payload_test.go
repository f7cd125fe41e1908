package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/dsse"
	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

const (
	reportType   = "application/vnd.clusterca.report.v1+json"
	registryType = "application/vnd.clusterca.registry.v1+json"
)

// A good signature is no reason to read carelessly: what encoding/json would take in another spelling, a reader in
// another language would take otherwise.
func TestReportIsCanonical(t *testing.T) {
	w := newWorld(t, 1)
	key := newKey(t, keystore.P256)
	good, err := json.Marshal(&verify.Report{Cluster: w.id, Member: w.member(fingerprint.Node, "a"), Boot: 1, Clock: w.now})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		old, new string
		good     bool
	}{
		"good":                {"", "", true},
		"in another case":     {`"boot"`, `"Boot"`, false},
		"a field twice":       {`"boot":1`, `"boot":1,"BOOT":2`, false},
		"a field more":        {`"boot":1`, `"boot":1,"root":true`, false},
		"a field left out":    {`"boot":1,`, ``, false},
		"another number form": {`"boot":1`, `"boot":1e0`, false},
		"a space":             {`"boot":1`, `"boot": 1`, false},
		"an escaped letter":   {`"boot"`, `"\u0062oot"`, false},
	} {
		payload := bytes.Replace(good, []byte(row.old), []byte(row.new), 1)
		signed, err := dsse.Sign(reportType, payload, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.OpenReport(signed, key.Public()); (err == nil) != row.good || err != nil && !errors.Is(err, verify.ErrReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReportPayload: what a member signs can be anything; what is opened has one spelling.
func FuzzReportPayload(f *testing.F) {
	w := newWorld(f, 1)
	key := newKey(f, keystore.Ed25519)
	good, err := json.Marshal(&verify.Report{Cluster: w.id, Member: w.member(fingerprint.Node, "a"), Boot: 1, Clock: w.now,
		Algorithms: keystore.Algorithms(), Refusals: []verify.Refused{{Peer: w.member(fingerprint.Node, "b"), Reason: verify.Expired}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		signed, err := dsse.Sign(reportType, payload, key)
		if err != nil {
			return
		}
		r, err := verify.OpenReport(signed, key.Public())
		if err != nil {
			return
		}
		if again, err := json.Marshal(r); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%s is written %s", payload, again)
		}
	})
}

// FuzzRegistryPayload: a control member may sign nonsense; what is opened is of this cluster and issued by now.
func FuzzRegistryPayload(f *testing.F) {
	w := newWorld(f, 1)
	held := w.bundle(1)
	r, err := fingerprint.NewRegistry(fingerprint.Version{Term: 1, Number: 2}, []fingerprint.Entry{{Member: w.member(fingerprint.Node, "a"), Current: keyOf(f, w.control)}})
	if err != nil {
		f.Fatal(err)
	}
	signed, lines, _ := bytes.Cut(w.registryDocument(held, r, verify.Digest{}, w.now, w.document), []byte("\n"))
	head, err := dsse.Payload(signed, registryType)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head, string(lines))
	f.Add([]byte("null"), "")
	f.Fuzz(func(t *testing.T, head []byte, lines string) {
		signed, err := dsse.Sign(registryType, head, w.document)
		if err != nil {
			return
		}
		opened, err := verify.OpenRegistry(held, nil, append(append(signed, '\n'), lines...), w.now)
		if err != nil {
			return
		}
		if text, err := opened.Registry.AppendText(nil); err != nil || verify.Digest(opened.Registry.Digest()) != verify.DigestOf(text) || !bytes.Contains(head, []byte(held.Cluster.UUID)) {
			t.Errorf("%s with %q was opened", head, lines)
		}
	})
}
