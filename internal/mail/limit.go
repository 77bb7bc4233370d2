package mail

// Limits on what is read from outside. They bound time and memory before any
// signature has been checked. A message that exceeds one is malformed to us.
const (
	// MaxHeaderBytes bounds one header, of a message or of a part. Postfix takes
	// 102,400 octets (header_size_limit); real messages stay below 20 KiB.
	MaxHeaderBytes = 100 << 10
	// MaxFields bounds the fields of one header; a mail that passed 50 relays has about 100.
	MaxFields = 1000
	// MaxParts bounds the parts of one multipart, and of a whole tree in
	// CheckStructure. A few octets of input make a part, so the count needs its
	// own limit beside the size.
	MaxParts = 1000
	// MaxDepth bounds nesting in CheckStructure. Postfix bounds MIME at 100;
	// a forward of a forward of a report of a document needs less than 10.
	MaxDepth = 20
	// MaxBoundary bounds a boundary that is read. RFC 2046 §5.1.1 allows 70
	// characters; some composers exceed it, none by much.
	MaxBoundary = 256
	// MaxParams bounds the parameters of one Content-Type or Content-Disposition.
	MaxParams = 64
	// MaxAddresses bounds an address list. SMTP servers take 100 to 1000 recipients (RFC 5321 §4.5.3.1.8).
	MaxAddresses = 1000
	// maxComment bounds nested comments in structured fields (RFC 5322 §3.2.2 allows any depth).
	maxComment = 10
	// maxMessageID bounds a message identifier: it must fit on one line (RFC 5322 §2.1.1).
	maxMessageID = 900
)

// Line lengths of what is composed (RFC 5322 §2.1.1), without the line end.
const (
	maxLine    = 998 // MUST
	foldedLine = 78  // SHOULD
	maxWord    = 400 // of free text; escaping may double it and it still fits
)
