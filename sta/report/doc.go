// Package report composes and reads the two mail system reports: Message
// Disposition Notifications (MDN) and Delivery Status Notifications (DSN).
//
// Facts in, octets out: MDN.Compose and DSN.Compose give a complete
// multipart/report message in clear, with CRLF and 7-bit throughout; the agent
// then signs, seals and sends it like any message (AS 3.0). Octets in, facts
// out: Parse reads a report after its signature was verified, in any of the odd
// forms that other implementations send, and says which oddities it met. IsReport
// tells by the header alone, so that nobody ever answers a report.
//
// The text of a report never holds the subject or any word of the message that
// it is about.
//
// Sources: AS 3.0-3.3 and 2.2 (the Applicability Statement for Secure Health
// Transport), RFC 6522 (multipart/report), RFC 3798 and RFC 8098 (MDN), RFC 3464
// (DSN), RFC 3463 (status codes), RFC 3834 (Auto-Submitted), the
// Implementation Guide for Delivery Notification in Direct v1.0
// (X-DIRECT-FINAL-DESTINATION-DELIVERY).
package report
