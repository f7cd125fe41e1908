package keystore_test

import (
	"testing"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/keystore/keytest"
	"github.com/clusterca/clusterca/keystore/storetest"
)

func openDir(t *testing.T) *keystore.Dir {
	t.Helper()
	d, err := keystore.OpenDir(t.TempDir() + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// A21, A54, B13: both keepers keep the promises of Keys.
func TestKeys(t *testing.T) {
	algorithms := []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA2048}
	t.Run("Memory", func(t *testing.T) {
		keytest.Run(t, func(*testing.T) keystore.Keys { return keystore.NewMemory() }, algorithms...)
	})
	t.Run("Dir", func(t *testing.T) {
		keytest.Run(t, func(t *testing.T) keystore.Keys { return openDir(t) }, algorithms...)
	})
}

// B3: both stores keep the promises of Store.
func TestStore(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) keystore.Store { return keystore.NewMemory() })
	})
	t.Run("Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) keystore.Store { return openDir(t) })
	})
}
