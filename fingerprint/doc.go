// Package fingerprint answers: who is this, and what is its key called?
//
// An [Identity] is what a certificate names: trust domain, role and id. A [Key] is the SHA-256 of a public key, a
// [Certificate] the SHA-256 of a whole certificate; they are two types so that they cannot be confused. A [Registry]
// says which key belongs to which member, now and next, who was revoked, and which certificates are void whoever holds
// them. A million members take 63 MB, and an edit copies all of it: make many as one.
//
// All values are immutable and safe for concurrent use.
package fingerprint
