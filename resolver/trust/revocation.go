package trust

import "bytes"

// SameName tells whether two names in DER are one (RFC 5280 §7.1): without regard to the string types of their values, to case and to
// the amount of white space. Whoever looks for the list of an issuer, or for its responder, needs the same answer as the path has.
func SameName(a, b []byte) bool {
	return bytes.Equal(a, b) || canonical(a).key() == canonical(b).key()
}
