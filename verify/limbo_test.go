package verify_test

import (
	"compress/gzip"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clusterca/clusterca/verify"
)

// limboCase is one case of x509-limbo (limbo.json of C2SP/x509-limbo), as far as it is read.
type limboCase struct {
	ID            string                        `json:"id"`
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

func TestLimbo(t *testing.T) {
	for _, web := range []bool{false, true} {
		right, fa, fr := 0, 0, 0
		for _, c := range limbo(t) {
			err := c.judge(t, web)
			if (err == nil) == (c.Expected == "SUCCESS") {
				right++
				continue
			}
			if err == nil {
				fa++
			} else {
				fr++
			}
			fmt.Println(web, c.ID, c.Expected, err)
		}
		fmt.Println(web, right, fa, fr)
	}
}
