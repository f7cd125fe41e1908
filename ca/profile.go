package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"github.com/clusterca/clusterca/fingerprint"
)

// DocumentSigning is the one extended key usage of a document signer: id-kp-documentSigning (RFC 9336 §3.1).
var DocumentSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}

// pathLength of every root: one bridge and one intermediate, which is all that a handshake ever carries. A root that
// cannot have a CA below it could never be succeeded without a break, and it cannot be changed later.
const pathLength = 2

// maxName is ub-common-name and ub-organization-name (RFC 5280 appendix A).
const maxName = 64

// usages are the extended key usages of a role. Users only ever dial: a stolen user certificate serves nobody.
func usages(r fingerprint.Role) []x509.ExtKeyUsage {
	if r == fingerprint.User {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
}

// caTemplate is what roots and bridges have in common. The URI constraint is a second line only: verifiers compare the
// whole identity.
func caTemplate(id fingerprint.ClusterID, subject pkix.Name, key fingerprint.Key, v validity) *x509.Certificate {
	return &x509.Certificate{
		Subject:                     subject,
		NotBefore:                   v.notBefore,
		NotAfter:                    v.notAfter,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  pathLength,
		SubjectKeyId:                keyID(key),
		URIs:                        []*url.URL{{Scheme: "spiffe", Host: id.Domain}},
		PermittedDNSDomainsCritical: true, // of all name constraints, despite its name
		PermittedURIDomains:         []string{id.Domain},
	}
}

// rootSubject is different for each root: a verifier that looks roots up by name finds one and tries no other.
func rootSubject(r RootRequest, key fingerprint.Key) pkix.Name {
	suffix := fmt.Sprintf(" root g%d %x", r.Generation, key[:4])
	return pkix.Name{
		Organization: organization(r.Name, r.Cluster),
		CommonName:   cut(r.Cluster.Domain, maxName-len(suffix)) + suffix,
		SerialNumber: r.Cluster.UUID,
	}
}

// leafSubject is for people and for the cluster's UUID. Nobody is authenticated by the common name.
func leafSubject(name, id string, cluster fingerprint.ClusterID) pkix.Name {
	return pkix.Name{Organization: organization(name, cluster), CommonName: cut(id, maxName), SerialNumber: cluster.UUID}
}

func organization(name string, cluster fingerprint.ClusterID) []string {
	if name == "" {
		name = cluster.Domain
	}
	return []string{cut(name, maxName)}
}

// cut shortens s to n bytes of whole UTF-8 characters.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// keyID is the subject key identifier: the leftmost 160 bits of the SHA-256 of the SubjectPublicKeyInfo (RFC 7093 §2
// method 4, cut as in method 1).
func keyID(key fingerprint.Key) []byte { return key[:20:20] }

// newSerial returns 127 random bits, positive: unique without anybody to ask (RFC 5280 §4.1.2.2).
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	b[15] |= 1 // never zero
	return new(big.Int).SetBytes(b[:])
}
