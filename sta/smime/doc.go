// Package smime makes and takes apart the one form in which Direct messages
// cross a network: EnvelopedData around multipart/signed around the message.
//
// Outbound: a complete message in clear → Sign → Signed → Seal, for recipients
// that were judged → Sealed, the only thing that the outbound queue takes.
//
//	outer header    MIME-Version From To Date Message-ID, and nothing else
//	application/pkcs7-mime; smime-type=enveloped-data, base64
//	└ multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256
//	  ├ message/rfc822, the message octet by octet with CRLF   ← is signed
//	  └ application/pkcs7-signature, detached
//
// Inbound: the octets from the wire → Open, with our keys → Opened, which shows
// nothing → Verify → Verified, whose Message is what the signature covers and
// nothing beside it. Whether the signer is to be believed is decided elsewhere
// (resolver/trust); that the sender is who he says is, too (sta).
//
// Decryption happens at the root of a message only, never in a part of it, and
// no plaintext leaves the package before a signature over all that leaves has
// verified: the two rules that close the EFAIL attacks. Refusals name the check
// and its source, for our log and audit alone; a message that does not decrypt
// has the one error cms.ErrDecrypt.
//
// Sources: AS 2.1-2.7 (the Applicability Statement for Secure Health Transport),
// RFC 5751 (S/MIME 3.2), RFC 1847 §2.1 (multipart/signed), RFC 2046 §5.2.1
// (message/rfc822), RFC 5322 (message format).
package smime
