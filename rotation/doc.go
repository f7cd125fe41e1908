// Package rotation answers: how does trust change without breaking a handshake?
//
// The machine is pure: [Next] says from the trust state and the members' reports which state may follow, what has to
// be made first, or who blocks and why. A [Cluster] keeps the state in a store and is what an operator calls; a
// [Daemon] publishes what is committed, answers members, and commits the steps that the machine allows.
//
// The order of every change is add, prove, switch, remove:
//
//	settled → trust (the new root is trusted) → switch (it signs) → drop (the old one is trusted no more) → settled
//
// and no step is taken by a timer. A step waits until each member that counts has confirmed exactly the state in force.
package rotation
