// Package live answers: what does a daemon's TLS use at this moment?
//
// A [Live] holds one snapshot (leaf, chain, key, trust state, registry) behind one atomic pointer. The configurations
// of [Live.ServerConfig] and [Live.ClientConfig] read it at every handshake and are never rebuilt; [Live.Install] swaps
// it as a whole, or refuses and keeps the last good one. Peers are judged in VerifyConnection, which resumed sessions
// pass through too.
package live
