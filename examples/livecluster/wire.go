package main

import (
	"time"
)

// The parent talks with its processes in JSON lines: commands on their standard input, events on their standard output. A
// process ends when its standard input does, so none outlives the parent.

// command is what the parent tells a process; one field is set.
type command struct {
	Dial        []peer       `json:"dial,omitempty"`        // dial these without pause
	Stop        bool         `json:"stop,omitempty"`        // finish the exchanges under way, dial no more
	Credentials bool         `json:"credentials,omitempty"` // say what is live
	Swap        *naiveConfig `json:"swap,omitempty"`        // -naive: use this from now on
}

// peer is whom to dial, and where.
type peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// event is what a process tells the parent; one field is set.
type event struct {
	Ready       string       `json:"ready,omitempty"` // its address
	Good        int          `json:"good,omitempty"`  // exchanges since the last event that were good
	Failure     *failure     `json:"failure,omitempty"`
	Stopped     bool         `json:"stopped,omitempty"`
	Credentials *credentials `json:"credentials,omitempty"`
	Error       string       `json:"error,omitempty"` // it cannot go on
}

// failure is one exchange that was not good, as one side saw it.
type failure struct {
	Side   string    `json:"side"`             // who saw it: client or server
	By     string    `json:"by"`               // the node that saw it
	Peer   string    `json:"peer,omitempty"`   // the other node, as far as it is known
	Client string    `json:"client,omitempty"` // address of the client's end: both sides know it
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Reason string    `json:"reason"`
}

// credentials are what a node has live: enough to judge it, and to judge by it.
type credentials struct {
	Chain    [][]byte `json:"chain"` // as presented
	State    []byte   `json:"state"`
	Registry string   `json:"registry"`
	Version  string   `json:"version"` // of the registry
}
