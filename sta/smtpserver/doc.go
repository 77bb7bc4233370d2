// Package smtpserver receives mail by SMTP: bytes of a connection in, an
// envelope and a stream of exact message octets out to a Backend.
//
// It serves both doors of the agent, the one for other Security/Trust Agents
// and the one for submission; they differ in Options only. The package decides
// nothing about messages. It answers for the protocol:
//
//   - RFC 5321: sequence of commands (§4.1.4), reply codes (§4.2), limits and
//     time-outs (§4.5.3), transparency (§4.5.2), trace field (§4.4);
//   - RFC 3207 STARTTLS, RFC 1870 SIZE, RFC 6152 8BITMIME, RFC 2034 enhanced
//     status codes, RFC 2920 PIPELINING, RFC 3030 CHUNKING (without BINARYMIME).
//
// The engine is github.com/emersion/go-smtp. In front of it stands a gate, a
// net.Conn of our own that the engine believes to be the client. The gate reads
// the socket with deadlines, a minimum rate and a cap on the whole session,
// hands the engine one well-formed command at a time and message octets that it
// has checked, and carries out STARTTLS and BDAT itself. So the engine never
// holds an octet that it should not interpret yet, and whatever goes wrong in a
// message closes the connection: its rest is never read as commands.
//
// Only CR LF . CR LF ends a message. A bare CR, a bare LF or a NUL, in DATA or
// in BDAT, is answered with 550 and the connection is closed, because servers
// that disagree about line ends can be made to see messages nobody sent.
package smtpserver
