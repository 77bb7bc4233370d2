package zones

import "directnode/store"

// BuildData and UpdateData are Build and Update for data that no store would
// hold.
func BuildData(rev int64, all ...*store.DomainData) (*Set, error) {
	return build(&Set{}, rev, all)
}

func (s *Set) UpdateData(rev int64, all ...*store.DomainData) (*Set, error) {
	return build(s, rev, all)
}

// CheckNames lists the rows of the table of checks.
func CheckNames() (names []string) {
	for _, row := range checks {
		names = append(names, row.name)
	}
	return names
}

// RDataText, GenericText and ParseRData are the text of RDATA and its reader.
func RDataText(rrtype uint16, wire []byte) (string, error) { return rdataText(rrtype, wire) }
func GenericText(wire []byte) string                       { return genericText(wire) }
func ParseRData(rrtype uint16, tokens []string, origin string) ([]byte, error) {
	return parseRData(rrtype, tokens, origin)
}

// SortKey is the key by which Write sorts names.
func (n Name) SortKey() string { return n.sortKey() }
