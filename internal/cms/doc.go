// Package cms makes and reads the Cryptographic Message Syntax as S/MIME uses it: detached SignedData and EnvelopedData.
//
// Data in, data out:
//
//	content + signers           → SignDetached → DER of a SignedData
//	octets                      → ParseSignedData → SignedData; + content → Verify → one SignerResult per SignerInfo
//	content + certificates      → Encrypt → DER or BER of an EnvelopedData
//	octets                      → ParseEnvelopedData → EnvelopedData; + private keys → Decrypt → content
//
// The package knows no MIME, no trust and no clock: whether a signer's certificate may be believed and whether a signing
// time makes sense is decided by the caller. It accepts no content that it was not given: Verify refuses a detached content
// for a structure that carries its own, so that the octets that were verified are never in doubt.
//
// What is on purpose not symmetrical: only SHA-256, SHA-384 and SHA-512 are ever used to sign, SHA-1 can be verified when the
// caller's policy says so, MD5 never; content is encrypted and decrypted with AES in CBC mode only, 3DES and RC2 are refused
// by name. Input may be BER (indefinite lengths, constructed strings), output is DER wherever the size of the content is
// known in advance.
//
// Decrypt has one error and one course of action for everything that depends on a private key (see decrypt.go), because the
// agent that calls it answers mail automatically and would otherwise be an oracle.
//
// Documents: RFC 5652 §3 (ContentInfo), §5 (SignedData), §6 (EnvelopedData), §11 (attributes); RFC 3370 and RFC 5754
// (algorithms); RFC 4055, RFC 3560 and RFC 8017 (RSA-OAEP, RSA-PSS, PKCS #1 v1.5); RFC 4056 (PSS in CMS); RFC 5753 §2.1
// (ECDSA); RFC 3565 (AES-CBC); RFC 3218 (defence against the million message attack); RFC 6211 (algorithm protection);
// RFC 5751 §2 (the S/MIME profile); X.690 (BER, DER).
package cms
