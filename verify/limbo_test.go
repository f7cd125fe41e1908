package verify_test

import (
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/verify"
)

// limboCase is one case of x509-limbo (limbo.json of C2SP/x509-limbo), as far as it is read.
type limboCase struct {
	ID            string                        `json:"id"`
	Description   string                        `json:"description"`
	Kind          string                        `json:"validation_kind"`
	Trusted       []string                      `json:"trusted_certs"`
	Intermediates []string                      `json:"untrusted_intermediates"`
	Leaf          string                        `json:"peer_certificate"`
	Time          string                        `json:"validation_time"`
	Usages        []string                      `json:"extended_key_usage"`
	Expected      string                        `json:"expected_result"`
	Name          *struct{ Kind, Value string } `json:"expected_peer_name"`
	Depth         *int                          `json:"max_chain_depth"`
	CRLs          []string                      `json:"crls"`
}

// options are what the case asks for.
func (c *limboCase) options(web bool) (verify.ChainOptions, error) {
	o := verify.ChainOptions{Roots: x509.NewCertPool(), PublicWeb: web, AcceptUnchecked: len(c.CRLs) == 0}
	for _, s := range c.Trusted {
		root, err := parsePEM(s)
		if err != nil {
			return o, err
		}
		o.Roots.AddCert(root)
	}
	if c.Name != nil && (c.Name.Kind == "DNS" || c.Name.Kind == "IP") {
		o.Host = c.Name.Value
	}
	if c.Kind == "CLIENT" {
		o.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if c.Depth != nil {
		if o.MaxIntermediates = *c.Depth; o.MaxIntermediates == 0 {
			o.MaxIntermediates = -1
		}
	}
	for _, s := range c.CRLs {
		block, _ := pem.Decode([]byte(s))
		crl, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return o, err
		}
		o.CRLs = append(o.CRLs, crl)
	}
	return o, nil
}

func (c *limboCase) presented() (chain []*x509.Certificate, err error) {
	for _, s := range append([]string{c.Leaf}, c.Intermediates...) {
		parsed, err := parsePEM(s)
		if err != nil {
			return nil, err
		}
		chain = append(chain, parsed)
	}
	return chain, nil
}

func parsePEM(s string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

// judge is Chain's answer, or why it was never asked.
func (c *limboCase) judge(t *testing.T, web bool) error {
	t.Helper()
	now := time.Now()
	if c.Time != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, c.Time); err != nil {
			t.Fatal(err)
		}
	}
	o, err := c.options(web)
	if err != nil {
		return err
	}
	chain, err := c.presented()
	if err != nil {
		return err
	}
	_, err = verify.Chain(chain, o, now)
	return err
}

func limbo(t *testing.T) []limboCase {
	t.Helper()
	path := os.Getenv("CLUSTERCA_LIMBO")
	if path == "" {
		t.Skip("CLUSTERCA_LIMBO names no file: set it to limbo.json of C2SP/x509-limbo, packed with gzip")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var suite struct{ Testcases []limboCase }
	if err := json.NewDecoder(unpacked).Decode(&suite); err != nil {
		t.Fatal(err)
	}
	return suite.Testcases
}

func group(id string) string { g, _, _ := strings.Cut(id, "::"); return g }

// figures count the answers of one judge.
type figures struct{ right, falselyAccepted, falselyRefused int }

func (f *figures) add(accepted, should bool) {
	switch {
	case accepted == should:
		f.right++
	case accepted:
		f.falselyAccepted++
	default:
		f.falselyRefused++
	}
}

func (f *figures) String() string {
	return fmt.Sprintf("%3d right, %2d falsely accepted, %2d falsely refused", f.right, f.falselyAccepted, f.falselyRefused)
}

// Issue 3, A111, A112, B77, B79: x509-limbo, judged twice: without and with the rules of the public web. Each answer
// that is not the suite's stands in limboReasons with the reason, and nothing stands there that is not needed.
func TestLimbo(t *testing.T) {
	cases := limbo(t)
	for _, web := range []bool{false, true} {
		reasons := limboReasons[web]
		groups := make(map[string]*figures)
		all, notWeb := new(figures), new(figures)
		for _, c := range cases {
			err := c.judge(t, web)
			should := c.Expected == "SUCCESS"
			why, known := reasons[c.ID]
			switch agrees := (err == nil) == should; {
			case agrees && known:
				t.Errorf("public web %t: %s agrees now: take it from the table (%s)", web, c.ID, why)
			case !agrees && !known:
				t.Errorf("public web %t: %s: %v, want %s (%s)", web, c.ID, err, c.Expected, c.Description)
			}
			g := group(c.ID)
			if groups[g] == nil {
				groups[g] = new(figures)
			}
			groups[g].add(err == nil, should)
			all.add(err == nil, should)
			if g != "webpki" {
				notWeb.add(err == nil, should)
			}
		}
		for _, g := range slices.Sorted(maps.Keys(groups)) {
			t.Logf("public web %-5t %-12s %v", web, g, groups[g])
		}
		t.Logf("public web %-5t %-12s %v; without webpki: %v", web, "all", all, notWeb)
		if len(cases) != 208 || all.right <= 167 || !web && notWeb.falselyAccepted > 1 {
			t.Errorf("public web %t: of %d cases %v; want over 167 right, and of those not webpki at most one falsely accepted", web, len(cases), all)
		}
	}
}
