package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// IntermediateRequest says what an intermediate is called and how long it lives. The cluster is the authority's.
type IntermediateRequest struct {
	Name     string        // for people; empty: the trust domain
	Lifetime time.Duration // 0: 1 year; at most 2
	Backdate time.Duration // 0: Backdate
	Clamp    bool          // as in Request
	Now      time.Time     // zero: the present
}

// NewIntermediateRequest makes the request file of an intermediate: where its key is, to be carried to the root, which
// may be offline. It is one PEM block (PKCS#10) that proves possession of the signer's key and names the cluster; it
// holds no secret. The error wraps fingerprint.ErrIdentity or keystore.ErrAlgorithm.
func NewIntermediateRequest(signer crypto.Signer, cluster fingerprint.ClusterID) ([]byte, error) {
	if err := cluster.Validate(); err != nil {
		return nil, fmt.Errorf("ca: request of an intermediate: %w", err)
	}
	der, err := newRequest(signer, cluster.URI(), subjectOf(cluster, "", cluster.Domain))
	if err != nil {
		return nil, fmt.Errorf("ca: request of an intermediate of %q: %w", cluster.Domain, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequests[0], Bytes: der}), nil
}

// SignIntermediate answers a request file with a response file: the intermediate's certificate and the authority's own,
// in PEM. It may have no CA below it. From the request only the key is taken; one that names another cluster is
// refused. The error wraps ErrRequest, keystore.ErrAlgorithm or ErrLifetime.
func (a *Authority) SignIntermediate(request []byte, r IntermediateRequest) ([]byte, error) {
	c, err := a.signIntermediate(request, r)
	if err != nil {
		return nil, fmt.Errorf("ca: sign an intermediate of %q: %w", a.cluster.Domain, err)
	}
	return encodeChain(c, a.certificate), nil
}

func (a *Authority) signIntermediate(request []byte, r IntermediateRequest) (*x509.Certificate, error) {
	if err := a.cluster.Validate(); err != nil {
		return nil, err
	}
	der, err := decodeRequest(request)
	if err != nil {
		return nil, err
	}
	csr, err := parseRequest(der, a.cluster.URI())
	if err != nil {
		return nil, err
	}
	if uuid := csr.Subject.SerialNumber; uuid != a.cluster.UUID {
		return nil, fmt.Errorf("it is of cluster %.36q, the authority of %s: %w", uuid, a.cluster.UUID, ErrRequest)
	}
	life, err := intermediateProfile.lifetime(r.Lifetime)
	if err != nil {
		return nil, err
	}
	d, err := a.subordinate(intermediateProfile, csr.PublicKey, r.Now, r.Backdate, life, r.Clamp)
	if err != nil {
		return nil, err
	}
	d.uri, d.domain = a.cluster.URI(), a.cluster.Domain
	d.subject = authoritySubject(a.cluster, r.Name, "intermediate", d.key.fingerprint).encode()
	return a.sign(d)
}

// AcceptIntermediate puts the response file together with the key at whose place the request was made. The root is the
// one that the caller trusts: what the file says of its root counts for nothing. The error wraps ErrMismatch when the
// key is another's, and ErrChain when the certificate is not a good intermediate of the root's cluster at this time.
func AcceptIntermediate(response []byte, signer crypto.Signer, root *x509.Certificate, now time.Time) (*Authority, error) {
	a, err := acceptIntermediate(response, signer, root, now)
	if err != nil {
		return nil, fmt.Errorf("ca: accept an intermediate of %q: %w", root.Subject.CommonName, err)
	}
	return a, nil
}

func acceptIntermediate(response []byte, signer crypto.Signer, root *x509.Certificate, now time.Time) (*Authority, error) {
	if now.IsZero() {
		now = time.Now()
	}
	chain, err := parseChain(response)
	if err != nil {
		return nil, err
	}
	if len(chain) > 2 || len(chain) == 2 && !bytes.Equal(chain[1].Raw, root.Raw) {
		return nil, fmt.Errorf("the response is of root %q: take the one of the root that you trust: %w", chain[len(chain)-1].Subject.CommonName, ErrChain)
	}
	a, err := Open(chain[0], signer)
	if err != nil {
		return nil, err
	}
	// A root that was imported may name no cluster at all; what it does name must be this one.
	named := clusterOf(root)
	if named.UUID != "" && named.UUID != a.cluster.UUID || named.Domain != "" && named.Domain != a.cluster.Domain || a.cluster.Validate() != nil {
		return nil, fmt.Errorf("it is of cluster %s (%s): %w", a.cluster.UUID, a.cluster.Domain, ErrChain)
	}
	return a, goodAuthority(chain[0], root, now)
}

// ErrChain is wrapped when CA certificates do not lead to where they should.
var ErrChain = errors.New("not a good chain of CA certificates")

// goodLink says whether one CA certificate is well issued by another at a time.
func goodLink(c, issuer *x509.Certificate, now time.Time) error {
	name := c.Subject.CommonName
	switch {
	case len(c.SubjectKeyId) == 0 || !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
		return fmt.Errorf("%q has no subject key identifier, or another issuer's: %w", name, ErrChain)
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("%q names %q as its issuer: %w", name, c.Issuer.CommonName, ErrChain)
	case issuer.MaxPathLen >= 0 && (c.MaxPathLen < 0 || c.MaxPathLen >= issuer.MaxPathLen):
		return fmt.Errorf("%q has path length %d below one of %d: %w", name, c.MaxPathLen, issuer.MaxPathLen, ErrChain)
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return notNow(c)
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("%q: %w: %w", name, ErrChain, err)
	}
	return nil
}
