package keystore_test

import (
	"context"
	"testing"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/keystore/keytest"
	"github.com/clusterca/clusterca/keystore/storetest"
)

func openDir(t *testing.T, c keystore.DirConfig) *keystore.Dir {
	t.Helper()
	d, err := c.Open(t.TempDir() + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	d.SetRounds(1000)
	t.Cleanup(func() { d.Close() })
	return d
}

// A21, A22, A54, B13, B14, B103: all keepers keep the promises of Keys.
func TestKeys(t *testing.T) {
	algorithms := []keystore.Algorithm{keystore.P256, keystore.P384, keystore.Ed25519, keystore.RSA2048}
	t.Run("Memory", func(t *testing.T) {
		keytest.Run(t, func(*testing.T) keystore.Keys { return keystore.NewMemory() }, algorithms...)
	})
	t.Run("Dir", func(t *testing.T) {
		keytest.Run(t, func(t *testing.T) keystore.Keys { return openDir(t, keystore.DirConfig{}) }, algorithms...)
	})
	t.Run("encrypted Dir", func(t *testing.T) {
		encrypted := keystore.DirConfig{Passphrase: func(context.Context, string) ([]byte, error) { return []byte("horse"), nil }}
		keytest.Run(t, func(t *testing.T) keystore.Keys { return openDir(t, encrypted) }, algorithms...)
	})
}

// B3: both stores keep the promises of Store.
func TestStore(t *testing.T) {
	t.Run("Memory", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) keystore.Store { return keystore.NewMemory() })
	})
	t.Run("Dir", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) keystore.Store { return openDir(t, keystore.DirConfig{}) })
	})
}
