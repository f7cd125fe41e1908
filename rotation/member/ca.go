package member

import (
	"context"

	"github.com/clusterca/clusterca/rotation"
	"github.com/clusterca/clusterca/rotation/live"
)

// CA is how a member reaches the CA daemons: Remote or Direct.
type CA interface {
	dial(l *live.Live) calls
}

// calls are the three calls that a member makes.
type calls interface {
	state(ctx context.Context, ask rotation.Ask) (rotation.News, error)
	report(ctx context.Context, spki, envelope []byte) (rotation.Ack, error)
	renew(ctx context.Context, r rotation.Renewal) (rotation.Renewed, error)
	close()
}

// Direct reaches the CA daemon of the member's own process: a control member is a member like any other, and needs no
// connection to itself.
func Direct(d *rotation.Daemon) CA { return direct{daemon: d} }

type direct struct {
	daemon *rotation.Daemon
	live   *live.Live
}

func (d direct) dial(l *live.Live) calls { return direct{d.daemon, l} }

func (d direct) state(ctx context.Context, ask rotation.Ask) (rotation.News, error) {
	return d.daemon.State(ctx, d.live.Self(), ask)
}

func (d direct) report(ctx context.Context, spki, envelope []byte) (rotation.Ack, error) {
	return d.daemon.Report(ctx, d.live.Self(), spki, envelope)
}

func (d direct) renew(ctx context.Context, r rotation.Renewal) (rotation.Renewed, error) {
	return d.daemon.Renew(ctx, d.live.Self(), r)
}

func (d direct) close() {}
