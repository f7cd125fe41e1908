package live

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/verify"
)

// ServerConfig returns a configuration for servers that admit such peers, each with a certificate. It stays right
// through every swap. Session tickets are off: a Go ticket is the session, so who has its key can forge any client. A
// host that turns them on is still safe from members that were removed, since resumed sessions are judged again.
//
// The host may set NextProtos and the like; VerifyConnection, GetCertificate and ClientAuth stay as they are (to add a
// check of its own, it wraps VerifyConnection).
func (l *Live) ServerConfig(admit verify.Expect) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &l.now.Load().presented, nil
		},
		// The chain is judged in VerifyConnection. No ClientCAs: a list of names would let a Go client hold its
		// certificate back in the middle of a rollover.
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return l.Check(cs, verify.Client, admit)
		},
	}
}

// ClientConfig returns a configuration for dialling the peer that is expected. It stays right through every swap. The
// expectation is part of it, and never taken from the address: a connection to an IP address names nobody.
func (l *Live) ClientConfig(expect verify.Expect) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Always presented, whatever the server hints at.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &l.now.Load().presented, nil
		},
		InsecureSkipVerify:     true, // VerifyConnection verifies: on resumed sessions too, and by one snapshot
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return l.Check(cs, verify.Server, expect)
		},
	}
}

// Check judges a connection's peer by what is live now: what both configurations do in VerifyConnection, for hosts
// that wrap it. The error is a *verify.Refusal.
func (l *Live) Check(cs tls.ConnectionState, side verify.Side, expect verify.Expect) error {
	_, err := l.now.Load().verifier.Peer(cs.PeerCertificates, side, expect, time.Now())
	if err != nil {
		var leaf fingerprint.Certificate
		if len(cs.PeerCertificates) > 0 {
			leaf = fingerprint.OfCertificate(cs.PeerCertificates[0].Raw)
		}
		l.noteRefusal(err, leaf)
	}
	return err
}

// ErrNoPeer is returned for a connection without a peer certificate.
var ErrNoPeer = errors.New("live: the connection has no peer certificate")

// PeerOf says who stands at the other end of a connection that one of our configurations accepted. VerifiedChains of
// such a connection is empty. Issuer and NotAfter of the peer are not set: they are known during the handshake only.
func PeerOf(cs tls.ConnectionState) (verify.Peer, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return verify.Peer{}, ErrNoPeer
	}
	leaf := cs.PeerCertificates[0]
	id, err := ca.IdentityOf(leaf)
	if err != nil {
		return verify.Peer{}, err
	}
	return verify.Peer{Identity: id, Key: ca.KeyOf(leaf), Leaf: fingerprint.OfCertificate(leaf.Raw)}, nil
}
