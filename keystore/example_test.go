package keystore_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/clusterca/clusterca/keystore"
	"github.com/clusterca/clusterca/keystore/keytest"
	"github.com/clusterca/clusterca/keystore/storetest"
)

// A daemon's directory: a key that is made once and found at every later start, and a record beside it.
func Example() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)

	for range 2 { // the second time is the next start
		dir, err := keystore.OpenDir(filepath.Join(parent, "ca"))
		if err != nil {
			log.Fatal(err)
		}
		signer, err := dir.Generate(ctx, "root-1", keystore.P256)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(signer)
		revision, err := dir.Replace(ctx, "trust/state", 0, []byte("settled\n"))
		switch {
		case errors.Is(err, keystore.ErrConflict):
			fmt.Println("the record is there")
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println("the record is new, at revision", revision)
		}
		if err := dir.Close(); err != nil {
			log.Fatal(err)
		}
	}
	record, err := os.ReadFile(filepath.Join(parent, "ca", "records", "trust", "state.record"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", record)
	// Output:
	// key "root-1" (p256)
	// the record is new, at revision 1
	// key "root-1" (p256)
	// the record is there
	// revision 1
	// settled
}

// Keys that are encrypted at rest. The configuration holds no passphrase, only where it comes from.
func ExampleDirConfig() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	secret := filepath.Join(parent, "passphrase") // as systemd's LoadCredential= gives it to a service
	if err := os.WriteFile(secret, []byte("correct horse battery staple"), 0o600); err != nil {
		log.Fatal(err)
	}
	config := keystore.DirConfig{Passphrase: func(context.Context, string) ([]byte, error) {
		return keystore.ReadFile(secret, keystore.Private)
	}}
	dir, err := config.Open(filepath.Join(parent, "ca"))
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	signer, err := dir.Generate(ctx, "root-1", keystore.Ed25519)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signer)
	data, err := keystore.ReadFile(filepath.Join(dir.Path(), "keys", "root-1.pem"), keystore.Private)
	if err != nil {
		log.Fatal(err)
	}
	elements, err := keystore.ParsePEM(data)
	fmt.Println(elements, err)

	config.Passphrase = func(context.Context, string) ([]byte, error) { return []byte("battery horse"), nil }
	other, err := config.Open(dir.Path())
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()
	_, err = other.Open(ctx, "root-1")
	fmt.Println(errors.Is(err, keystore.ErrPassphrase))
	fmt.Println(err)
	// Output:
	// key "root-1" (ed25519)
	// [line 1: "PUBLIC KEY" line 4: "ENCRYPTED PRIVATE KEY"] <nil>
	// true
	// keystore: open key "root-1": keys/root-1.pem: wrong passphrase, or the file is damaged
}

// An external CA's key, in a file that its administrator made; others must not be able to read it.
func ExampleOpenKeyFile() {
	for _, check := range keystore.Unchecked() { // none on Unix
		fmt.Println("not checked on this system:", check)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const key = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEICxlJ2NbeLUa4tFVc5ZPWp4nf7bYS7IQdOlWZSJ9Xfst
-----END PRIVATE KEY-----
`
	path := filepath.Join(dir, "external.pem")
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		log.Fatal(err)
	}
	signer, err := keystore.OpenKeyFile(context.Background(), path, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keystore.AlgorithmOf(signer.Public()))

	if err := os.WriteFile(path, []byte(key+key), 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = keystore.OpenKeyFile(context.Background(), path, nil)
	fmt.Println(strings.ReplaceAll(err.Error(), path, "external.pem"))
	// Output:
	// ed25519 <nil>
	// keystore: open key: external.pem: line 4: "PRIVATE KEY" follows the key: a key file holds one key alone
}

// Files for other programs: what would change is shown first, and what was replaced is kept.
func ExampleFolder() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	folder, err := keystore.FolderConfig{Keep: 3}.Open(filepath.Join(parent, "tls"))
	if err != nil {
		log.Fatal(err)
	}
	defer folder.Close()
	for _, bundle := range []string{"one root\n", "one root\nand its successor\n"} {
		plan, err := folder.Plan(
			keystore.File{Name: "pair.pem", Data: []byte("key, leaf and chain\n")},
			keystore.File{Name: "bundle.pem", Data: []byte(bundle), Mode: 0o444},
		)
		if err != nil {
			log.Fatal(err)
		}
		for _, change := range plan.Changes { // or print the plan
			fmt.Println(change.Action, change.Name)
		}
		if err := folder.Apply(ctx, plan); err != nil {
			log.Fatal(err) // keystore.ErrConflict: somebody changed a file meanwhile; plan again
		}
	}
	kept, err := folder.Generations("bundle.pem")
	fmt.Println(kept, err)
	gone, err := folder.Prune(ctx, "bundle.pem", 0)
	fmt.Println(len(gone), err)
	// Output:
	// create pair.pem
	// create bundle.pem
	// replace bundle.pem
	// [{1 .bundle.pem.~1~ 9}] <nil>
	// 1 <nil>
}

// A key's life: made, listed, opened by its label, used, destroyed.
func ExampleKeys() {
	ctx := context.Background()
	var keys keystore.Keys = keystore.NewMemory()
	if _, err := keys.Generate(ctx, "leaf-1", keystore.Ed25519); err != nil {
		log.Fatal(err)
	}
	labels, err := keys.Labels(ctx)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := keys.Open(ctx, labels[0])
	if err != nil {
		log.Fatal(err)
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, []byte("hello"), crypto.Hash(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signer.Label(), len(signature))
	if err := keys.Delete(ctx, "leaf-1"); err != nil {
		log.Fatal(err)
	}
	_, err = keys.Open(ctx, "leaf-1")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// leaf-1 64
	// true
}

// A lease between daemons is a record changed by compare-and-swap: whoever holds it wrote it last.
func ExampleStore() {
	ctx := context.Background()
	var store keystore.Store = keystore.NewMemory()
	revision, err := store.Replace(ctx, "lease", 0, []byte("a"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Replace(ctx, "lease", 0, []byte("b"))
	fmt.Println(errors.Is(err, keystore.ErrConflict))

	lease, err := store.Load(ctx, "lease")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s holds it\n", lease.Value)
	if err := store.Remove(ctx, "lease", revision); err != nil {
		log.Fatal(err)
	}
	list, at, err := store.List(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(list), "records at revision", at)
	// Output:
	// true
	// a holds it
	// 0 records at revision 2
}

// List, then watch from the revision of the list: nothing is missed in between.
func ExampleStore_watch() {
	ctx := context.Background()
	store := keystore.NewMemory()
	_, after, err := store.List(ctx, "members/")
	if err != nil {
		log.Fatal(err)
	}
	a, err := store.Replace(ctx, "members/node/a", 0, []byte("joined"))
	if err != nil {
		log.Fatal(err)
	}
	for record, err := range store.Watch(ctx, "members/", after) {
		if err != nil {
			log.Fatal(err) // keystore.ErrHistoryGone: list again
		}
		if record.Removed {
			fmt.Println(record.Key, "was removed")
			break
		}
		fmt.Printf("%s %s\n", record.Key, record.Value)
		if err := store.Remove(ctx, record.Key, a); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// members/node/a joined
	// members/node/a was removed
}

// What an operator types, what can be made, and what a key is that came from elsewhere.
func ExampleAlgorithmOf() {
	a, err := keystore.ParseAlgorithm("p384")
	if err != nil {
		log.Fatal(err)
	}
	key, err := keystore.NewMemory().Generate(context.Background(), "k", a)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keystore.AlgorithmOf(key.Public()))

	_, err = keystore.ParseAlgorithm("p224")
	fmt.Println(errors.Is(err, keystore.ErrAlgorithm))
	fmt.Println(err)
	fmt.Println(keystore.Algorithms())
	// Output:
	// p384 <nil>
	// true
	// keystore: "p224" is none of [ed25519 p256 p384 rsa2048 rsa3072 rsa4096]: key algorithm is not accepted
	// [ed25519 p256 p384 rsa2048 rsa3072 rsa4096]
}

// Where a directory was opened, for messages to an operator.
func ExampleDir_Path() {
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir, err := keystore.OpenDir(filepath.Join(parent, "ca", "..", "ca"))
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	fmt.Println(dir.Path() == filepath.Join(parent, "ca"))
	// Output: true
}

// A third party's keeper and store are held against the promises in a test of its own.
func Example_conformance() {
	_ = func(t *testing.T) {
		keytest.Run(t, func(*testing.T) keystore.Keys { return keystore.NewMemory() }, keystore.P256, keystore.RSA3072)
		storetest.Run(t, func(*testing.T) keystore.Store { return keystore.NewMemory() })
	}
	// What several processes do at once in such a test:
	store := keystore.NewMemory()
	for range 3 {
		if err := storetest.Increment(store, "counter"); err != nil {
			log.Fatal(err)
		}
	}
	r, err := store.Load(context.Background(), "counter")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strconv.Atoi(string(r.Value)))
	// Output: 3 <nil>
}
