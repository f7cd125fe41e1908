package member

import "time"

// Bounds on what comes from outside, and the waits of one member.
const (
	maxRequest  = 256 << 10        // bytes of a request: a report, or a certification request
	maxAnswer   = 224 << 20        // bytes of a CA daemon's answer: signed states, and a registry of a million in base64
	maxParts    = 1024             // records that a registry takes on disk: a million entries take 520
	maxAddress  = 64               // CA daemons that are tried
	pollWait    = 50 * time.Second // under the minute after which many middleboxes drop a silent connection
	callTimeout = 10 * time.Second
	dialTimeout = 5 * time.Second
	retryFirst  = 100 * time.Millisecond
	retryMost   = 5 * time.Second
	maxRejoins  = 8                // states that may be committed while one boot is reported
	bootBound   = 15 * time.Second // without any CA daemon for so long, a member serves what its disk holds
	heartbeat   = 10 * time.Minute // a report even when nothing changed
	refusalPoll = 5 * time.Second  // a look at whom the member refused, while a rollover runs
	clockPoll   = time.Minute      // timers stop while a machine sleeps: the wall clock is looked at beside them
)
