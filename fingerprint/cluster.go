package fingerprint

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
)

// ClusterID names a cluster: its trust domain, and a random UUID that keeps two clusters of one name apart. The UUID
// stands in the subject's serialNumber of every certificate and is compared as a value.
type ClusterID struct {
	Domain string `json:"domain"`
	UUID   string `json:"uuid"`
}

// NewCluster names a new cluster. The trust domain is lower-case labels joined by dots, at most 255 bytes and not an
// IP address; anything else is refused, never folded. The error wraps ErrIdentity.
func NewCluster(domain string) (ClusterID, error) {
	c := ClusterID{Domain: domain, UUID: NewUUID()}
	if err := c.Validate(); err != nil {
		return ClusterID{}, err
	}
	return c, nil
}

// Validate says why c cannot name a cluster. The error wraps ErrIdentity.
func (c ClusterID) Validate() error {
	if err := validDomain(c.Domain); err != nil {
		return err
	}
	if !validUUID(c.UUID) {
		return fmt.Errorf("fingerprint: cluster UUID %q is not a lower-case RFC 9562 UUID: %w", c.UUID, ErrIdentity)
	}
	return nil
}

// URI is what the cluster's roots carry: spiffe://<trust domain>.
func (c ClusterID) URI() string { return scheme + c.Domain }

// Member names a member of the cluster. The error wraps ErrIdentity.
func (c ClusterID) Member(role Role, id string) (Identity, error) {
	i := Identity{Domain: c.Domain, Role: role, ID: id}
	if err := i.Validate(); err != nil {
		return Identity{}, err
	}
	return i, nil
}

// NewUUID returns a random UUID of version 4 (RFC 9562 §5.4), which is what nodes are called unless they are given a name.
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func validUUID(s string) bool { return parseUUID(make([]byte, uuidSize), s) }

func validDomain(domain string) error {
	if len(domain) == 0 || len(domain) > maxDomain {
		return fmt.Errorf("fingerprint: trust domain of %d bytes, 1 to %d are allowed: %w", len(domain), maxDomain, ErrIdentity)
	}
	if _, err := netip.ParseAddr(domain); err == nil {
		return fmt.Errorf("fingerprint: trust domain %q is an IP address: %w", domain, ErrIdentity)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !validLabel(label) {
			return fmt.Errorf("fingerprint: trust domain %q: label %q is not lower-case letters, digits and inner hyphens: %w", domain, label, ErrIdentity)
		}
	}
	return nil
}

func validLabel(label string) bool {
	for i := range len(label) {
		c := label[i]
		inner := i > 0 && i < len(label)-1
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && inner) {
			return false
		}
	}
	return label != ""
}
