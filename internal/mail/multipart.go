package mail

import "bytes"

// Part is one body part with its exact octets.
type Part struct {
	Header Header
	Raw    []byte // header, empty line and body as they stand between the delimiters: what RFC 1847 §2.1 hashes
	Body   []byte // the body, still in its transfer encoding
}

// Limits bounds SplitMultipart. The zero value means MaxParts.
type Limits struct {
	Parts int
}

// SplitMultipart cuts the body of a multipart into its parts (RFC 2046 §5.1.1).
// The line end before a delimiter belongs to the delimiter and to no part.
// Preamble and epilogue are dropped. Where the close delimiter is missing the
// parts come back with ErrUnterminated. Other errors are *Error. All octets are
// slices of body.
func SplitMultipart(body []byte, boundary string, l Limits) ([]Part, error) {
	if boundary == "" || len(boundary) > MaxBoundary {
		return nil, malformed("RFC 2046 §5.1.1", "boundary of %d octets", len(boundary))
	}
	if l.Parts == 0 {
		l.Parts = MaxParts
	}
	d, ok := nextDelimiter(body, boundary, 0)
	if !ok {
		return nil, malformed("RFC 2046 §5.1.1", "no delimiter in the multipart")
	}
	var parts []Part
	for !d.closing {
		if len(parts) == l.Parts {
			return nil, malformed("RFC 2046 §5.1", "more than %d parts", l.Parts)
		}
		next, ok := nextDelimiter(body, boundary, d.end)
		raw := body[d.end:]
		if ok {
			raw = trimLineEnd(body[d.end:next.start])
		}
		h, b, err := Split(raw)
		if err != nil {
			return nil, err
		}
		parts = append(parts, Part{Header: h, Raw: raw, Body: b})
		if !ok {
			return parts, ErrUnterminated
		}
		d = next
	}
	return parts, nil
}

// delimiter is a delimiter line: where it starts, where the next line starts,
// and whether it closes the multipart.
type delimiter struct {
	start, end int
	closing    bool
}

// nextDelimiter finds the first delimiter line at or after from, which must be
// the start of a line. RFC 2046 §5.1.1: "--", the boundary, "--" where it
// closes, white space, line end. A longer line that only begins like a
// delimiter is none.
func nextDelimiter(b []byte, boundary string, from int) (delimiter, bool) {
	dash := []byte("--" + boundary)
	for at := from; ; {
		i := bytes.Index(b[at:], dash)
		if i < 0 {
			return delimiter{}, false
		}
		start := at + i
		at = start + 1
		if start > 0 && b[start-1] != '\n' {
			continue
		}
		rest := start + len(dash)
		closing := bytes.HasPrefix(b[rest:], []byte("--"))
		if closing {
			rest += 2
		}
		for rest < len(b) && (b[rest] == ' ' || b[rest] == '\t') {
			rest++
		}
		switch {
		case rest == len(b):
			return delimiter{start, rest, closing}, true
		case b[rest] == '\n':
			return delimiter{start, rest + 1, closing}, true
		case b[rest] == '\r' && rest+1 < len(b) && b[rest+1] == '\n':
			return delimiter{start, rest + 2, closing}, true
		}
	}
}

// trimLineEnd removes the one line end that belongs to the delimiter after it.
func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n := len(b); n > 0 && b[n-1] == '\r' {
			b = b[:n-1]
		}
	}
	return b
}
