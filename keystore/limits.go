package keystore

// Bounds on what comes from outside.
const (
	maxLabel   = 64
	maxKey     = 512
	maxSegment = 200      // a file name, with room for a suffix
	maxKeyFile = 64 << 10 // a PKCS#8 key of 8192 bits is under 7 KiB
)
