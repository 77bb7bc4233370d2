package report

// Limits on reports that are read.
const (
	// maxMachine bounds the machine-readable part. A DSN about 1000 recipients
	// with long diagnostics stays below 500 KiB.
	maxMachine = 512 << 10
	// maxFields bounds the fields of all groups of that part: 1000 recipients of
	// 8 fields each, RFC 3464 §2.3 has 9.
	maxFields = 8000
	// maxReason bounds the explanation that is kept of a peer's report: it ends
	// in logs and on pages. A diagnostic is a sentence or two.
	maxReason = 2000
)
