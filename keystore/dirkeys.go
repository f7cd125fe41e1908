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

// generate makes the key outside the lock: RSA takes seconds, and so may whoever is asked for a passphrase. Of two
// callers at once the first one's key stays.
func (d *Dir) generate(ctx context.Context, label string, a Algorithm) (Signer, error) {
	for {
		k, err := d.lastingKey(ctx, label)
		if err == nil {
			return k.as(a)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		k, err = d.create(ctx, label, a)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, errMadeMeanwhile) {
			return nil, err
		}
	}
}

// errMadeMeanwhile says that another caller's key is there by now.
var errMadeMeanwhile = errors.New("somebody made it meanwhile")

func (d *Dir) create(ctx context.Context, label string, a Algorithm) (*softwareKey, error) {
	made, err := a.generate()
	if err != nil {
		return nil, err
	}
	k := &softwareKey{key: made, label: label, algorithm: a}
	encoded, err := d.encode(ctx, k)
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	release, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	held, err := d.readKeyFile(label)
	clear(held)
	switch {
	case err == nil:
		return nil, errMadeMeanwhile
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// A crash before this returns leaves no key, or a whole one that the next call finds.
	return k, d.tree.Write(keyFile(label), encoded, 0o600)
}

// lastingKey reads a key and makes sure that it stays: whoever made it may have been killed before its name was
// flushed, and what our caller records about it next may be flushed earlier.
func (d *Dir) lastingKey(ctx context.Context, label string) (*softwareKey, error) {
	k, err := d.key(ctx, label)
	if err != nil {
		return nil, err
	}
	return k, d.tree.SyncDir(keysDir)
}

// encode makes a key's file.
func (d *Dir) encode(ctx context.Context, k *softwareKey) ([]byte, error) {
	if d.passphrase == nil {
		der, err := x509.MarshalPKCS8PrivateKey(k.key)
		if err != nil {
			return nil, err
		}
		defer clear(der)
		return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
	}
	secret, err := d.passphrase.ask(ctx, k.label)
	defer clear(secret)
	if err != nil {
		return nil, err
	}
	return encodeEncrypted(k.key, secret, d.rounds)
}

// Open is described at Keys.
func (d *Dir) Open(ctx context.Context, label string) (Signer, error) {
	if err := errors.Join(validLabel(label), ctx.Err()); err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	k, err := d.key(ctx, label)
	if err != nil {
		return nil, fmt.Errorf("keystore: open key %q: %w", label, err)
	}
	return k, nil
}

func (d *Dir) key(ctx context.Context, label string) (*softwareKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := d.readKeyFile(label)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, a, err := readKey(data, d.passphrase.of(ctx, label))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile(label), err)
	}
	return &softwareKey{key: key, label: label, algorithm: a}, nil
}

func (d *Dir) readKeyFile(label string) ([]byte, error) {
	data, err := d.read(keyFile(label), maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		// Another error than this one must not read as "not there": the caller would make a new key.
		if near := d.misnamed(label); near != nil {
			return nil, near
		}
	}
	return data, err
}

// readKey reads a key of an algorithm that we accept.
func readKey(data []byte, passphrase func() ([]byte, error)) (crypto.Signer, Algorithm, error) {
	key, err := parseKey(data, passphrase)
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
