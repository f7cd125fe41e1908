package verify

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/clusterca/clusterca/fingerprint"
)

// Expect says whom a connection is meant for. Its zero value expects nobody and refuses everyone: make one with
// Member, Host or AnyOf.
type Expect struct {
	roles  []fingerprint.Role
	member fingerprint.Identity // zero: not asked
	named  bool                 // the certificate must name host
	host   string
}

// Member expects exactly this member.
func Member(id fingerprint.Identity) Expect {
	return Expect{roles: []fingerprint.Role{id.Role}, member: id}
}

// Host expects a member of the given role whose certificate names host: a DNS name or an IP address, without a port. No
// certificate names the empty host.
func Host(role fingerprint.Role, host string) Expect {
	return Expect{roles: []fingerprint.Role{role}, named: true, host: host}
}

// AnyOf expects any member of one of the roles.
func AnyOf(roles ...fingerprint.Role) Expect {
	return Expect{roles: slices.Clone(roles)}
}

// judge says why the peer is not who was meant.
func (e Expect) judge(p *Peer, leaf *x509.Certificate) *Refusal {
	switch {
	case !slices.Contains(e.roles, p.Identity.Role):
		return &Refusal{Reason: WrongRole, Certificate: "leaf", Field: "URI SAN",
			Detail: fmt.Sprintf("it is a %s, expected %v", p.Identity.Role, e.roles),
			Remedy: "connect to a member of that role, or expect this one"}
	case !e.member.IsZero() && p.Identity != e.member:
		return &Refusal{Reason: WrongMember, Certificate: "leaf", Field: "URI SAN",
			Detail: fmt.Sprintf("expected %s, it is %s", e.member, p.Identity),
			Remedy: "the address leads to another member: correct the address, or the expectation"}
	case e.named:
		if err := leaf.VerifyHostname(e.host); err != nil {
			return &Refusal{Reason: WrongHost, Certificate: "leaf", Field: "DNS and IP SANs",
				Detail: fmt.Sprintf("expected %q, it names %q %v", e.host, leaf.DNSNames, leaf.IPAddresses),
				Remedy: "dial a name that the certificate has, or issue one with this name"}
		}
	}
	return nil
}
