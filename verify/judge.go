package verify

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/keystore"
)

// judgement is one look at one peer.
type judgement struct {
	*Verifier
	leaf      *x509.Certificate
	presented []*x509.Certificate // after the leaf
	side      Side
	now       time.Time
	listed    bool // ask the registry
	found     accepted
}

// steps are the questions in order: what the leaf says, what it may, who vouches for it, who knows it. The first that
// is answered by no gives the reason, so that a peer of another cluster is not told that it has expired.
var steps = []func(*judgement) *Refusal{
	(*judgement).identity,
	(*judgement).cluster,
	(*judgement).form,
	(*judgement).key,
	(*judgement).usage,
	(*judgement).dates,
	(*judgement).chain,
	(*judgement).authorised,
}

func (v *Verifier) judge(presented []*x509.Certificate, side Side, now time.Time, listed bool) (*accepted, *Refusal) {
	j := &judgement{Verifier: v, leaf: presented[0], presented: presented[1:], side: side, now: now, listed: listed}
	for _, step := range steps {
		if refusal := step(j); refusal != nil {
			return nil, j.complete(refusal)
		}
	}
	return &j.found, nil
}

func (j *judgement) complete(r *Refusal) *Refusal {
	r.Side = j.side
	if r.Certificate == "" {
		r.Certificate = "leaf"
	}
	if r.Peer == "" {
		r.Peer = j.found.peer.Identity.String()
	}
	return r
}

func (j *judgement) identity() *Refusal {
	id, err := ca.IdentityOf(j.leaf)
	if err != nil {
		return &Refusal{Reason: MalformedLeaf, Peer: quote(j.leaf.Subject.CommonName), Field: "URI SAN", Detail: brief(err), Remedy: "present a member's certificate"}
	}
	j.found.peer.Identity = id
	j.found.peer.Leaf = fingerprint.OfCertificate(j.leaf.Raw)
	j.found.peer.Key = ca.KeyOf(j.leaf)
	return nil
}

// cluster tells clusters apart by value: two of one name have different UUIDs.
func (j *judgement) cluster() *Refusal {
	want := j.bundle.Cluster
	if uuid := ca.ClusterUUIDOf(j.leaf); uuid != want.UUID || j.found.peer.Identity.Domain != want.Domain {
		return &Refusal{Reason: WrongCluster, Field: "subject serialNumber",
			Detail: fmt.Sprintf("it is of cluster %q (%s), this is %q (%q)", j.found.peer.Identity.Domain, quote(uuid), want.Domain, want.UUID),
			Remedy: "the address leads to another cluster, or a member of one dials here"}
	}
	return nil
}

// form is what crypto/tls leaves to us once it does not verify (and what x509.Verify does not look at).
func (j *judgement) form() *Refusal {
	field, detail := "", ""
	switch {
	case j.leaf.IsCA:
		field, detail = "basic constraints", "a CA's certificate serves nobody"
	case j.leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		field, detail = "key usage", "it is a CA's"
	case j.leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		field, detail = "key usage", "digitalSignature is missing"
	case len(j.leaf.AuthorityKeyId) == 0:
		field, detail = "authority key identifier", "it is missing"
	default:
		return nil
	}
	return &Refusal{Reason: MalformedLeaf, Field: field, Detail: detail, Remedy: "issue the member's certificate again"}
}

// key refuses weak keys, and a key that has another use: whoever holds it could act as two.
func (j *judgement) key() *Refusal {
	if _, err := keystore.AlgorithmOf(j.leaf.PublicKey); err != nil {
		return &Refusal{Reason: WeakKey, Field: "public key", Detail: err.Error(), Remedy: "re-key the member with an accepted algorithm"}
	}
	of := func(c *x509.Certificate) bool { return ca.KeyOf(c) == j.found.peer.Key }
	if slices.ContainsFunc(j.presented, of) {
		return &Refusal{Reason: MalformedChain, Field: "public key", Detail: "a certificate beside the leaf carries the leaf's own key", Remedy: "present the leaf and what leads to the root only"}
	}
	if j.notLeaf[j.found.peer.Key] {
		return &Refusal{Reason: KeyOfAnother, Field: "public key", Detail: "it is a CA's or a document signer's key", Remedy: "re-key the member, and find out who served with that key"}
	}
	return nil
}

func (j *judgement) usage() *Refusal {
	if leafActs(j.leaf, j.found.peer.Identity.Role, j.side) {
		return nil
	}
	return &Refusal{Reason: WrongUsage, Field: "extended key usage",
		Detail: fmt.Sprintf("this certificate of a %s may not act as a %s", j.found.peer.Identity.Role, j.side),
		Remedy: "use a control or node certificate there"}
}

// leafActs says whether a leaf may play a part. Users never serve, whatever their certificates say.
func leafActs(leaf *x509.Certificate, role fingerprint.Role, side Side) bool {
	switch side {
	case Client:
		return slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	case Server:
		return role != fingerprint.User && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return false
}

// issuerAllows says whether a CA that is limited to some usages has the side's among them (RFC 5280 §4.2.1.12 as
// everybody reads it: usages nest).
func issuerAllows(c *x509.Certificate, side Side) bool {
	want := x509.ExtKeyUsageServerAuth
	if side == Client {
		want = x509.ExtKeyUsageClientAuth
	}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, want) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

func (j *judgement) dates() *Refusal {
	return j.datesOf(j.leaf, "leaf")
}

func (j *judgement) datesOf(c *x509.Certificate, which string) *Refusal {
	if refusal := datesAt(c, which, j.now); refusal != nil {
		if refusal.Reason == Expired {
			refusal.Remedy = "let the member reach a CA daemon and renew"
		}
		return refusal
	}
	if j.found.peer.NotAfter.IsZero() || c.NotAfter.Before(j.found.peer.NotAfter) {
		j.found.peer.NotAfter = c.NotAfter
	}
	if c.NotBefore.After(j.found.notBefore) {
		j.found.notBefore = c.NotBefore
	}
	return nil
}

// chain builds the way to a trusted root. What has a trusted root's key is put aside first, since Go would build every
// chain through it. What has a retired key is put aside too, whichever certificate carries it: a stolen old key leads
// nowhere, although anybody can present the public bridges between it and the new root.
func (j *judgement) chain() *Refusal {
	intermediates := x509.NewCertPool()
	retired := j.retiredKeyID(j.leaf.AuthorityKeyId)
	for _, c := range j.presented {
		key := ca.KeyOf(c)
		switch {
		case j.retired[key]:
			retired = true
		case !j.trusted[key]:
			intermediates.AddCert(c)
			retired = retired || j.retiredKeyID(c.AuthorityKeyId)
		}
	}
	chains, err := j.leaf.Verify(x509.VerifyOptions{
		Roots: j.pool, Intermediates: intermediates, CurrentTime: j.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // accept looks at every link's, for both sides at once
	})
	if err != nil {
		return j.noChain(err, retired)
	}
	var refusal *Refusal
	for _, chain := range chains {
		if refusal = j.accept(chain); refusal == nil {
			return nil
		}
	}
	return refusal
}

// retiredKeyID reports whether a key identifier is that of a retired key. It explains a refusal and decides none: what
// a key identifier says is the issuer's choice.
func (j *judgement) retiredKeyID(id []byte) bool {
	for k := range j.retired {
		if len(id) > 0 && bytes.HasPrefix(k[:], id) {
			return true
		}
	}
	return false
}

func (j *judgement) noChain(err error, retired bool) *Refusal {
	if retired {
		return &Refusal{Reason: RetiredIssuer, Field: "issuer",
			Detail: fmt.Sprintf("%s was retired; state %v trusts %s", quote(j.leaf.Issuer.CommonName), j.bundle.Version, j.rootNames()),
			Remedy: "the member missed a rollover: let it renew at a CA daemon"}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		if refusal := j.datesOf(invalid.Cert, quote(invalid.Cert.Subject.CommonName)); refusal != nil {
			return refusal
		}
	}
	return &Refusal{Reason: UnknownIssuer, Field: "issuer",
		Detail: fmt.Sprintf("%s leads to no trusted root; state %v trusts %s (%s)", quote(j.leaf.Issuer.CommonName), j.bundle.Version, j.rootNames(), brief(err)),
		Remedy: "compare the trust states of both sides"}
}

func (j *judgement) rootNames() string {
	var names string
	for i, r := range j.bundle.Roots {
		if i > 0 {
			names += ", "
		}
		names += fmt.Sprintf("g%d %s", r.Generation, r.Key.Short())
	}
	return names
}

// accept looks at what x509 does not, link by link, and keeps what does not depend on the side.
func (j *judgement) accept(chain []*x509.Certificate) *Refusal {
	role := j.found.peer.Identity.Role
	may := sides{leafActs(j.leaf, role, Client), leafActs(j.leaf, role, Server)}
	for i, c := range chain[1:] {
		which := fmt.Sprintf("issuer %d", i+1)
		// chain[i] is the one that c issued.
		if !bytes.Equal(chain[i].AuthorityKeyId, c.SubjectKeyId) {
			return otherKeyID(which)
		}
		if _, err := keystore.AlgorithmOf(c.PublicKey); err != nil {
			return &Refusal{Reason: WeakKey, Certificate: which, Field: "public key", Detail: err.Error(), Remedy: "replace that CA by a rollover"}
		}
		if !issuerAllows(c, j.side) {
			return &Refusal{Reason: WrongUsage, Certificate: which, Field: "extended key usage",
				Detail: fmt.Sprintf("that CA may not issue certificates of a %s", j.side), Remedy: "issue the certificate by another CA"}
		}
		may = sides{may.client && issuerAllows(c, Client), may.server && issuerAllows(c, Server)}
		if refusal := j.datesOf(c, which); refusal != nil {
			return refusal
		}
	}
	j.found.peer.Issuer, j.found.sides = ca.KeyOf(chain[len(chain)-1]), may
	j.found.familiar = !slices.ContainsFunc(j.presented, func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(chain, c.Equal) && !j.bundle.carries(c)
	})
	return nil
}

// authorised asks who may be whom: the bundle for control members, the registry for everybody.
func (j *judgement) authorised() *Refusal {
	if !j.listed {
		return nil
	}
	id, key := j.found.peer.Identity, j.found.peer.Key
	if owner, ok := j.pinned[key]; ok && owner != id {
		return registryRefusal(fingerprint.OthersKey, fmt.Sprintf("the trust state names key %s as that of %s", key.Short(), owner))
	}
	rule := j.bundle.RuleFor(id.Role)
	if id.Role == fingerprint.Control {
		x, ok := j.control[id]
		if !ok {
			return registryRefusal(fingerprint.NotListed, "the trust state does not name it")
		}
		if key != x.Current && key != x.Next {
			return registryRefusal(fingerprint.OtherKey, fmt.Sprintf("the trust state names key %s, it has %s", x.Current.Short(), key.Short()))
		}
		rule = fingerprint.Open // listed by the bundle; the registry still knows who was removed
	}
	shown := fingerprint.Presented{Member: id, Key: key, Leaf: j.found.peer.Leaf, NotBefore: j.leaf.NotBefore}
	if verdict := j.registry.Check(shown, rule); verdict != fingerprint.Admitted {
		return registryRefusal(verdict, fmt.Sprintf("registry %v, key %s", j.registry.Version(), key.Short()))
	}
	return nil
}

func registryRefusal(verdict fingerprint.Verdict, detail string) *Refusal {
	r := &Refusal{Field: "public key", Detail: detail}
	switch verdict {
	case fingerprint.Revoked:
		r.Reason, r.Remedy = MemberRevoked, "the member was removed: admit it as a new one if that was a mistake"
	case fingerprint.NotListed:
		r.Reason, r.Remedy = NotInRegistry, "admit the member, or wait until this side has the newer registry"
	case fingerprint.OthersKey:
		r.Reason, r.Remedy = KeyOfAnother, "somebody uses another member's key: find out who"
	case fingerprint.Void:
		r.Reason, r.Field, r.Remedy = BeforeCutoff, "not before", "certificates issued before the cut-off are void: let the member renew"
	case fingerprint.NotPinned:
		r.Reason, r.Field, r.Remedy = NotPinned, "certificate", "the member is pinned to exact certificates: pin this one, or take the pin away"
	default:
		r.Reason, r.Remedy = KeyNotRegistered, "list the member's new key before it is served"
	}
	return r
}
