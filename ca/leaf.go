package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// Request says what a member's leaf is to be. The key comes from ParseRequest or from the caller's own keeper; all else
// is the CA's decision.
type Request struct {
	Cluster   fingerprint.ClusterID
	Identity  fingerprint.Identity
	PublicKey crypto.PublicKey
	Name      string        // for people; empty: the trust domain
	Hosts     []string      // DNS names and IP addresses that are served; none for users
	Lifetime  time.Duration // 0: control 7 days, node and user 1 day; at most 90 days
	Backdate  time.Duration // 0: Backdate, or less for a short life; at most 1 h
	Clamp     bool          // a leaf that would outlive its issuer: false refuses it, true lets it end with the issuer
	Job       bool          // of one task, never renewed: Lifetime 0 is 1 hour, at most 7 days
	Now       time.Time     // zero: the present
}

// DocumentRequest says whose document signer is to be certified.
type DocumentRequest struct {
	Cluster   fingerprint.ClusterID
	Member    fingerprint.Identity // a control member
	PublicKey crypto.PublicKey
	Now       time.Time // zero: the present
}

// Leaf is a certificate that an authority issued, and the authority's.
type Leaf struct {
	Certificate *x509.Certificate
	Issuer      *x509.Certificate
}

// ErrNames is wrapped when the hosts of a request cannot stand in its certificate.
var ErrNames = errors.New("host names are not allowed")

// Issue signs a member's leaf. The error wraps fingerprint.ErrIdentity, keystore.ErrAlgorithm, ErrNames or
// ErrLifetime when the request is not allowed; the last names the latest date that is. It wraps ErrPolicy, or the
// recorder's error, when the authority's rules keep it from being released.
func (a *Authority) Issue(r Request) (*Leaf, error) {
	leaf, err := a.issue(r)
	if err != nil {
		return nil, fmt.Errorf("ca: issue %q: %w", r.Identity, err)
	}
	return leaf, nil
}

func (a *Authority) issue(r Request) (*Leaf, error) {
	d, err := a.draft(r)
	if err != nil {
		return nil, err
	}
	return a.release(d)
}

func (a *Authority) draft(r Request) (*draft, error) {
	if err := a.ofCluster(r.Cluster, r.Identity); err != nil {
		return nil, err
	}
	p := a.leafProfile(r)
	life, err := p.lifetime(r.Lifetime)
	if err != nil {
		return nil, err
	}
	if life, err = a.allowed(r, life); err != nil {
		return nil, err
	}
	d, err := a.subordinate(p, r.PublicKey, r.Now, r.Backdate, life, r.Clamp)
	if err != nil {
		return nil, err
	}
	d.subject = subjectOf(r.Cluster, r.Name, r.Identity.ID).encode()
	d.uri = r.Identity.String()
	return d, d.addHosts(r.Identity.Role, r.Hosts)
}

// leafProfile is the role's, with the cap that the authority's rules set.
func (a *Authority) leafProfile(r Request) *profile {
	p, most := leafProfiles[r.Identity.Role], a.rules.LongestLeaf
	if r.Job { // which the rules may shorten, and not extend
		p = jobProfiles[r.Identity.Role]
		most = min(most, p.most)
	}
	if most > 0 {
		capped := *p
		capped.most, capped.usual = most, min(p.usual, most)
		p = &capped
	}
	return p
}

// ErrPolicy is wrapped when the authority's policy refuses a leaf, with the policy's own error.
var ErrPolicy = errors.New("policy refuses it")

// allowed asks the policy. It gets its own copy of the hosts, and can only make less of what is granted.
func (a *Authority) allowed(r Request, granted time.Duration) (time.Duration, error) {
	if a.rules.Policy == nil {
		return granted, nil
	}
	r.Hosts = slices.Clone(r.Hosts)
	life, err := a.rules.Policy(r, granted)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrPolicy, err)
	case life < 0:
		return 0, fmt.Errorf("%w: it grants %s", ErrPolicy, life)
	case life == 0:
		return granted, nil
	}
	return min(life, granted), nil
}

// ofCluster refuses to sign for another cluster than the authority's own.
func (a *Authority) ofCluster(cluster fingerprint.ClusterID, id fingerprint.Identity) error {
	if err := errors.Join(cluster.Validate(), id.Validate()); err != nil {
		return err
	}
	if cluster != a.cluster || cluster.Domain != id.Domain {
		return fmt.Errorf("the authority is of cluster %s (%s), the request of %s (%s): %w", a.cluster.Domain, a.cluster.UUID, cluster.Domain, cluster.UUID, fingerprint.ErrIdentity)
	}
	return nil
}

// subordinate is what all below an authority have in common: a key of their own, and an end no later than the issuer's.
func (a *Authority) subordinate(p *profile, public crypto.PublicKey, now time.Time, backdate, life time.Duration, clamp bool) (*draft, error) {
	key, err := acceptable(public)
	if err != nil {
		return nil, err
	}
	if key.fingerprint == a.key.fingerprint {
		return nil, errors.New("the key is the authority's own: make another")
	}
	v, err := span(now, backdate, life)
	if err != nil {
		return nil, err
	}
	if v, err = v.within(a.span(), clamp); err != nil {
		return nil, err
	}
	return &draft{profile: p, key: key, validity: v, cluster: a.cluster.UUID}, nil
}

func (a *Authority) release(d *draft) (*Leaf, error) {
	certificate, err := a.sign(d)
	if err != nil {
		return nil, err
	}
	return &Leaf{Certificate: certificate, Issuer: a.certificate}, nil
}

// IssueDocumentSigner certifies the key with which a control member signs documents: EKU documentSigning alone and no
// URI, so that it can never be taken for a member in a handshake. It ends with its issuer at the latest.
func (a *Authority) IssueDocumentSigner(r DocumentRequest) (*Leaf, error) {
	leaf, err := a.issueDocumentSigner(r)
	if err != nil {
		return nil, fmt.Errorf("ca: issue document signer of %q: %w", r.Member, err)
	}
	return leaf, nil
}

func (a *Authority) issueDocumentSigner(r DocumentRequest) (*Leaf, error) {
	if err := a.ofCluster(r.Cluster, r.Member); err != nil {
		return nil, err
	}
	if r.Member.Role != fingerprint.Control {
		return nil, fmt.Errorf("only control members sign documents: %w", fingerprint.ErrIdentity)
	}
	d, err := a.subordinate(documentProfile, r.PublicKey, r.Now, 0, documentProfile.usual, true)
	if err != nil {
		return nil, err
	}
	d.subject = subjectOf(r.Cluster, "", "documents of "+r.Member.ID).encode()
	return a.release(d)
}

// CheckHosts judges the hosts of a request as Issue will, for callers that write something down before they issue. The
// error wraps ErrNames.
func CheckHosts(role fingerprint.Role, hosts []string) error {
	if err := new(draft).addHosts(role, hosts); err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	return nil
}

// addHosts sorts hosts into DNS names and IP addresses.
func (d *draft) addHosts(role fingerprint.Role, hosts []string) error {
	if len(hosts) > maxHosts {
		return fmt.Errorf("%d hosts, at most %d: %w", len(hosts), maxHosts, ErrNames)
	}
	if role == fingerprint.User && len(hosts) > 0 {
		return fmt.Errorf("a user serves no host, asked for %.80q: %w", hosts[0], ErrNames)
	}
	for _, host := range hosts {
		if address, err := netip.ParseAddr(host); err == nil && address.Zone() == "" {
			d.addresses = append(d.addresses, address.Unmap().AsSlice())
			continue
		}
		if !dnsName(host) {
			return fmt.Errorf("%.300q is neither an IP address nor a lower-case DNS name: %w", host, ErrNames)
		}
		d.dns = append(d.dns, host)
	}
	return nil
}

// dnsName accepts host names (RFC 1123 §2.1) in lower case, and no wildcards. A last label of digits alone would be
// taken for an IP address by some verifiers.
func dnsName(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
