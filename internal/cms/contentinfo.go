package cms

import (
	"fmt"

	"directnode/internal/ber"
)

// openContent reads the ContentInfo (RFC 5652 §3) around a structure of type want and gives a reader of its fields.
// Octets after the ContentInfo are not looked at: some mailers pad their base64.
func openContent(b []byte, l Limits, want oid, what string) (*ber.Reader, error) {
	info, err := ber.NewReader(b, l.ber(len(b))).Enter(ber.Sequence)
	if err != nil {
		return nil, unread("ContentInfo", err)
	}
	got, err := info.OID()
	if err != nil {
		return nil, unread("content type", err)
	}
	if !got.Equal(want) {
		return nil, fmt.Errorf("%w: %s where %s (%s) must stand", ErrContentType, got, what, want)
	}
	explicit, err := info.Enter(ber.Context(0, true))
	if err != nil {
		return nil, unread(what, err)
	}
	fields, err := explicit.Enter(ber.Sequence)
	if err != nil {
		return nil, unread(what, err)
	}
	return fields, nil
}

// skipContext passes over an optional field with this context-specific number.
func skipContext(r *ber.Reader, number uint32) error {
	if t, ok := r.Peek(); !ok || t.Class != ber.ContextSpecific || t.Number != number {
		return nil
	}
	_, err := r.Next()
	return err
}
