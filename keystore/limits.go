package keystore

import "math"

// MaxValue is the largest value of a record, in bytes.
const MaxValue = 256 << 10

// Bounds on what comes from outside.
const (
	maxLabel   = 64
	maxKey     = 512
	maxSegment = 200      // a file name, with room for a suffix
	maxKeyFile = 64 << 10 // a PKCS#8 key of 8192 bits is under 7 KiB in PEM

	minRSA = 2048
	maxRSA = 8192 // what crypto/tls accepts in a handshake; a larger one is a way to burn a verifier's time

	maxHead     = 64       // the line before a record's value
	maxCounter  = 128      // the revision file
	maxChanges  = 64 << 10 // the list of latest changes is begun anew beyond this
	maxRevision = math.MaxInt64

	maxRereads = 16 // of a file that is replaced between two looks at it
	maxRelocks = 16 // of a lock file that somebody removes again and again
)
