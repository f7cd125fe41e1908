// Package consumer is a program that wants package ca and nothing else: test.sh counts the modules that it gets.
package consumer

import (
	"crypto"

	"github.com/clusterca/clusterca/ca"
	"github.com/clusterca/clusterca/fingerprint"
)

// Root makes a root with a signer of the consumer's own.
func Root(signer crypto.Signer, cluster fingerprint.ClusterID) (*ca.Authority, error) {
	return ca.CreateRoot(signer, ca.RootRequest{Cluster: cluster, Generation: 1})
}
