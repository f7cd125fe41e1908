package fingerprint

// Bounds on what comes from outside.
const (
	maxDomain  = 255     // bytes of a trust domain (SPIFFE-ID §2.1)
	maxID      = 255     // bytes of an id as written in a URI
	maxURI     = 1024    // bytes of an identity as written: longer than any valid one, short enough for an error
	maxEntries = 1 << 21 // registry lines: twice the largest cluster that is planned for
	maxLine    = 2048    // bytes of a registry line: an identity, four fingerprints of 64 digits, two times, flags
	maxSpelled = 95      // bytes of a fingerprint as people write it: 32 pairs of digits between colons
)
