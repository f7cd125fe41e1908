package verify

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
)

// Party is one member as the pairwise check sees it: what it presents and how it judges.
type Party struct {
	Identity fingerprint.Identity
	Chain    []*x509.Certificate // as presented, leaf first
	Verifier *Verifier           // never nil
}

// Denial says that By refuses Peer, and why.
type Denial struct {
	By, Peer fingerprint.Identity
	Refusal  *Refusal
}

// policy is what makes two verifiers judge alike.
type policy struct {
	state    Digest
	version  fingerprint.Version
	registry [32]byte
}

// Mutual says which ordered pairs of parties refuse each other: for each a and b that is not a, whether b accepts a,
// as a client and as a server, as far as their roles ever meet so. None means that everybody accepts everybody.
//
// Verifiers of one state and one registry judge alike, so it costs one signature check for each leaf and distinct
// policy, not for each pair: of a hundred members in the middle of a rollover two hundred, not ten thousand.
func Mutual(parties []Party, now time.Time) []Denial {
	groups := make(map[policy][]int)
	var order []policy
	for i, p := range parties {
		name := policyOf(p.Verifier)
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], i)
	}
	var denials []Denial
	for _, name := range order {
		group := groups[name]
		judge := parties[group[0]].Verifier
		for i, peer := range parties {
			asClient, asServer := bothSides(judge, peer, now)
			if asClient == nil && asServer == nil {
				continue
			}
			for _, b := range group {
				if refusal := meeting(parties[b].Identity.Role, asClient, asServer); b != i && refusal != nil {
					denials = append(denials, Denial{parties[b].Identity, peer.Identity, refusal})
				}
			}
		}
	}
	return denials
}

func policyOf(v *Verifier) policy {
	return policy{v.digest, v.registry.Version(), v.registry.Digest()}
}

// bothSides judges a peer in the parts that its role plays: users never serve. The second costs no signature check when
// the first was good, since the judge remembers it.
func bothSides(judge *Verifier, peer Party, now time.Time) (asClient, asServer *Refusal) {
	asClient = refusalOf(judge.Peer(peer.Chain, Client, Member(peer.Identity), now))
	if peer.Identity.Role != fingerprint.User {
		asServer = refusalOf(judge.Peer(peer.Chain, Server, Member(peer.Identity), now))
	}
	return asClient, asServer
}

// meeting picks the refusal that a judge of the role would ever see: users are never dialled.
func meeting(judge fingerprint.Role, asClient, asServer *Refusal) *Refusal {
	if judge != fingerprint.User && asClient != nil {
		return asClient
	}
	return asServer
}

func refusalOf(_ Peer, err error) *Refusal {
	refusal, _ := errors.AsType[*Refusal](err)
	return refusal
}
