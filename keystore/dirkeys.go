package keystore

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

const keySuffix = ".pem"

func keyFile(label string) string { return keysDir + "/" + label + keySuffix }

// keyLabel is the inverse of keyFile for a name in the directory of keys.
func keyLabel(name string) (string, bool) {
	label, ok := strings.CutSuffix(name, keySuffix)
	return label, ok && validLabel(label) == nil
}

// Generate is described at Keys.
func (d *Dir) Generate(ctx context.Context, label string, a Algorithm) (Signer, error) {
	if err := validLabel(label); err != nil {
		return nil, fmt.Errorf("keystore: generate: %w", err)
	}
	s, err := d.generate(ctx, label, a)
	if err != nil {
		return nil, fmt.Errorf("keystore: generate %q: %w", label, err)
	}
	return s, nil
}

// generate makes the key outside the lock: RSA takes seconds. Of two callers at once the first one's key stays.
func (d *Dir) generate(ctx context.Context, label string, a Algorithm) (Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := d.lastingKey(label)
	if err == nil {
		return k.as(a)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made, err := a.generate()
	if err != nil {
		return nil, err
	}
	release, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if k, err := d.lastingKey(label); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return k.as(a)
	}
	k = &softwareKey{key: made, label: label, algorithm: a}
	return k, d.writeKey(k)
}

// lastingKey reads a key and makes sure that it stays: whoever made it may have been killed before its name was flushed,
// and what our caller records about it next may be flushed earlier.
func (d *Dir) lastingKey(label string) (*softwareKey, error) {
	k, err := d.key(label)
	if err != nil {
		return nil, err
	}
	return k, d.tree.SyncDir(keysDir)
}

func (d *Dir) writeKey(k *softwareKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return err
	}
	defer clear(der)
	encoded := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	defer clear(encoded)
	// A crash before this returns leaves no key, or a whole one that the next call finds.
	return d.tree.Write(keyFile(k.label), encoded, 0o600)
}

// Open is described at Keys.
func (d *Dir) Open(ctx context.Context, label string) (Signer, error) {
	if err := errors.Join(validLabel(label), ctx.Err()); err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	k, err := d.key(label)
	if err != nil {
		return nil, fmt.Errorf("keystore: open key %q: %w", label, err)
	}
	return k, nil
}

func (d *Dir) key(label string) (*softwareKey, error) {
	name := keyFile(label)
	data, err := d.read(name, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		// Another error than this one must not read as "not there": the caller would make a new key.
		if near := d.misnamed(label); near != nil {
			return nil, near
		}
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, a, err := readKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &softwareKey{key: key, label: label, algorithm: a}, nil
}

// readKey reads a key of an algorithm that we accept.
func readKey(data []byte) (crypto.Signer, Algorithm, error) {
	key, err := parseKey(data)
	if err != nil {
		return nil, "", err
	}
	a, err := AlgorithmOf(key.Public())
	return key, a, err
}

// Delete is described at Keys. The file is removed; what a file system or a disk keeps of it is theirs.
func (d *Dir) Delete(ctx context.Context, label string) error {
	if err := validLabel(label); err != nil {
		return fmt.Errorf("keystore: delete key: %w", err)
	}
	if err := d.delete(ctx, keyFile(label)); err != nil {
		return fmt.Errorf("keystore: delete key %q: %w", label, err)
	}
	return nil
}

func (d *Dir) delete(ctx context.Context, name string) error {
	release, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	info, err := d.tree.Root.Lstat(name)
	if err == nil && info.Mode().IsRegular() && links(info) > 1 {
		return fmt.Errorf("%s has %d hard links, and the key would live on under another name: remove that first", name, links(info))
	}
	return d.tree.Remove(name)
}

// Labels is described at Keys. A file that is not a key by its name is an error: somebody meant something by it.
func (d *Dir) Labels(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("keystore: labels: %w", err)
	}
	entries, err := d.entries(keysDir)
	if err != nil {
		return nil, fmt.Errorf("keystore: labels: %w", err)
	}
	labels := make([]string, 0, len(entries))
	for _, e := range entries {
		label, ok := keyLabel(e.Name())
		if !ok {
			return nil, fmt.Errorf("keystore: labels: %s/%.300q is no key of ours: expected <label>%s; rename it or move it away", keysDir, e.Name(), keySuffix)
		}
		labels = append(labels, label)
	}
	slices.Sort(labels)
	return labels, nil
}
