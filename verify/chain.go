package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clusterca/clusterca/keystore"
)

// ChainOptions says what a certificate chain must be good for, for callers outside a cluster.
type ChainOptions struct {
	Roots            *x509.CertPool         // who is trusted; nil: nobody, not even whom the system trusts
	Host             string                 // a DNS name or IP address that the leaf must cover; empty: none is asked for
	Usages           []x509.ExtKeyUsage     // empty: serverAuth; every link must allow one of them
	MaxIntermediates int                    // 0: 8; below 0: none. A CA that is issued by itself does not count
	PublicWeb        bool                   // also apply the rules of the public web (CA/Browser Forum) to servers
	CRLs             []*x509.RevocationList // in any order; of issuers that are not in the chain too
	AcceptUnchecked  bool                   // false: a link without a current CRL is refused; true: Validated.Unchecked says so
}

// Validated is a chain that Chain accepted.
type Validated struct {
	Chain     []*x509.Certificate // leaf first, root last; not to be changed
	NotAfter  time.Time           // when the first of its links, or of their CRLs, ends
	Unchecked []*Refusal          // one for each link of which no current CRL was there: NoCRL, StaleCRL or MalformedCRL
}

// Chain judges any certificate chain: leaf first, then intermediates in any order, some of which may be superfluous.
// It asks what x509.Certificate.Verify asks, and then what that lets through: the form of every link as RFC 5280 §4 has
// it, the work that names and constraints would cost, key sizes, and CRLs. now is compared with the dates of every link
// and of every CRL. The error is a *Refusal.
//
// Names other than Host (mail addresses, URIs) are the caller's to compare with those of the accepted leaf: name
// constraints were applied to all of them. Chain does no I/O; it is safe for concurrent use.
//
// For members of a cluster, [Verifier.Peer] is the judge: it also knows roles, retired keys and the registry.
func Chain(presented []*x509.Certificate, o ChainOptions, now time.Time) (*Validated, error) {
	// Dates are whole seconds and the last one counts whole (RFC 5280 §4.1.2.5).
	j := &chainJudgement{ChainOptions: o, now: now.Truncate(time.Second)}
	validated, refusal := j.judge(presented)
	if refusal != nil {
		return nil, j.complete(refusal)
	}
	return validated, nil
}

// chainJudgement is one look at one chain.
type chainJudgement struct {
	ChainOptions
	leaf      *x509.Certificate
	presented []*x509.Certificate // the leaf first
	worthy    []*x509.Certificate // of those after the leaf
	aside     *Refusal            // why the first of the others was put aside
	now       time.Time
}

func (j *chainJudgement) judge(presented []*x509.Certificate) (*Validated, *Refusal) {
	if refusal := j.bounds(presented); refusal != nil {
		return nil, refusal
	}
	j.leaf, j.presented = presented[0], presented
	if refusal := j.ofLeaf(); refusal != nil {
		return nil, refusal
	}
	for i, c := range presented[1:] {
		// Checking a signature by a key of 100,000 bits takes seconds: such a key is not tried.
		if refusal := weakKey(c, presentedName(i+1)); refusal == nil {
			j.worthy = append(j.worthy, c)
		} else if j.aside == nil {
			j.aside = refusal
		}
	}
	chains, err := j.build()
	if err != nil {
		return nil, j.noChain(err)
	}
	var refusal *Refusal
	for _, chain := range chains {
		var validated *Validated
		if validated, refusal = j.accept(chain); refusal == nil {
			return validated, nil
		}
	}
	return nil, refusal
}

func (j *chainJudgement) complete(r *Refusal) *Refusal {
	switch {
	case j.servers():
		r.Side = Server
	case slices.Equal(j.Usages, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}):
		r.Side = Client
	}
	switch {
	case j.Host != "":
		r.Peer = quote(j.Host)
	case j.leaf != nil:
		r.Peer = nameOf(j.leaf.Subject, j.leaf.RawSubject)
	}
	return r
}

// servers reports whether the chain must be good for servers and for nobody else.
func (j *chainJudgement) servers() bool {
	return len(j.Usages) == 0 || slices.Equal(j.Usages, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
}

// bounds are what a stranger may make us look at, before anything is looked at.
func (j *chainJudgement) bounds(presented []*x509.Certificate) *Refusal {
	if len(presented) == 0 {
		return &Refusal{Reason: NoCertificate, Remedy: "present a leaf"}
	}
	if n := len(presented) - 1; n > maxCandidates {
		return &Refusal{Reason: TooManyCerts, Certificate: "chain", Field: "length",
			Detail: fmt.Sprintf("%d intermediates, at most %d", n, maxCandidates), Remedy: "present what leads to the root only"}
	}
	if len(j.CRLs) > maxCRLs {
		return &Refusal{Reason: TooMuchWork, Certificate: "chain", Field: "CRLs",
			Detail: fmt.Sprintf("%d CRLs, at most %d", len(j.CRLs), maxCRLs), Remedy: "give the newest of each issuer only"}
	}
	total := 0
	for i, c := range presented {
		which := presentedName(i)
		switch {
		case c == nil || len(c.Raw) == 0:
			return &Refusal{Reason: malformed(i), Certificate: which, Field: "encoding",
				Detail: "it was not parsed", Remedy: "parse it with x509.ParseCertificate"}
		case len(c.Raw) > maxForeign:
			return tooBig(which, len(c.Raw), maxForeign)
		}
		total += len(c.Raw)
	}
	if total > maxForeignChain {
		return tooBig("chain", total, maxForeignChain)
	}
	return constraintWork(presented, presented[1:])
}

func tooBig(which string, n, limit int) *Refusal {
	return &Refusal{Reason: TooMuchWork, Certificate: which, Field: "size", Detail: fmt.Sprintf("%d bytes, at most %d", n, limit),
		Remedy: "present smaller certificates, and what leads to the root only"}
}

// constraintWork bounds names × constraints: each name is held against each constraint of the CAs above. The two are
// not bounded alone, since certificates of thousands of names exist, and CAs of hundreds of constraints.
func constraintWork(named, constraining []*x509.Certificate) *Refusal {
	names, constraints := 0, 0
	for _, c := range named {
		names += len(c.DNSNames) + len(c.EmailAddresses) + len(c.IPAddresses) + len(c.URIs)
	}
	for _, c := range constraining {
		constraints += len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains) +
			len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) +
			len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) + len(c.PermittedURIDomains) + len(c.ExcludedURIDomains)
	}
	if names*constraints <= maxConstraintWork {
		return nil
	}
	return &Refusal{Reason: TooMuchWork, Certificate: "chain", Field: "name constraints",
		Detail: fmt.Sprintf("%d names under %d constraints, at most %d comparisons", names, constraints, maxConstraintWork),
		Remedy: "issue certificates of fewer names, or by a CA of fewer constraints"}
}

// presentedName names a certificate by its place among those that were presented.
func presentedName(i int) string {
	if i == 0 {
		return "leaf"
	}
	return fmt.Sprintf("intermediate %d", i)
}

// linkName names a link of a chain that was built.
func linkName(i int) string {
	if i == 0 {
		return "leaf"
	}
	return fmt.Sprintf("issuer %d", i)
}

func malformed(i int) Reason {
	if i == 0 {
		return MalformedLeaf
	}
	return MalformedIssuer
}

func weakKey(c *x509.Certificate, which string) *Refusal {
	if _, err := keystore.AlgorithmOf(c.PublicKey); err != nil {
		return &Refusal{Reason: WeakKey, Certificate: which, Field: "public key", Detail: err.Error(),
			Remedy: "replace the key and its certificate"}
	}
	return nil
}

// ofLeaf asks of the leaf what needs no issuer.
func (j *chainJudgement) ofLeaf() *Refusal {
	if refusal := weakKey(j.leaf, "leaf"); refusal != nil {
		return refusal
	}
	if refusal := j.ofForm(j.leaf, 0, false); refusal != nil {
		return refusal
	}
	if refusal := datesAt(j.leaf, "leaf", j.now); refusal != nil {
		return refusal
	}
	if j.Host == "" {
		return nil
	}
	if err := j.leaf.VerifyHostname(j.Host); err != nil {
		return &Refusal{Reason: WrongHost, Certificate: "leaf", Field: "SAN", Detail: clip(err.Error()),
			Remedy: "dial a name that the certificate covers"}
	}
	return nil
}

// datesAt holds now against the dates of a link.
func datesAt(c *x509.Certificate, which string, now time.Time) *Refusal {
	if now.Before(c.NotBefore) {
		return &Refusal{Reason: NotYetValid, Certificate: which, Field: "not before",
			Detail: fmt.Sprintf("it begins %s, now is %s", c.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
			Remedy: "set the clocks of both machines"}
	}
	if now.After(c.NotAfter) {
		return &Refusal{Reason: Expired, Certificate: which, Field: "not after",
			Detail: fmt.Sprintf("it ended %s, now is %s", c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
			Remedy: "renew it"}
	}
	return nil
}

// build finds the ways from the leaf to a trusted root. x509 gives up after a hundred signatures.
func (j *chainJudgement) build() ([][]*x509.Certificate, error) {
	roots, intermediates := j.Roots, x509.NewCertPool()
	if roots == nil {
		roots = x509.NewCertPool() // in x509, nil means everybody whom the system trusts
	}
	for _, c := range j.worthy {
		intermediates.AddCert(c)
	}
	return j.leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: j.now, KeyUsages: j.Usages})
}

// noChain says why there is no way to a trusted root.
func (j *chainJudgement) noChain(err error) *Refusal {
	r := &Refusal{Reason: UnknownIssuer, Certificate: "leaf", Field: "issuer",
		Detail: fmt.Sprintf("%s leads to no trusted root (%s)", nameOf(j.leaf.Issuer, j.leaf.RawIssuer), clip(err.Error())),
		Remedy: "present the intermediates, or trust the root"}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return j.invalid(invalid, r)
	}
	if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
		return j.unhandled()
	}
	if strings.Contains(err.Error(), "signature check attempts limit") { // x509 does not export this error
		r.Reason, r.Certificate, r.Field = TooMuchWork, "chain", "signatures"
		r.Detail, r.Remedy = err.Error(), "present what leads to the root only"
		return r
	}
	if j.aside != nil {
		return j.aside
	}
	return r
}

// unhandled names the critical extension that x509 did not understand.
func (j *chainJudgement) unhandled() *Refusal {
	r := &Refusal{Reason: MalformedIssuer, Certificate: "root", Field: "critical extension", Detail: "it must be understood, and is not",
		Remedy: "issue the certificate without it"}
	for i, c := range j.presented {
		if ids := c.UnhandledCriticalExtensions; len(ids) > 0 {
			r.Reason, r.Certificate, r.Field = malformed(i), presentedName(i), "critical extension "+clip(ids[0].String())
			break
		}
	}
	return r
}

// invalid turns what x509 found wrong with one certificate into a refusal.
func (j *chainJudgement) invalid(err x509.CertificateInvalidError, r *Refusal) *Refusal {
	which := nameOf(err.Cert.Subject, err.Cert.RawSubject)
	if err.Cert.Equal(j.leaf) {
		which = "leaf"
	}
	r.Certificate, r.Detail = which, clip(err.Error())
	switch err.Reason {
	case x509.Expired:
		if refusal := datesAt(err.Cert, which, j.now); refusal != nil {
			return refusal
		}
	case x509.NotAuthorizedToSign:
		r.Reason, r.Field, r.Remedy = MalformedIssuer, "basic constraints", "issue by a CA"
	case x509.TooManyIntermediates:
		r.Reason, r.Field, r.Remedy = TooManyCerts, "path length", "issue by a CA nearer to the root"
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.TooManyConstraints:
		r.Reason, r.Field, r.Remedy = NotPermitted, "name constraints", "issue by a CA that may certify these names"
	case x509.IncompatibleUsage, x509.CANotAuthorizedForExtKeyUsage:
		r.Reason, r.Field, r.Remedy = WrongUsage, "extended key usage", "use a certificate for this purpose"
	case x509.NoValidChains:
		r.Reason, r.Field, r.Remedy = NotPermitted, "certificate policies", "issue by a CA whose policies allow it"
	}
	return r
}

// accept asks of one way to a root what x509 did not.
func (j *chainJudgement) accept(chain []*x509.Certificate) (*Validated, *Refusal) {
	if refusal := j.depth(chain); refusal != nil {
		return nil, refusal
	}
	if refusal := constraintWork(chain, chain[1:]); refusal != nil {
		return nil, refusal
	}
	v := &Validated{Chain: chain, NotAfter: j.leaf.NotAfter}
	for i, c := range chain {
		if i > 0 {
			if refusal := j.ofIssuer(c, chain[i-1], i, i == len(chain)-1); refusal != nil {
				return nil, refusal
			}
		}
		v.until(c.NotAfter)
	}
	return v, j.revocation(v)
}

func (v *Validated) until(t time.Time) {
	if t.Before(v.NotAfter) {
		v.NotAfter = t
	}
}

func (j *chainJudgement) depth(chain []*x509.Certificate) *Refusal {
	limit := j.MaxIntermediates
	switch {
	case limit == 0:
		limit = usualDepth
	case limit < 0:
		limit = 0
	}
	depth := 0
	for i := 1; i < len(chain)-1; i++ {
		if !selfIssued(chain[i]) {
			depth++
		}
	}
	if depth <= limit {
		return nil
	}
	return &Refusal{Reason: TooManyCerts, Certificate: "chain", Field: "length", Detail: fmt.Sprintf("%d intermediates, at most %d", depth, limit),
		Remedy: "issue by a CA nearer to the root, or allow more"}
}

func (j *chainJudgement) ofIssuer(c, issued *x509.Certificate, i int, root bool) *Refusal {
	which := linkName(i)
	if refusal := weakKey(c, which); refusal != nil {
		return refusal
	}
	if refusal := j.ofForm(c, i, root); refusal != nil {
		return refusal
	}
	if refusal := datesAt(c, which, j.now); refusal != nil {
		return refusal
	}
	if len(issued.AuthorityKeyId) > 0 && !slices.Equal(issued.AuthorityKeyId, c.SubjectKeyId) {
		return otherKeyID(which)
	}
	return nil
}

func otherKeyID(which string) *Refusal {
	return &Refusal{Reason: UnknownIssuer, Certificate: which, Field: "subject key identifier",
		Detail: "it is not the authority key identifier of what it issued", Remedy: "issue the certificate again"}
}

// ofForm asks whether a certificate is formed as its place in a chain wants.
func (j *chainJudgement) ofForm(c *x509.Certificate, i int, root bool) *Refusal {
	place := placeOf(i, root)
	found := encodingFlaw(c)
	if found == nil {
		found = profileFlaw(c, place, j.PublicWeb)
	}
	if found != nil {
		return &Refusal{Reason: malformed(i), Certificate: linkName(i), Field: found.field, Detail: found.detail,
			Remedy: "issue the certificate again, as RFC 5280 has it"}
	}
	if !j.PublicWeb || !j.servers() {
		return nil
	}
	if found = webFlaw(c, place); found != nil {
		return &Refusal{Reason: NotPublicWeb, Certificate: linkName(i), Field: found.field, Detail: found.detail,
			Remedy: "issue the certificate again, or do not ask for the rules of the public web"}
	}
	return nil
}
