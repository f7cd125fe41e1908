package verify

import "time"

// Every bound that an adversary could lean on.
const (
	maxBundle        = 256 << 10 // bytes of a trust state: what one store record holds
	maxReport        = 64 << 10
	maxRegistry      = 160 << 20 // a million entries are about 130 MiB
	maxRoots         = 4
	maxControl       = 64
	maxRetired       = 1024
	maxWaivers       = 1024
	maxDebts         = 1024
	maxIntermediates = 4 // presented: a chain of one bridge and one intermediate needs two
	maxCertificate   = 16 << 10
	maxRemembered    = 8192 // accepted peers that one Verifier remembers: about 1 KiB each, and at most
	maxQuoted        = 128  // bytes of what a peer says of itself, in an error
	maxBrief         = 512  // bytes of another package's error

	maxRememberedChain = 8 << 10 // bytes of such a peer's certificates

	// Of certificates from outside the cluster (Chain).
	maxCandidates     = 100       // intermediates to try: as many as x509 checks signatures
	usualDepth        = 8         // intermediates of one chain, unless the caller says otherwise
	maxForeign        = 256 << 10 // bytes of one certificate: what a TLS message of Go's holds
	maxForeignChain   = 1 << 20
	maxConstraintWork = 1 << 20 // names × constraints
	maxCRLs           = 64
	maxSerialBits     = 159 // 20 octets, the sign's bit aside (RFC 5280 §4.1.2.2)

	// maxSkew is how far ahead of a member's clock a document may have been issued. One from further ahead is refused,
	// not obeyed: one wrong CA clock must not age the whole cluster.
	maxSkew = 5 * time.Minute
)
