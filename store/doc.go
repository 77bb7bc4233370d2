// Package store keeps what the administrator owns: the domains of the node,
// their DNS records, the certificates of their addresses and organizations,
// the private keys that belong to them, the trust anchors, the TSIG keys of the
// node, and the other name servers of each domain.
//
// Data in: changes, each one function that runs against a Tx. Data out: a
// View, one immutable generation of everything. A change goes through five
// steps and any of them refuses the whole of it:
//
//	Update(fn) → fn edits an overlay (Tx)
//	           → the next View is built; what did not change is shared
//	           → Options.Prepare(next) builds what the servers will publish
//	           → one transaction of package kv, durable
//	           → the View is swapped, publish() lets the servers see it
//
// Readers call Store.View and never wait. There is one writer at a time.
//
// Who a certificate belongs to comes from its subjectAltName and from nowhere
// else (AS 1.4, 4.1): OwnersOf. Private keys are stored sealed under a master
// key that is not in the store (see Sealer); Check holds everything against
// its invariants; Backup and Restore move all of it between machines and
// drivers. The layout on disk is in schema.go, the limits are in limit.go.
//
// Sections: AS 1.4 (association of certificates), 4.2.1 and 4.2.3 (anchors),
// 6.1 (protection of keys and anchors); RFC 5280 §4.2.1.6 (subjectAltName);
// RFC 5958 (the plaintext of a sealed key); RFC 2181 §8 (TTL).
package store
