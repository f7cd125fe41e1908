package rotation

import (
	"crypto"
	"crypto/x509"
	"errors"
	"time"

	"github.com/clusterca/clusterca/verify"
)

// documentsDue says whether a document signer's certificate has used two thirds of its life.
func documentsDue(s *verify.Bundle, now time.Time) (bool, error) {
	if len(s.Control) == 0 {
		return false, nil
	}
	root, err := s.RootCertificate(s.Signer)
	if err != nil {
		return false, err
	}
	for _, x := range s.Control {
		for _, der := range x.Documents {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return false, err
			}
			if !c.NotAfter.Before(root.NotAfter) {
				continue // a new one would end no later: what is due is a new root
			}
			if now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)) {
				return true, nil
			}
		}
	}
	return false, nil
}

func parsePublicKey(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("the key is not a SubjectPublicKeyInfo")
	}
	return public, nil
}
