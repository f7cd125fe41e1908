package ca

import (
	"fmt"
	"strings"

	"github.com/clusterca/clusterca/fingerprint"
)

// maxName is ub-common-name and ub-organization-name (RFC 5280 appendix A).
const maxName = 64

var (
	organizationOID = oid(2, 5, 4, 10)
	commonNameOID   = oid(2, 5, 4, 3)
	serialNumberOID = oid(2, 5, 4, 5)
)

// subject is a distinguished name: an organization and a common name for people, and the cluster's UUID. Nobody is
// authenticated by the first two.
type subject struct{ organization, commonName, cluster string }

// subjectOf names something of a cluster. Without a name for people the trust domain stands in.
func subjectOf(cluster fingerprint.ClusterID, name, commonName string) subject {
	if name = cut(name, maxName); name == "" {
		name = cut(cluster.Domain, maxName)
	}
	return subject{name, cut(commonName, maxName), cluster.UUID}
}

// authoritySubject is different for each CA: a verifier that looks issuers up by name finds one and tries no other.
func authoritySubject(cluster fingerprint.ClusterID, name, what string, key fingerprint.Key) subject {
	suffix := fmt.Sprintf(" %s %x", what, key[:4])
	return subjectOf(cluster, name, cut(cluster.Domain, maxName-len(suffix))+suffix)
}

func (s subject) encode() []byte {
	b := make(der, 0, 256)
	b.element(tagSequence, func() {
		b.attribute(organizationOID, s.organization)
		b.attribute(commonNameOID, s.commonName)
		b.attribute(serialNumberOID, s.cluster)
	})
	return b
}

// cut shortens s to n bytes of whole UTF-8 characters.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
