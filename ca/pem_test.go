package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/internal/outside"
	"github.com/clusterca/clusterca/keystore"
)

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// A36, issue 3: a bundle is read whole and in order, or not at all, with one error a broken element. x509.CertPool
// reads every one of these files and says nothing of what it dropped.
func TestParseCertificates(t *testing.T) {
	id := newID(t)
	var roots [][]byte
	for generation := range 3 {
		roots = append(roots, encode("CERTIFICATE", newRoot(t, id, generation+1, keystore.P256).Certificate().Raw))
	}
	a, b, c := roots[0], roots[1], roots[2]
	lines := bytes.Count(a, []byte("\n"))
	block, _ := pem.Decode(b)
	der := block.Bytes
	secret := encode("PRIVATE KEY", []byte("the secret itself"))
	for name, test := range map[string]struct {
		data []byte
		want int // certificates
		says []string
	}{
		"one":              {a, 1, nil},
		"three":            {slices.Concat(a, b, c), 3, nil},
		"text before each": {slices.Concat([]byte("# old\n"), a, []byte("\n# new\n"), b), 2, nil},
		"twice the same":   {slices.Concat(a, a), 2, nil},
		"a broken second": {
			slices.Concat(a, bytes.Replace(b, []byte("MII"), []byte("M!I"), 1), c), 0, []string{fmt.Sprintf("line %d: \"CERTIFICATE\" is not whole base64", lines+1)},
		},
		"a second cut off":         {slices.Concat(a, encode("CERTIFICATE", der[:len(der)-1]), c), 0, []string{fmt.Sprintf("line %d: x509: malformed", lines+1)}},
		"data after a certificate": {slices.Concat(a, encode("CERTIFICATE", append(slices.Clone(der), 5, 0)), c), 0, []string{fmt.Sprintf("line %d: x509: trailing data", lines+1)}},
		"two broken": {
			slices.Concat(encode("CERTIFICATE", []byte{5, 0}), a, encode("CERTIFICATE", []byte{5, 0})), 0, []string{"line 1: x509: malformed", fmt.Sprintf("line %d: x509", lines+4)},
		},
		"trailing data": {slices.Concat(a, []byte("EOF\n")), 0, []string{fmt.Sprintf("line %d: 4 bytes of text after the last element", lines+1)}},
		"cut off":       {slices.Concat(a, b[:len(b)-30]), 0, []string{"it was cut off"}},
		"a name one letter off": {
			bytes.ReplaceAll(a, []byte("CERTIFICATE"), []byte("CERTIFICAT")), 0, []string{`"CERTIFICAT", want "CERTIFICATE"`},
		},
		"a key among them":            {slices.Concat(a, secret), 0, []string{fmt.Sprintf(`line %d: a "PRIVATE KEY" among certificates`, lines+1)}},
		"a list of revoked ones":      {encode("X509 CRL", []byte{5, 0}), 0, []string{`"X509 CRL", want "CERTIFICATE"`}},
		"trusted, as openssl says it": {encode("TRUSTED CERTIFICATE", der), 0, []string{`"TRUSTED CERTIFICATE", want`}},
		"empty":                       {nil, 0, []string{"no PEM element"}},
		"DER":                         {der, 0, []string{"no PEM element"}},
	} {
		list, err := ca.ParseCertificates(test.data)
		if len(list) != test.want || (err == nil) != (test.says == nil) {
			t.Errorf("%s: %d certificates, %v", name, len(list), err)
			continue
		}
		for i, c := range list {
			if i < len(roots) && name != "twice the same" && !bytes.Equal(encode("CERTIFICATE", c.Raw), roots[i]) {
				t.Errorf("%s: certificate %d is another", name, i)
			}
		}
		if err == nil {
			continue
		}
		said := strings.Split(err.Error(), "\n")
		if len(said) != len(test.says) {
			t.Errorf("%s: %q, want %d errors", name, said, len(test.says))
		}
		for i, line := range said[:min(len(said), len(test.says))] {
			if !strings.Contains(line, test.says[i]) || strings.Contains(line, "secret") {
				t.Errorf("%s: %q, want it to say %q", name, line, test.says[i])
			}
		}
	}
}

// B7: a request that openssl made is read, and nothing that is more or less than one request.
func TestDecodeRequest(t *testing.T) {
	id := newID(t)
	node := member(t, id, fingerprint.Node, "octopus")
	dir := t.TempDir()
	cmd := exec.Command(outside.Program(t, "openssl"), "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", dir+"/key.pem", "-out", dir+"/request.pem", "-subj", "/CN=octopus", "-text")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := keystore.ReadFile(dir+"/request.pem", keystore.Public)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.DecodeRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.ParseRequest(der, node); err != nil {
		t.Error(err)
	}
	if again, err := ca.DecodeRequest(encode("NEW CERTIFICATE REQUEST", der)); err != nil || !bytes.Equal(again, der) {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		data []byte
		says string
	}{
		"empty":          {nil, "no PEM element"},
		"DER":            {der, "no PEM element"},
		"two":            {slices.Concat(encode("CERTIFICATE REQUEST", der), encode("CERTIFICATE REQUEST", der)), "follows the request"},
		"a certificate":  {encode("CERTIFICATE", der), `"CERTIFICATE", want "CERTIFICATE REQUEST"`},
		"cut off":        {data[:len(data)-10], "END"},
		"trailing data":  {append(slices.Clone(data), "EOF"...), "text after the last element"},
		"one letter off": {bytes.ReplaceAll(data, []byte("E REQUEST"), []byte("E REQEST")), `"CERTIFICATE REQEST", want`},
	} {
		if _, err := ca.DecodeRequest(test.data); !errors.Is(err, ca.ErrRequest) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, test.says)
		}
	}
	for name, der := range map[string][]byte{"half": der[:len(der)/2], "data after it": append(slices.Clone(der), 5, 0)} {
		if _, err := ca.ParseRequest(der, node); !errors.Is(err, ca.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// external puts a CA that others made into files, with openssl, and opens it.
type external struct{ certificate, key string }

func newExternal(t *testing.T) external {
	t.Helper()
	dir := t.TempDir()
	e := external{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")}
	cmd := exec.Command(outside.Program(t, "openssl"), "req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", e.key, "-out", e.certificate, "-subj", "/CN=External", "-addext", "keyUsage=critical,keyCertSign")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return e
}

func (e external) open() (*ca.Authority, error) {
	data, err := keystore.ReadFile(e.certificate, keystore.Trusted)
	if err != nil {
		return nil, err
	}
	list, err := ca.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	signer, err := keystore.OpenKeyFile(context.Background(), e.key, nil)
	if err != nil {
		return nil, err
	}
	return ca.Open(list[0], signer)
}

// A41, A52, A110, B84: a pair from outside that is not one is refused; the error says which file, or which key.
func TestPairFromOutside(t *testing.T) {
	other := newExternal(t)
	for name, test := range map[string]struct {
		harm func(e external) error
		says string
		is   error
	}{
		"as it should be":             {func(external) error { return nil }, "", nil},
		"half a pair, without a key":  {func(e external) error { return os.Remove(e.key) }, "ca.key", fs.ErrNotExist},
		"half, without a certificate": {func(e external) error { return os.Remove(e.certificate) }, "ca.pem", fs.ErrNotExist},
		"a key that does not fit":     {func(e external) error { return os.Rename(other.key, e.key) }, "signer has key", ca.ErrMismatch},
		"a key that others can read":  {func(e external) error { return os.Chmod(e.key, 0o644) }, "ca.key has mode 0644", nil},
		"roots that others can write": {func(e external) error { return os.Chmod(e.certificate, 0o666) }, "chmod go-w", nil},
		"exchanged": {func(e external) error {
			return errors.Join(os.Rename(e.key, e.key+"-"), os.Rename(e.certificate, e.key), os.Rename(e.key+"-", e.certificate))
		}, "among certificates", nil},
	} {
		e := newExternal(t)
		if err := test.harm(e); err != nil {
			t.Fatal(err)
		}
		_, err := e.open()
		if test.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: %v, want it to say %q", name, err, test.says)
		}
	}
}

// What is taken is a list of whole certificates, and all that the file has.
func FuzzParseCertificates(f *testing.F) {
	root := newRootForFuzz(f)
	f.Add(root)
	f.Add(append(slices.Clone(root), root...))
	f.Add(root[:len(root)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ca.ParseCertificates(data)
		if (err == nil) != (len(list) > 0) {
			t.Errorf("%d certificates, %v", len(list), err)
		}
		if n := bytes.Count(data, []byte("-----BEGIN ")); err == nil && n != len(list) {
			t.Errorf("%d certificates of %d elements", len(list), n)
		}
		if pool := x509.NewCertPool(); err == nil && !pool.AppendCertsFromPEM(data) {
			t.Error("the standard library finds none")
		}
	})
}

// What is taken for a request is one element.
func FuzzDecodeRequest(f *testing.F) {
	f.Add(encode("CERTIFICATE REQUEST", []byte{0x30, 0}))
	f.Add(encode("CERTIFICATE", []byte{0x30, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := ca.DecodeRequest(data)
		if (err == nil) != (len(der) > 0) || err != nil && !errors.Is(err, ca.ErrRequest) {
			t.Errorf("%x, %v", der, err)
		}
	})
}

func newRootForFuzz(f *testing.F) []byte {
	return encode("CERTIFICATE", newRoot(f, newID(f), 1, keystore.P256).Certificate().Raw)
}

// A bundle of two roots whose second one was damaged on its way.
func ExampleParseCertificates() {
	const first = `-----BEGIN CERTIFICATE-----
MIIBIjCB1aADAgECAgEBMAUGAytlcDAPMQ0wCwYDVQQDEwRSb290MB4XDTI2MDEw
`
	_, err := ca.ParseCertificates([]byte(first + "-----END CERTIFICATE-----\n" + first))
	fmt.Println(err)
	// Output: ca: certificates: keystore: line 4: "CERTIFICATE" without an END line: it was cut off
}

// A request that was handed over in a file: whoever wrote it, it proves possession of its key.
func ExampleDecodeRequest() {
	cluster, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		log.Fatal(err)
	}
	node, err := cluster.Member(fingerprint.Node, "octopus")
	if err != nil {
		log.Fatal(err)
	}
	key, err := keystore.NewMemory().Generate(context.Background(), "leaf-1", keystore.P256)
	if err != nil {
		log.Fatal(err)
	}
	made, err := ca.NewRequest(key, node)
	if err != nil {
		log.Fatal(err)
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: made})

	der, err := ca.DecodeRequest(file)
	if err != nil {
		log.Fatal(err)
	}
	public, err := ca.ParseRequest(der, node)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keystore.AlgorithmOf(public))
	// Output: p256 <nil>
}
