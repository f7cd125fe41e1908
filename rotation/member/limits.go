package member

import "time"

// Bounds on what comes from outside, and the waits of one member.
const (
	maxRequest   = 256 << 10        // bytes of a request: a report, or a certification request
	maxAnswer    = 64 << 20         // bytes of an answer of a CA daemon: signed states and a registry, in base64
	registryPart = 128 << 10        // bytes of a registry in one record of the disk
	maxAddress   = 64               // CA daemons that are tried
	pollWait     = 50 * time.Second // under the minute after which many middleboxes drop a silent connection
	callTimeout  = 10 * time.Second
	dialTimeout  = 5 * time.Second
	retryFirst   = 100 * time.Millisecond
	retryMost    = 5 * time.Second
	bootBound    = 15 * time.Second // without any CA daemon for so long, a member serves what its disk holds
	heartbeat    = 10 * time.Minute // a report even when nothing changed
	refusalPoll  = 5 * time.Second  // a look at whom the member refused, while a rollover runs
	clockPoll    = time.Minute      // timers stop while a machine sleeps: the wall clock is looked at beside them
)
