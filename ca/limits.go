package ca

// Bounds on what comes from outside.
const (
	maxRequest   = 16 << 10 // bytes of a certification request; one of RSA-8192 is under 3 KiB
	maxHosts     = 64
	maxChain     = 8 // certificates in a file
	maxChainFile = maxChain * 32 << 10
)
