package durable_test

import (
	"fmt"
	"log"
	"os"

	"github.com/clusterca/clusterca/internal/durable"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer root.Close()

	tree := &durable.Tree{Root: root}
	if err := tree.MkdirAll(durable.Temp); err != nil {
		log.Fatal(err)
	}
	// What a process that was killed left behind.
	if err := tree.Clean(); err != nil {
		log.Fatal(err)
	}
	before := tree.Syncs()
	if err := tree.Write("leaf.pem", []byte("certificate"), 0o600); err != nil {
		log.Fatal(err)
	}
	fmt.Println(tree.Syncs()-before, "fsync calls")
	// Output: 2 fsync calls
}
