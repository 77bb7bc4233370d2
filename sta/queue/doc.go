// Package queue is the durable spool of the Security/Trust Agent and the only
// place that tries again.
//
// Data in: encrypted messages, from the MX port (Receive) and from the agent
// (Put, Settle). Data out: calls of four handlers, each repeated until it has
// succeeded or the message has been given up.
//
// # What is kept
//
//	DIR/lock        the process that owns the queue
//	DIR/index.db    a bbolt file: what is due for whom, and when (index.go)
//	DIR/spool/ID    one file per message, exactly what crosses the wire
//
// Files hold ciphertext only (AS 2.4-i): inbound mail as it came, outbound
// mail as smime.Seal made it. The index holds addresses, times and replies.
//
// # What is promised
//
// A method that returned nil has made its effect durable: the file and its
// directory entry are flushed before the index commits, and the index commits
// with an fsync. A file without a row is a message that was never
// acknowledged or is done with, and is removed at the next start; a row is
// removed before its file.
//
// A handler may be called again for something it did before, after a crash
// between its effect and the commit that records it. Inbound messages are
// settled in one transaction (Settle), which also decides by the identity of
// the message whether the recipient has had it before (AS 3.2-a: a
// retransmitted duplicate gives no second delivery and no second
// notification). Publishing is a row of its own, due until it succeeded.
// Delivery to other nodes is at least once; the Message-ID makes a repetition
// harmless.
//
// # What a stranger can use up
//
// Everything that is encrypted is taken, for nobody has looked inside yet. What
// turns out to be for nobody is held for the operator, 7 days at most and 1 GiB
// together, the oldest going first; what our own faults kept from being judged
// is held until the operator acts. Near the end of the disk nothing is taken
// (ErrNoSpace), so that what was taken can still be delivered.
//
// # Order and fairness
//
// What is due is kept in memory, in lanes, and rebuilt from the index at the
// start. Outbound there is one lane for each correspondent's domain, inbound one
// for each peer's address, because nobody has proved MAIL FROM. A lane runs a
// few things at a time, so that a dead host or a busy peer starves nobody but
// itself. Leases are in memory only,
// because one process owns the queue: what was at work in a crash is due
// again at the start.
//
// Sources: RFC 5321 §4.2.5 (responsibility after 250), §4.5.4.1 (sending
// strategy); AS 3.2 (processed notifications).
package queue
