// Package dnsserver answers DNS questions about our zones, over UDP and TCP.
//
// Packets in, packets out: udp.go and tcp.go read them, on Linux by batches and
// event loops of their own (udp_linux.go, tcp_linux.go), handle.go turns one query into one answer (or into silence) and cannot panic outward, answer.go
// solves it by named states against one generation of zones, edns.go and
// truncate.go fit it to the client. Everything behind the sockets is the pure
// function Handle. The server decides nothing: what a name holds is the
// business of package zones.
//
// Queries are read and answers written without a general codec: a query is one
// question and at most an OPT record, an answer is RRsets that package zones
// has already packed. A Server keeps to the bounds in limit.go whatever its
// clients do: a fixed number of goroutines reads UDP, TCP connections are
// counted in total and by address, and every read and write has its time.
//
// dnssec.go adds signatures and proofs to the answers of signed zones, within
// bounds.
//
// Over UDP the sender's address proves nothing: cookie.go lets clients prove
// theirs, truncate.go tells what others do not get, rrl.go how much of the rest.
// docs/AMPLIFICATION.md has the figures; Server.Stats counts.
//
// transfer.go gives zones to the servers that a domain allows and notifier.go tells
// them of changes; fetch.go takes zones from primaries. All of it is signed with the
// keys of Peers (tsig.go).
//
// Sources: RFC 1034 §4.3.2, RFC 1035 §4 and §7.3, RFC 1982 §3, RFC 1995 §2-§4, RFC 1996 §3-§4, RFC 2181 §5 and §9,
// RFC 2308 §2-§3, RFC 4035 §3, RFC 4592 §3.3, RFC 5155 §7.2, RFC 6604 §3, RFC 6672 §3, RFC 6891 §6-§7, RFC 7766 §6-§8,
// RFC 7828 §3, RFC 7858 §3, RFC 7873 §4-§5, RFC 8482 §4, RFC 8906 §3 and §8,
// RFC 5936 §2-§4, RFC 8945 §4-§5, RFC 9018 §4-§5, RFC 9471 §3, RFC 9824 §5; AS 5.4 (use of TCP).
package dnsserver
