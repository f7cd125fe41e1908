// Package clusterca is the map of a certificate authority that a cluster embeds: it issues, renews and replaces every
// key and certificate of a cluster, the root's included, and no step that it takes ever cuts two live members off
// from each other. The package itself holds no code.
//
// # Map
//
// Each package imports only those below it; a test keeps it so.
//
//	examples/livecluster   the main job, as a program
//	rotation/member        a member's Run; the CA's http.Handler
//	rotation               the trust state's machine, the cluster's operations, the CA daemon
//	rotation/live          what a daemon's TLS uses: one snapshot, configurations that are never rebuilt
//	verify                 would this be accepted, and if not why?
//	ca                     what may be signed, and is it well formed?
//	keystore               where do keys and small records live?
//	keystore/keytest, keystore/storetest   conformance suites for keepers and stores of third parties
//	fingerprint            who is this, and what is its key called?
//
// # Order of calls
//
// Once, where the CA is to run: fingerprint.NewCluster, then member.Enroll of the first control member, whose
// admit function calls rotation.Create.
//
// At each start of the CA daemon: member.Open, rotation.Open, rotation.Cluster.Daemon, and then, side by side,
// Daemon.Run, Member.Run with member.Direct, and an http.Server with member.Handler behind Live().ServerConfig.
//
// Once for each further member: member.Enroll, whose admit function brings the request to rotation.Cluster.Admit
// and the answer back, over a channel that both sides trust.
//
// When a member was off for longer than its leaf lived: member.Reenroll, with the same admit function, before it is opened.
//
// At each start of a member: member.Open, Member.Run with member.Remote, and, when Ready is closed, listeners and
// dials with the configurations of Member.Live.
//
// An operator, from any process that reaches the CA's store: rotation.Cluster.Status (its Roots and a Plan),
// Rollover, Rollback, Forward, Pause, Resume, RequestRenewal, Remove.
//
// # Glossary
//
// A key is a private key that never leaves its keeper; its fingerprint is the SHA-256 of its public half. An identity
// is what a certificate names: trust domain, role and id. A member is whoever has a record at the CA; it is live
// unless it was removed or waived, whether it answers or not. A root is a self-signed CA certificate; its generation
// is its number among the cluster's successive roots. An authority is a CA certificate with its signer, a leaf a
// member's certificate. The trust state, or bundle, is the one numbered value that says what is trusted and which
// root signs; members hold the same bytes that the CA committed. A bridge is a cross certificate: the new root's
// key, certified by the old one. A canary is a leaf of a new root with which members prove that they can verify it.
// The registry says which keys belong to which member, and who was removed. Live credentials are the snapshot that a
// daemon's TLS uses. A report is what a member says of itself, signed by its key: the acknowledgement. The driver is
// the CA daemon that moves a rollover on. A waiver is an operator's decision to step past a member, a debt what that
// member owes until it confirms. A rollover replaces the root, a renewal a leaf, a re-key a member's key. An exchange
// is interrupted when its other process was down: that is not a refused handshake.
package clusterca
