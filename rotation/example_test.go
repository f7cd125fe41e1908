package rotation_test

import (
	"fmt"
	"time"

	"github.com/clusterca/clusterca/fingerprint"
	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/verify"
)

// Next is pure, so it also answers what would happen: here one member confirmed the state in force and the other is
// still at the one before. When both have, the new root may sign.
func ExampleNext() {
	id, err := fingerprint.NewCluster("prod.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	was, is := fingerprint.Key{1}, fingerprint.Key{2}
	state := &verify.Bundle{
		Cluster: id, Version: fingerprint.Version{Term: 1, Number: 5}, Phase: verify.Trust,
		Roots:  []verify.Root{{Generation: 1, Key: was}, {Generation: 2, Key: is}},
		Signer: 1, From: 1, To: 2, Generations: 2,
	}
	view := rotation.View{State: state, Digest: state.Digest()}
	for number, name := range []string{"oslo", "rome"} {
		member, err := id.Member(fingerprint.Node, name)
		if err != nil {
			fmt.Println(err)
			return
		}
		report := &verify.Report{
			Member: member, Serving: true, Digest: view.Digest, Proven: []fingerprint.Key{was, is},
			State: fingerprint.Version{Term: 1, Number: uint64(5 - number)},
		}
		view.Members = append(view.Members, rotation.Member{Identity: member, Report: report})
	}

	for _, b := range rotation.Next(view, time.Now()).Blockers {
		fmt.Printf("%s: %s; %s\n", b.Code, b.Reason, b.Remedy)
	}
	view.Members[1].Report.State = state.Version
	step := rotation.Next(view, time.Now()).Commit
	fmt.Printf("%s: g%d signs\n", step.Phase, step.Signer)

	// Output:
	// behind: rome has not confirmed state 1.5 (trust): it reported state 1.4; see that it runs and reaches a CA daemon, or remove it
	// switch: g2 signs
}
