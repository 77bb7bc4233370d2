package mail

import "strings"

// CheckStructure tells whether a message is one that every reader takes apart
// in the same way (RFC 2045, RFC 2046): each header is well-formed, each
// multipart has its boundary and its close delimiter, each transfer encoding is
// known and its octets decode, and nesting and the number of parts keep to
// MaxDepth and MaxParts. Errors are *Error.
func CheckStructure(msg []byte) error {
	h, body, err := Split(msg)
	if err != nil {
		return err
	}
	return (&structure{}).check(h, body, 1)
}

// structure counts the entities of one message.
type structure struct {
	entities int
}

func (s *structure) check(h Header, body []byte, depth int) error {
	if depth > MaxDepth {
		return malformed("RFC 2046 §5.1", "parts nested deeper than %d", MaxDepth)
	}
	if s.entities++; s.entities > MaxParts {
		return malformed("RFC 2046 §5.1", "more than %d parts", MaxParts)
	}
	mediaType, params, err := h.ContentType()
	if err != nil {
		return err
	}
	encoding, err := h.TransferEncoding()
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(mediaType, "multipart/"), mediaType == "message/rfc822":
		// RFC 2045 §6.4, RFC 2046 §5.2.1: composite types are never encoded as a whole.
		if encoding == "base64" || encoding == "quoted-printable" {
			return malformed("RFC 2045 §6.4", "%s in %s", mediaType, encoding)
		}
	default:
		_, err := DecodeBody(h, body)
		return err
	}
	if mediaType == "message/rfc822" {
		inner, innerBody, err := Split(body)
		if err != nil {
			return err
		}
		return s.check(inner, innerBody, depth+1)
	}
	parts, err := SplitMultipart(body, params["boundary"], Limits{})
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := s.check(p.Header, p.Body, depth+1); err != nil {
			return err
		}
	}
	return nil
}
