// Package mail knows the structure of mail and no policy: octets in, the same
// octets in named pieces out.
//
// Split cuts a message into header and body, SplitMultipart a body into its
// parts, ParseContentType and ParseAddressList read field values, DecodeBody
// undoes a transfer encoding, Canonical makes line ends CRLF, and Builder
// composes. Pieces are slices of the input: nothing is re-serialized, because a
// signature covers octets and not their meaning (RFC 1847 §2.1). What is read
// may be odd (lower-case names, white space before the colon, unquoted
// parameters, LF without CR); what is composed is strict.
//
// The package also holds the three values that all mail rooms share: Envelope,
// Delivery and Reply.
//
// Sources: RFC 5322 (messages), RFC 2045, 2046, 2047 and 2231 (MIME), RFC 1847
// §2.1 (what a multipart/signed signature covers), RFC 5321 (envelope, replies),
// RFC 3463 (enhanced status codes).
package mail
