// Livecluster shows the main job of clusterca on real TCP: a cluster of processes that dial each other without pause over
// mutual TLS, while their leaves are renewed, their root is replaced, one of them is killed, and the CA daemon is killed.
// It counts every exchange and exits with 0 only if none was refused.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/clusterca/clusterca/keystore"
)

// options are the flags.
type options struct {
	nodes      int
	algorithms []keystore.Algorithm
	naive      bool
	json       bool
	timeline   string
}

const maxNodes = 64

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], childPrefix) {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: 0 when nothing was refused, 1 when something was or went wrong, 2 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "livecluster:", err)
		return 2
	}
	show := newDisplay(stdout, o.json)
	story := livecluster
	if o.naive {
		story = naive
	}
	result, err := story(ctx, o, show)
	if ctx.Err() != nil {
		err = errors.New("stopped before its end; its processes and its directory are gone")
	}
	if err != nil {
		fmt.Fprintln(stderr, "livecluster:", err)
		return 1
	}
	show.result(result)
	if result.Failed > 0 {
		return 1
	}
	return 0
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var algorithms string
	f := flag.NewFlagSet("livecluster", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.nodes, "nodes", 5, "number of `nodes`, each a process")
	f.StringVar(&algorithms, "algorithms", "p256,p256", "the root rolls through these `algorithms`, the first being the one it begins with")
	f.BoolVar(&o.naive, "naive", false, "make the same change in one swap, as is usual, and count what breaks")
	f.BoolVar(&o.json, "json", false, "print JSON lines instead of text")
	f.StringVar(&o.timeline, "timeline", "", "draw every certificate and the phases into this SVG `file`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: all settings are flags, see -help", f.Arg(0))
	}
	if o.nodes < 2 || o.nodes > maxNodes {
		return o, fmt.Errorf("-nodes %d: want 2 to %d", o.nodes, maxNodes)
	}
	for name := range strings.SplitSeq(algorithms, ",") {
		a, err := keystore.ParseAlgorithm(name)
		if err != nil {
			return o, fmt.Errorf("-algorithms: %w", err)
		}
		o.algorithms = append(o.algorithms, a)
	}
	if len(o.algorithms) < 2 {
		return o, errors.New("-algorithms: want at least two, such as p256,ed25519: the first root's and its successor's")
	}
	return o, nil
}
