//go:build unix && !linux

package keystore

import "testing"

func bySpace(t *testing.T) full {
	t.Helper()
	t.Skip("a small disk can be had on Linux only")
	return full{}
}
