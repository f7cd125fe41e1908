package dsse

// Every bound that an adversary could lean on.
const (
	maxEnvelope   = 2 << 20 // bytes
	maxSignatures = 8       // with as many trusted keys tried for each that names none
	maxDepth      = 32      // of nested JSON values
)
