// Package revocation finds out whether a certificate has been withdrawn, and fetches what else certificates point to.
//
// Data in: a certificate and the certificate of its issuer, out of a path whose signatures are verified, and a moment. Data out: a
// trust.RevocationResult: good, revoked, or undetermined with the reason, which is never good (AS 6.1). Undetermined carries until when
// the last good answer counted, so that a policy may grant a time of grace, and whether asking again may help.
//
// Two sources are known. A revocation list (CRL, RFC 5280 §5) counts if it is signed by the issuer's key, speaks about this certificate
// (its distribution point and its kind) and about this moment; delta lists, indirect lists and lists of other keys than the issuer's are
// refused by name. An answer of a responder (OCSP, RFC 6960) counts if it is signed by the issuer or by a responder that the issuer
// made one, is about this certificate of this issuer, is recent, and does not echo another nonce than ours. A responder is asked before
// a list is fetched: it knows later. What says "revoked" counts wherever it comes from; a list that has expired still says so.
//
// The order of one question: what is held and says revoked; a responder's answer that is held; the responders; the list that is held; the
// list, fetched. What was learned is kept on the disk of the node and fetched again ahead of its end (Refresh), so that neither a restart
// nor an issuer that is down for an hour stops mail. Failures are remembered for minutes.
//
// crl.go, scope.go, index.go, source.go and pem.go read lists; ocsp.go asks and reads answers; they open nothing and have no clock.
// service.go, lists.go, answers.go and disk.go keep both; refresh.go keeps them fresh; issuers.go fetches issuers' certificates
// (authorityInfoAccess, RFC 5280 §4.2.2.1) for trust. Everything is asked through package fetch.
//
// Sources: AS 4.0 (3), 6.1; RFC 5280 §4.2.1.13, §4.2.2.1, §5, §6.3; RFC 6960 §2, §3.2, §4; RFC 5019 §2.1; RFC 9654; RFC 7468.
package revocation
