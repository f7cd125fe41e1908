// Package member answers: how does a daemon stay a member, whatever happens to keys and roots?
//
// A member is enrolled once ([Enroll]), opened at each start ([Open]) and kept current by [Member.Run]: it rejoins,
// follows the chain of signed trust states, renews its leaf, and reports what is live. Its TLS configurations come
// from [Member.Live] and are never rebuilt. [Handler] is the other side: the calls of a CA daemon, over mutual TLS.
//
// Everything durable stands in the member's own directory, which nobody else uses: its keys, and one record that is
// replaced as a whole. Order at every change: durable, live, then reported.
package member
