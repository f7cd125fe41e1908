package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// Backdate is how far before now a certificate begins unless the caller says otherwise: clocks differ. One that lives
// so shortly that this would be most of its life is backdated by a quarter of its lifetime: members renew at a part of
// the whole span, which must lie ahead when the certificate is issued.
const (
	Backdate    = 5 * time.Minute
	maxBackdate = time.Hour
)

// pathLength of every root: one bridge and one intermediate, which is all that a handshake ever carries. A root that
// cannot have a CA below it could never be succeeded without a break, and it cannot be changed later.
const pathLength = 2

// DocumentSigning is the one extended key usage of a document signer: id-kp-documentSigning (RFC 9336 §3.1).
var DocumentSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}

// profile says what a kind of certificate may say: how long it lives when the caller does not say and at most, and what
// its key is for. Basic constraints, key usage and name constraints are critical in all of them.
type profile struct {
	name        string
	usual, most time.Duration
	keyUsage    x509.KeyUsage
	purposes    []purpose // none: not limited, as CAs are
	isCA        bool
	pathLength  int
	job         bool
}

// purpose is an extended key usage.
type purpose struct {
	known   x509.ExtKeyUsage      // what crypto/x509 calls it
	id      asn1.ObjectIdentifier // what it does not know
	encoded []byte
}

var (
	serverAuth   = purpose{known: x509.ExtKeyUsageServerAuth, encoded: oid(1, 3, 6, 1, 5, 5, 7, 3, 1)}
	clientAuth   = purpose{known: x509.ExtKeyUsageClientAuth, encoded: oid(1, 3, 6, 1, 5, 5, 7, 3, 2)}
	documentOnly = purpose{id: DocumentSigning, encoded: oid(DocumentSigning...)}
)

const (
	signs     = x509.KeyUsageDigitalSignature
	certifies = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
)

// All that is ever signed, with all lifetimes and caps. Members renew themselves, so a leaf lives days; the caps leave
// room for members that are renewed by hand, and an authority's rules may raise them. A job's leaf is for one task and
// never renewed. Users only ever dial: a stolen user certificate serves nobody.
var (
	rootProfile         = &profile{"root", 5 * year, 10 * year, certifies, nil, true, pathLength, false}
	bridgeProfile       = &profile{"bridge", 10 * year, 10 * year, certifies, nil, true, pathLength - 1, false}
	intermediateProfile = &profile{"intermediate", year, 2 * year, certifies, nil, true, 0, false}
	documentProfile     = &profile{"document signer", year, 2 * year, signs, []purpose{documentOnly}, false, 0, false}
	revocationProfile   = &profile{name: "CRL", usual: day, most: 30 * day} // no certificate: it lives like one
	leafProfiles        = map[fingerprint.Role]*profile{
		fingerprint.Control: {"control leaf", 7 * day, 90 * day, signs, []purpose{serverAuth, clientAuth}, false, 0, false},
		fingerprint.Node:    {"node leaf", day, 90 * day, signs, []purpose{serverAuth, clientAuth}, false, 0, false},
		fingerprint.User:    {"user leaf", day, 90 * day, signs, []purpose{clientAuth}, false, 0, false},
	}
	jobProfiles = map[fingerprint.Role]*profile{
		fingerprint.Control: {"control job leaf", time.Hour, 7 * day, signs, []purpose{serverAuth, clientAuth}, false, 0, true},
		fingerprint.Node:    {"node job leaf", time.Hour, 7 * day, signs, []purpose{serverAuth, clientAuth}, false, 0, true},
		fingerprint.User:    {"user job leaf", time.Hour, 7 * day, signs, []purpose{clientAuth}, false, 0, true},
	}
)
