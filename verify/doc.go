// Package verify answers: would this be accepted, and if not why?
//
// A [Bundle] is the trust state: the one numbered value that says what is trusted. A [Verifier] judges a peer's
// certificates by one bundle and one registry, and refuses with a [Refusal] that names side, certificate, field and
// remedy. [Mutual] judges every pair of a cluster. [Advance] follows a chain of signed bundles, each checked against
// the one before. The same code decides in handshakes and before steps.
//
// [Chain] is for callers outside a cluster: it judges any certificate chain, closing what x509.Certificate.Verify lets
// through, with CRLs, and with the rules of the public web where they are asked for.
//
// Everything here is a value and a pure function of its arguments; time is an argument.
package verify
