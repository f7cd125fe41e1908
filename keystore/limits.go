package keystore

import "math"

// MaxValue is the largest value of a record, in bytes.
const MaxValue = 256 << 10

// Bounds on what comes from outside.
const (
	maxLinks = 40 // on the way to a file, as in Linux

	maxLabel   = 64
	maxKey     = 512
	maxSegment = 200      // a file name, with room for a suffix
	maxKeyFile = 64 << 10 // a PKCS#8 key of 8192 bits is under 7 KiB in PEM

	maxFile   = 1 << 20 // from outside; the roots of the public web are a quarter of it
	maxFrame  = 128     // a line that begins or ends a PEM element
	maxBroken = 100     // broken PEM elements that are told of, one by one

	// A key file's rounds of PBKDF2. Below, a passphrase is guessed; above, a file makes us work for seconds.
	minRounds     = 1_000
	rounds        = 600_000 // what is written: 0.12 s; OWASP's figure for HMAC-SHA256
	maxRounds     = 10_000_000
	saltSize      = 16
	minSalt       = 8 // what openssl 3.0 writes
	maxSalt       = 64
	keyLength     = 32 // of AES-256
	maxPassphrase = 1024

	minRSA = 2048
	maxRSA = 8192 // what crypto/tls accepts in a handshake; a larger one is a way to burn a verifier's time

	maxHead     = 64       // the line before a record's value
	maxCounter  = 128      // the revision file
	maxChanges  = 64 << 10 // the list of latest changes is begun anew beyond this
	maxRevision = math.MaxInt64

	maxKept = 1000 // generations of a file

	maxRereads = 16 // of a file that is replaced between two looks at it
	maxRelocks = 16 // of a lock file that somebody removes again and again
)
