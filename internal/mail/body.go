package mail

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
)

// DecodeBody undoes the Content-Transfer-Encoding of a body (RFC 2045 §6). The
// result of 7bit, 8bit and binary is body itself. Decoding never gives more
// octets than it was given. Errors are *Error.
func DecodeBody(h Header, body []byte) ([]byte, error) {
	encoding, err := h.TransferEncoding()
	if err != nil {
		return nil, err
	}
	switch encoding {
	case "base64":
		return decodeBase64(body)
	case "quoted-printable":
		return decodeQuotedPrintable(body)
	}
	return body, nil
}

// TransferEncoding is the encoding of an entity in lower case, "7bit" where the
// field is absent (RFC 2045 §6.1). An unknown or doubled one is an error: what
// the octets mean is then unknown (§6.4).
func (h Header) TransferEncoding() (string, error) {
	v, present, err := h.One("Content-Transfer-Encoding")
	if err != nil {
		return "", err
	}
	v = strings.ToLower(strings.TrimSpace(stripComments(v)))
	switch {
	case !present || v == "":
		return "7bit", nil
	case v == "7bit", v == "8bit", v == "binary", v == "base64", v == "quoted-printable":
		return v, nil
	}
	return "", malformed("RFC 2045 §6.4", "unknown Content-Transfer-Encoding")
}

// decodeBase64 takes base64 with line ends and white space anywhere and with or
// without padding. RFC 2045 §6.8 lets a decoder skip foreign characters; we do
// not, since two readers of skipped octets see two messages.
func decodeBase64(body []byte) ([]byte, error) {
	if bytes.ContainsAny(body, " \t") {
		body = bytes.Map(func(r rune) rune {
			if r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, body)
	}
	body = bytes.TrimRight(body, "=\r\n")
	enc := base64.RawStdEncoding // skips CR and LF by itself
	out := make([]byte, enc.DecodedLen(len(body)))
	n, err := enc.Decode(out, body)
	if err != nil {
		return nil, malformed("RFC 2045 §6.8", "damaged base64")
	}
	return out[:n], nil
}

func decodeQuotedPrintable(body []byte) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, len(body)))
	if _, err := io.Copy(out, quotedprintable.NewReader(bytes.NewReader(body))); err != nil {
		return nil, malformed("RFC 2045 §6.7", "damaged quoted-printable")
	}
	return out.Bytes(), nil
}

// EncodeBase64 gives base64 in lines of 76 characters (RFC 2045 §6.8), each
// with CRLF, the last too.
func EncodeBase64(b []byte) []byte {
	const perLine = 57 // octets that make 76 characters
	out := make([]byte, 0, (len(b)+perLine-1)/perLine*78)
	for len(b) > 0 {
		n := min(perLine, len(b))
		out = base64.StdEncoding.AppendEncode(out, b[:n])
		out = append(out, '\r', '\n')
		b = b[n:]
	}
	return out
}
