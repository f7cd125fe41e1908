package member

import (
	"context"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/verify"
)

// StoredRegistry reads the registry of a member's disk.
func StoredRegistry(ctx context.Context, keys keystore.Keys, store keystore.Store) (*verify.SignedRegistry, error) {
	d, err := openDisk(ctx, keys, store)
	if err != nil {
		return nil, err
	}
	return d.registry(ctx)
}

// StoreRegistry writes the registry of a member's disk.
func StoreRegistry(ctx context.Context, keys keystore.Keys, store keystore.Store, s *verify.SignedRegistry) error {
	d, err := openDisk(ctx, keys, store)
	if err != nil {
		return err
	}
	return d.saveRegistry(ctx, s)
}
