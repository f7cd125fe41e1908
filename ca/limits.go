package ca

// Bounds on what comes from outside.
const (
	maxRequest    = 16 << 10 // bytes of a certification request; one of RSA-8192 is under 3 KiB
	maxHosts      = 64
	maxSerialBits = 159     // 20 octets, the sign's bit aside (RFC 5280 §4.1.2.2)
	maxRevoked    = 1 << 20 // entries of a CRL: about 40 MB
	maxChain      = 8       // certificates in a file
	maxChainFile  = maxChain * 32 << 10
)
