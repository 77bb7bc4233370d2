// Bench measures directd beside NSD, Knot DNS and BIND, and its directory
// beside slapd and a plain server of the library gldap, on the machine it runs
// on, and writes the tables of docs/PERFORMANCE.md.
//
// In: the programs of this tree in bin/, the peers that are installed, and
// flags. Out: tables for people, and with -o the sections of a Markdown file,
// one for DNS and one for LDAP.
//
// All servers are up at once, bound to one core and with one worker each; the
// generator has another core. They are measured in turn, round after round, so
// that whatever else the machine does falls on all of them alike. The figure is
// the CPU time of a server's whole process tree for one right answer, which is
// steady where answers per second are not. Every answer is held against its
// question; a run with one wrong or lost answer does not count.
//
// The queries are those of RFC 1035 with the OPT record of RFC 6891, over TCP
// as RFC 7766 §6.2.1 has it: kept connections, pipelined, or one for a query.
// The searches are those of RFC 4511 §4.5 by which a certificate is looked for:
// the address by equality, the attribute userCertificate;binary. The program is
// also the plain server, and the client with the library go-ldap, in processes
// of their own.
package main
