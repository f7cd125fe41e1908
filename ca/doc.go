// Package ca answers: what may be signed, and is it well formed?
//
// An [Authority] is a CA certificate and the signer that matches it. It signs what the profile of a role allows and
// nothing else: from a request only the key is taken ([ParseRequest]); names and dates come from the caller, and
// usages, lifetimes and caps from the one table in profile.go. Every certificate is encoded, parsed in full and held
// against the rules of lint.go before it is signed; the bytes that are signed are the ones that were read; and the
// signature is checked before the certificate is released.
//
// Authorities come from [CreateRoot] and [Open]; from [NewIntermediateRequest], [Authority.SignIntermediate] and
// [AcceptIntermediate] under a root that stays offline; from [Import] where somebody else made the CA certificate.
// [Authorities] holds several at once. [Rules] add a policy and a [Recorder]: nothing is released before it is
// recorded, and [Log] is a recorder whose entries prove that none was changed or taken out.
//
// Any crypto.Signer can be an authority's key: one in memory, in a file or in a token. An Authority is immutable and
// safe for concurrent use when its signer is.
package ca
