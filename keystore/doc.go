// Package keystore answers: where do keys and small records live?
//
// [Keys] makes and opens private keys, which never leave their keeper; [Store] keeps small records that several
// daemons share, with compare-and-swap. [Memory] and [Dir] are both. Third parties check their own with the suites in
// keytest and storetest.
//
// [Folder] keeps whole files that other programs read, planned before they are changed; [ReadFile], [OpenKeyFile] and
// [ParsePEM] read what others wrote.
//
// A private key is meant to live where it was made: the interfaces have no call that ships one. Certificates are
// handled as bytes and never judged here.
package keystore
