package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const pemType = "PRIVATE KEY"

// Generate is described at Keys.
func (d *Dir) Generate(ctx context.Context, label string, a Algorithm) (Signer, error) {
	s, err := d.generate(label, a)
	if err != nil {
		return nil, fmt.Errorf("keystore: generate %q: %w", label, err)
	}
	return s, nil
}

func (d *Dir) generate(label string, a Algorithm) (Signer, error) {
	if err := validLabel(label); err != nil {
		return nil, err
	}
	unlock, err := d.lock(true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	k, err := d.key(label)
	if err == nil {
		return sameAlgorithm(k, a)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made, err := a.generate()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	encoded := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	defer clear(encoded)
	// A crash before this returns leaves no key, or a whole one that the next call finds.
	if err := d.tree.Write(keyFile(label), encoded, 0o600); err != nil {
		return nil, err
	}
	return &softwareKey{key: made, label: label, algorithm: a}, nil
}

func keyFile(label string) string { return keysDir + "/" + label + ".pem" }

// Open is described at Keys.
func (d *Dir) Open(ctx context.Context, label string) (Signer, error) {
	if err := validLabel(label); err != nil {
		return nil, fmt.Errorf("keystore: open key: %w", err)
	}
	k, err := d.key(label)
	if err != nil {
		return nil, fmt.Errorf("keystore: open key %q: %w", label, err)
	}
	return k, nil
}

func (d *Dir) key(label string) (*softwareKey, error) {
	data, err := d.read(keyFile(label), maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile(label), err)
	}
	a, err := AlgorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	return &softwareKey{key: key, label: label, algorithm: a}, nil
}

// parseKey reads exactly one PKCS#8 key in PEM. Its errors say what was found, never what it holds.
func parseKey(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("no PEM block: it is empty, cut off, or not PEM")
	case block.Type != pemType:
		return nil, fmt.Errorf("PEM block %q, want one %q (openssl pkcs8 -topk8 -nocrypt makes it)", block.Type, pemType)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%d bytes follow the key", len(rest))
	case !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")):
		return nil, errors.New("text stands before the key")
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a whole PKCS#8 private key")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T does not sign", parsed)
	}
	return key, nil
}

// Delete is described at Keys. The file is removed; what a file system or a disk keeps of it is theirs.
func (d *Dir) Delete(ctx context.Context, label string) error {
	if err := validLabel(label); err != nil {
		return fmt.Errorf("keystore: delete key: %w", err)
	}
	unlock, err := d.lock(true)
	if err == nil {
		defer unlock()
		err = d.tree.Remove(keyFile(label))
	}
	if err != nil {
		return fmt.Errorf("keystore: delete key %q: %w", label, err)
	}
	return nil
}

// Labels is described at Keys.
func (d *Dir) Labels(ctx context.Context) ([]string, error) {
	entries, err := d.entries(keysDir)
	if err != nil {
		return nil, fmt.Errorf("keystore: labels: %w", err)
	}
	var labels []string
	for _, e := range entries {
		if label, ok := strings.CutSuffix(e.Name(), ".pem"); ok && validLabel(label) == nil {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return labels, nil
}

func (d *Dir) entries(name string) ([]os.DirEntry, error) {
	f, err := d.tree.Root.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}
