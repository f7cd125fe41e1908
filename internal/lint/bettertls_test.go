package lint

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/Netflix/bettertls/test-suites/certutil"
	"github.com/Netflix/bettertls/test-suites/nameconstraints"
	"github.com/Netflix/bettertls/test-suites/pathbuilding"
	suite "github.com/Netflix/bettertls/test-suites/test-case"

	"github.com/clusterca/clusterca/verify"
)

// total is how many cases the pinned version has. A newer one that has fewer must be noticed.
const total = 9572

// wanted says whether a chain should be accepted. A soft answer is what a careful verifier gives and others may not:
// "soft fail" should be refused, "soft pass" accepted.
func wanted(r suite.ExpectedResult) bool {
	return r == suite.EXPECTED_RESULT_PASS || r == suite.EXPECTED_RESULT_SOFT_PASS
}

// Issue 3, A111, B8: BetterTLS, path building and name constraints: every case right.
func TestBetterTLS(t *testing.T) {
	root, key, err := certutil.GenerateSelfSignedCert("bettertls_trust_root")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, provider := range []suite.TestCaseProvider{pathbuilding.NewTestCaseProvider(), nameconstraints.NewTestCaseProvider()} {
		count, err := provider.GetTestCaseCount()
		if err != nil {
			t.Fatal(err)
		}
		wrong := judgeAll(t, provider, count, root, key)
		t.Logf("%s: %d of %d right", provider.Name(), int(count)-len(wrong), count)
		for _, w := range wrong[:min(len(wrong), 20)] {
			t.Error(w)
		}
		seen += int(count)
	}
	if seen != total {
		t.Errorf("%d cases, want %d", seen, total)
	}
}

// judgeAll judges all cases of a suite, on all processors: each makes its own keys and certificates first.
func judgeAll(t *testing.T, provider suite.TestCaseProvider, count uint, root *x509.Certificate, key crypto.Signer) (wrong []string) {
	var lock sync.Mutex
	var workers sync.WaitGroup
	next := make(chan uint)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				if err := judge(provider, i, root, key); err != nil {
					lock.Lock()
					wrong = append(wrong, fmt.Sprintf("%s %d: %v", provider.Name(), i, err))
					lock.Unlock()
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	return wrong
}

// judge says why our answer to a case is not the suite's.
func judge(provider suite.TestCaseProvider, i uint, root *x509.Certificate, key crypto.Signer) error {
	c, err := provider.GetTestCase(i)
	if err != nil {
		return err
	}
	chain, err := c.GetCertificates(root, key)
	if err != nil {
		return err
	}
	err = accepts(chain.Certificate, root, c.GetHostname())
	switch want := wanted(c.ExpectedResult()); {
	case err == nil && !want:
		return fmt.Errorf("accepted, want %v", c.ExpectedResult())
	case err != nil && want:
		return fmt.Errorf("want %v: %w", c.ExpectedResult(), err)
	}
	return nil
}

// accepts parses and judges; what does not parse is refused.
func accepts(chain [][]byte, root *x509.Certificate, host string) error {
	var presented []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		presented = append(presented, c)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err := verify.Chain(presented, verify.ChainOptions{Roots: roots, Host: host, AcceptUnchecked: true}, time.Now())
	return err
}
