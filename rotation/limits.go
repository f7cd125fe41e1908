package rotation

import "time"

const (
	rootLabelPrefix = "root-"

	maxStates     = 64              // signed states in one answer
	maxStateBytes = 8 << 20         // after so many bytes of them the rest waits for the next
	maxWait       = 5 * time.Minute // of a long poll
	maxReason     = 1024            // bytes of a reason that people give

	maxRegistries  = 16      // kept by a daemon, to send differences from
	maxKeptEntries = 1 << 21 // in all of them: about 130 MB

	driverRetry   = time.Second           // after an error
	driverTick    = 10 * time.Second      // a look at the store even when nothing was heard, while a rollover runs
	settledTick   = 5 * time.Minute       // the same in a settled cluster
	driverPause   = 10 * time.Millisecond // many reports arrive together
	lookBound     = 30 * time.Second      // of one look at the store
	publishPoll   = 50 * time.Millisecond
	stateFresh    = 30 * 24 * time.Hour // a trust state is issued again after half of it
	registryFresh = 24 * time.Hour      // a registry is signed again after half of it

	// settleBound is how long a rollover may take: longer than a leaf lives, so that a member which is away can come
	// back meanwhile.
	settleBound = 48 * time.Hour
)
