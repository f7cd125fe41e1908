//go:build !unix

package durable

import "os"

// Directories cannot be flushed here; the file system journals renames by itself.
func syncDirectory(*os.File) error { return nil }
