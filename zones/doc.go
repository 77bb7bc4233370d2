// Package zones decides what the DNS shows: records and certificates of the
// store in, an immutable set of zones out, ready to be copied into answers.
//
// A Set is one generation. Build makes it from a store.View, Update makes the
// next one and shares every zone whose data did not change; nothing in a Set is
// ever written again, so any number of queries may read it without a lock.
// Find picks the zone that answers for a name, Zone.Lookup gives the named
// result (Hit, NoData, NXDomain, Referral, CName, DName) and the RRsets, already
// in wire form. Whatever could be worked out beforehand was: there is a node
// for every name (empty non-terminals too), each node knows the delegation and
// the DNAME above it and the wildcard below it, each RRset knows the addresses
// of the hosts that it names.
//
// ParseMaster and WriteMaster move zone text in and out. github.com/miekg/dns
// is the codec of RDATA (docs/adr/0025); this package owns everything around it.
//
// A zone remembers the steps that led to it (Changes), and Incoming reads the
// zone that another server sends, whole or by steps (RFC 5936 §2.2, RFC 1995 §4).
//
// Check tells an administrator what is allowed and yet keeps mail or
// certificates from those who ask for them.
//
// A domain with keys is signed as it is asked for: Zone.Signer makes and
// remembers signatures (sign.go, sigcache.go), Zone.Proofs the records that deny
// (denial.go), and roll.go leads the keys through their lives as a pure function
// of the time. Its certificates are SMIMEA records as well (smimea.go).
//
// What is wrong is refused when the generation is built, by name, so that a
// query never meets it: records outside their zone, a CNAME beside other data,
// a zone without SOA or NS, an RRset that no DNS message can carry.
//
// Sources: AS 5.1-5.3 (names and CERT records); RFC 1034 §4.3.2 and §3.6.2,
// RFC 1035 §3.1 and §5.1, RFC 2181 §5, §6.1, §8 and §10.1, RFC 2308 §3,
// RFC 3597 §5, RFC 4034 §3, §4, §6 and App. B, RFC 4398 §2, RFC 4592 §2-§4,
// RFC 6672 §2-§3, RFC 8020 §2; for signing RFC 4035 §2-§3, RFC 4471 §3, RFC 5155 §3
// and §7, RFC 6605 §4, RFC 6840 §5, RFC 7129 App. B, RFC 7344 §4, RFC 7583 §3,
// RFC 8078 §4, RFC 8080 §3, RFC 8162 §2-§4, RFC 9077 §3, RFC 9276 §3, RFC 9824 §3-§5.
package zones
