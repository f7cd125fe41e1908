package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	const pass = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	const skip = `{"Action":"output","Package":"p","Test":"TestB","Output":"    x_test.go:3: long: run ./test.sh -long\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
	const fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"the reason\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestC"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
	for _, test := range []struct {
		name, in, last string
		says           string
		code           int
	}{
		{"all well", pass + skip, "1 passed, 0 failed, 1 skipped", "skipped 1: long: run ./test.sh -long", 0},
		{"one failed", pass + fail, "1 passed, 1 failed, 0 skipped", "the reason", 1},
		{"nothing ran", "", "0 passed, 0 failed, 0 skipped", "", 1},
		{"does not build", pass + `{"Action":"fail","Package":"q"}`, "1 passed, 1 failed, 0 skipped", "FAIL  q", 1},
		{"not JSON", pass + "go: no such thing\n", "1 passed, 0 failed, 0 skipped", "no such thing", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := count(strings.NewReader(test.in), &out)
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if got := lines[len(lines)-1]; got != test.last || code != test.code || !strings.Contains(out.String(), test.says) {
				t.Errorf("code %d, want %d, output:\n%s", code, test.code, &out)
			}
		})
	}
}
