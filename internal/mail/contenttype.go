package mail

import (
	"mime"
	"strings"
)

// ParseContentType reads the value of a Content-Type field (RFC 2045 §5.1) into
// the media type in lower case and its parameters under lower-case names.
// Parameters may come in any order, quoted or not, also where RFC 2045 asks for
// quotes, with comments, empty ones and a final semicolon; RFC 2231 pieces are
// joined. A parameter that stands twice with two values is an error. Errors are
// *Error.
func ParseContentType(v string) (mediaType string, params map[string]string, err error) {
	mediaType, params, err = parseParameters(v)
	if err != nil {
		return "", nil, err
	}
	if typ, sub, ok := strings.Cut(mediaType, "/"); !ok || typ == "" || sub == "" {
		return "", nil, malformed("RFC 2045 §5.1", "media type without type or subtype")
	}
	return mediaType, params, nil
}

// ContentType is the media type of an entity (RFC 2045 §5.2: text/plain in
// US-ASCII where the field is absent). Two Content-Type fields are an error.
func (h Header) ContentType() (mediaType string, params map[string]string, err error) {
	v, present, err := h.One("Content-Type")
	if err != nil {
		return "", nil, err
	}
	if !present {
		return "text/plain", map[string]string{"charset": "us-ascii"}, nil
	}
	return ParseContentType(v)
}

// parseParameters repairs what mime.ParseMediaType is too strict about, by
// writing each parameter anew in its strictest form, and leaves the rest,
// RFC 2231 above all, to it.
func parseParameters(v string) (string, map[string]string, error) {
	pieces, err := splitParameters(v)
	if err != nil {
		return "", nil, err
	}
	seen := make(map[string]string, len(pieces))
	var b strings.Builder
	b.WriteString(strings.ToLower(strings.TrimSpace(pieces[0])))
	for _, p := range pieces[1:] {
		name, value, ok := strings.Cut(p, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" {
			continue // an empty parameter, or a word without a value: nothing is said by it
		}
		value = unquote(strings.TrimSpace(value))
		if first, twice := seen[name]; twice {
			if first != value {
				return "", nil, malformed("RFC 2045 §5.1", "a parameter stands twice with two values")
			}
			continue
		}
		seen[name] = value
		b.WriteString("; " + name + "=" + quote(value))
	}
	mediaType, params, err := mime.ParseMediaType(b.String())
	if err != nil {
		return "", nil, malformed("RFC 2045 §5.1", "media type: %s", strings.TrimPrefix(err.Error(), "mime: "))
	}
	return mediaType, params, nil
}

// splitParameters cuts at the semicolons outside quotes and drops the comments
// (RFC 5322 §3.2.2), which RFC 2045 §5.1 allows between tokens.
func splitParameters(v string) ([]string, error) {
	var pieces []string
	var b strings.Builder
	quoted, depth := false, 0
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(v):
			if depth == 0 {
				b.WriteString(v[i : i+2])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted && (depth > 0 || b.Len() == 0 || !isValueByte(v[i-1])):
			if depth++; depth > maxComment {
				return nil, malformed("RFC 5322 §3.2.2", "comments nested deeper than %d", maxComment)
			}
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		case c == ';' && !quoted && depth == 0:
			pieces = append(pieces, b.String())
			if len(pieces) > MaxParams {
				return nil, malformed("RFC 2045 §5.1", "more than %d parameters", MaxParams)
			}
			b.Reset()
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	if quoted {
		return nil, malformed("RFC 2045 §5.1", "open quotes in a parameter")
	}
	return append(pieces, b.String()), nil
}

// isValueByte tells that a parenthesis after c belongs to an unquoted value,
// such as name=report(1).pdf, and opens no comment.
func isValueByte(c byte) bool { return c != ' ' && c != '\t' && c != ';' }

// unquote undoes RFC 5322 §3.2.4 quoted-string; anything else stays as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// quote makes a quoted-string.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
