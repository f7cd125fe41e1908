package keystore

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	one = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
	two = "-----BEGIN X509 CRL-----\nMAMCAQI=\n-----END X509 CRL-----\n"
)

// What careful readers take: each element once, with its place, and the text before it.
func TestParsePEM(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"one":                     {one, "1 CERTIFICATE 30030201 01"},
		"two":                     {one + two, "1 CERTIFICATE 30030201 01|4 X509 CRL 30030201 02"},
		"blank lines":             {"\n\n" + one + "\n \t\n" + two + "\n\n", "3 CERTIFICATE 30030201 01|8 X509 CRL 30030201 02"},
		"carriage returns":        {strings.ReplaceAll(one, "\n", "\r\n"), "1 CERTIFICATE 30030201 01"},
		"no last line end":        {strings.TrimSuffix(one, "\n"), "1 CERTIFICATE 30030201 01"},
		"text before":             {"subject=CN = x\n# a comment\n" + one, "3 CERTIFICATE 30030201 01 subject=CN = x\n# a comment\n"},
		"a rule of hyphens":       {"Some CA\n-------\n" + one, "3 CERTIFICATE 30030201 01 Some CA\n-------\n"},
		"short lines":             {"-----BEGIN CERTIFICATE-----\nMAMC\n AQE=  \n-----END CERTIFICATE-----\n", "1 CERTIFICATE 30030201 01"},
		"nothing in the label":    {"-----BEGIN A B-C 2-----\nMAMCAQE=\n-----END A B-C 2-----", "1 A B-C 2 30030201 01"},
		"a hyphen in the comment": {"a - b\n" + one, "2 CERTIFICATE 30030201 01 a - b\n"},
	} {
		elements, err := ParsePEM([]byte(test.data))
		var got []string
		for _, e := range elements {
			text := fmt.Sprintf("%d %s %x %x", e.Line, e.Type, e.Bytes[:4], e.Bytes[4:])
			if e.Text != "" {
				text += " " + e.Text
			}
			got = append(got, text)
		}
		if err != nil || strings.Join(got, "|") != test.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}
}

// A36: one error a broken element, with its line, and then no elements at all: encoding/pem drops what it cannot read.
func TestParseBrokenPEM(t *testing.T) {
	broken := func(s, old, new string) string { return strings.Replace(s, old, new, 1) }
	for name, test := range map[string]struct {
		data string
		says []string
	}{
		"empty":               {"", []string{"no PEM element"}},
		"white space":         {"\n \n", []string{"no PEM element"}},
		"DER":                 {"0\x03\x02\x01\x01", []string{"no PEM element"}},
		"cut off in the body": {one + two[:30], []string{`line 4: "X509 CRL" without an END line: it was cut off`}},
		"cut off in the END":  {one[:len(one)-5], []string{`line 1: "CERTIFICATE" without an END line before line 3`}},
		"second one broken":   {one + broken(two, "MAM", "M!M") + one, []string{`line 4: "X509 CRL" is not whole base64`}},
		"two of three broken": {
			broken(one, "MAM", "MA") + two + broken(one, "-----END CERTIFICATE-----\n", ""),
			[]string{`line 1: "CERTIFICATE" is not whole base64`, `line 7: "CERTIFICATE" without an END line: it was cut off`},
		},
		"no END before the next":   {broken(one, "-----END CERTIFICATE-----\n", "") + two, []string{`line 1: "CERTIFICATE" without an END line before line 3`}},
		"no BEGIN":                 {broken(one, "-----BEGIN CERTIFICATE-----\n", "") + two, []string{"line 2: a line that frames no element"}},
		"misspelt BEGIN":           {broken(one, "-----BEGIN", "----BEGIN") + two, []string{"line 1: a line that frames no element", "line 3: a line that frames no element"}},
		"indented BEGIN":           {" " + one, []string{"line 1: a line that frames no element", "line 3: a line"}},
		"ends as another":          {broken(one, "END CERTIFICATE", "END X509 CRL"), []string{`line 1: "CERTIFICATE" ends as "X509 CRL"`}},
		"empty element":            {broken(one, "MAMCAQE=\n", ""), []string{`line 1: "CERTIFICATE" is empty`}},
		"bits in the padding":      {broken(one, "AQE=", "AQF="), []string{"not whole base64"}},
		"data after the padding":   {broken(one, "AQE=", "AQE=AQE="), []string{"not whole base64"}},
		"headers":                  {broken(one, "MAM", "Proc-Type: 4,ENCRYPTED\n\nMAM"), []string{`line 1: "CERTIFICATE" has headers`}},
		"text after":               {one + "\nfinis\n", []string{"line 5: 6 bytes of text after the last element"}},
		"a zero byte after":        {one + "\x00", []string{"line 4: 2 bytes of text after"}},
		"no label":                 {"-----BEGIN -----\nMAMCAQE=\n-----END -----\n", []string{"line 1: a line that frames", "line 3: a line that frames"}},
		"a label of control bytes": {"-----BEGIN \x1b[2J-----\nMAMCAQE=\n-----END \x1b[2J-----\n", []string{"line 1: a line that frames", "line 3: a line"}},
	} {
		elements, err := ParsePEM([]byte(test.data))
		if err == nil || len(elements) > 0 {
			t.Errorf("%s: %v, %v", name, elements, err)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(test.says) {
			t.Errorf("%s: %q, want %d errors", name, lines, len(test.says))
		}
		for i, line := range lines[:min(len(lines), len(test.says))] {
			if !strings.Contains(line, test.says[i]) {
				t.Errorf("%s: %q, want it to say %q", name, line, test.says[i])
			}
		}
	}
}

// The errors of a file of nothing but broken elements are bounded.
func TestBrokenPEMIsBounded(t *testing.T) {
	if _, err := ParsePEM(make([]byte, maxFile+1)); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("over-long: %v", err)
	}
	_, err := ParsePEM(bytes.Repeat([]byte("-----BEGIN A-----\n"), 10_000))
	if n := strings.Count(err.Error(), "\n"); n != maxBroken {
		t.Errorf("%d errors, want %d", n, maxBroken)
	}
}

// A54: an element may be a private key.
func TestElementPrintsNothingSecret(t *testing.T) {
	e := Element{Type: "PRIVATE KEY", Bytes: []byte("0123456789abcdef"), Line: 7}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, text := range []string{fmt.Sprintf(verb, e), fmt.Sprintf(verb, []Element{e}), fmt.Sprintf(verb, struct{ E *Element }{&e})} {
			if shows(text, e.Bytes) {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	}
}

// Whatever is taken is what encoding/pem finds too, and written again it is the same; nothing but white space and the
// text that is returned was passed over.
func FuzzParsePEM(f *testing.F) {
	f.Add([]byte(one + two))
	f.Add([]byte("text\n" + one))
	f.Add([]byte(one[:40]))
	f.Add([]byte("-----BEGIN A-----\n-----BEGIN B-----\n-----END A-----"))
	f.Fuzz(func(t *testing.T, data []byte) {
		elements, err := ParsePEM(data)
		if err != nil {
			if len(elements) > 0 {
				t.Error("elements with an error")
			}
			return
		}
		var again []byte
		for _, e := range elements {
			again = append(again, e.Text...)
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: e.Type, Bytes: e.Bytes})...)
		}
		second, err := ParsePEM(again)
		if err != nil || !slices.EqualFunc(elements, second, sameElement) {
			t.Fatalf("%q, then %v, %v", data, second, err)
		}
		if visible(again) < visible(data) {
			t.Errorf("%q was read as %q", data, again)
		}
		for _, e := range elements {
			var b *pem.Block
			if b, data = pem.Decode(data); b == nil || b.Type != e.Type || !bytes.Equal(b.Bytes, e.Bytes) {
				t.Errorf("encoding/pem finds %v for %v", b, e)
			}
		}
	})
}

func sameElement(a, b Element) bool {
	return a.Type == b.Type && a.Text == b.Text && bytes.Equal(a.Bytes, b.Bytes)
}

// visible counts what is no white space.
func visible(data []byte) int { return len(bytes.Join(bytes.Fields(data), nil)) }
