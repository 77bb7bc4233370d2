// Package smtpclient delivers mail by SMTP: an envelope and a message in, one
// verdict per recipient out.
//
// Deliver finds the servers of the recipients' domain and hands the message to
// the first that takes it; Submit hands it to a given server. The package does
// not retry, sign or seal: what it is given it transfers, with line ends made
// canonical. It follows
//
//   - RFC 5321: commands and replies (§3, §4), transparency (§4.5.2), time-outs
//     (§4.5.3.2), finding the server (§5.1); RFC 7505: null MX;
//   - RFC 3207 STARTTLS, RFC 1870 SIZE, RFC 6152 8BITMIME, RFC 2920 PIPELINING,
//     RFC 3463 enhanced status codes.
//
// TLS is opportunistic unless Options say otherwise: the content is sealed
// whatever the connection, so TLS without a verified peer hides the envelope
// from listeners and costs nothing, and no TLS is no reason to keep the mail.
//
// A verdict is nil (the server answered 250 after the message), or an *Error
// that says at which host and step it failed and is temporary or permanent.
// If the connection breaks after the message and before the answer, the verdict
// is temporary although the message may have arrived: RFC 5321 §6.1 prefers two
// copies to none, and receivers know a message by its identity.
package smtpclient
