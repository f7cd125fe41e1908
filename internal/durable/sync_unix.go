//go:build unix

package durable

import "os"

func syncDirectory(d *os.File) error { return d.Sync() }
