// Package ca answers: what may be signed, and is it well formed?
//
// An [Authority] is a CA certificate and the signer that matches it. It signs what the profile of a role allows and
// nothing else: from a request only the key is taken ([ParseRequest]); names, usages and dates come from the caller
// and from the tables in lifetimes.go and profile.go. Every certificate is parsed again and compared with what was
// asked for before it is released.
//
// Any crypto.Signer can be an authority's key: one in memory, in a file or in a token. An Authority is immutable and
// safe for concurrent use when its signer is.
package ca
