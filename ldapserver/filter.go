package ldapserver

import (
	"fmt"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// filterKind is the choice of a filter (RFC 4511 §4.5.1.7), its value the
// context tag.
type filterKind uint8

const (
	filterAnd filterKind = iota
	filterOr
	filterNot
	filterEqual
	filterSubstrings
	filterGreater
	filterLess
	filterPresent
	filterApprox
	filterExtensible
)

// node is one filter item or set.
type node struct {
	kind  filterKind
	known bool            // the attribute description and the rule are recognized
	dn    bool            // extensible match: the attributes of the name count
	rule  dit.Rule        // extensible match: the rule that is named
	attr  dit.Description // of no attributes: extensible match for all with the rule
	value []byte          // the assertion of equality, approximate and extensible match
	parts dit.Substrings  // the assertion of substrings
	end   int             // the index behind the last node below this one
}

// filter is a parsed filter: its nodes in preorder, in memory that the
// connection uses again.
type filter struct {
	nodes []node
	any   [][]byte // the middle parts of all substring items
}

// parse reads a filter. Errors disconnect, except errFilterDepth,
// errFilterNodes and errEnumeration.
func (f *filter) parse(r *ber.Reader) error {
	f.nodes, f.any = f.nodes[:0], f.any[:0]
	return f.node(r, 1)
}

func (f *filter) node(r *ber.Reader, depth int) error {
	if depth > maxFilterDepth {
		return errFilterDepth
	}
	if len(f.nodes)+len(f.any) >= maxFilterNodes {
		return errFilterNodes
	}
	e, err := element(r)
	if err != nil {
		return err
	}
	if e.Tag.Class != ber.ContextSpecific {
		return fmt.Errorf("%w: %s in a filter", ber.ErrSyntax, e.Tag)
	}
	at := len(f.nodes)
	f.nodes = append(f.nodes, node{kind: filterKind(min(e.Tag.Number, 255))})
	switch f.nodes[at].kind {
	case filterAnd, filterOr, filterNot:
		err = f.set(r, e, depth)
	case filterPresent:
		if e.Tag.Constructed {
			return fmt.Errorf("%w: constructed presence item", ber.ErrSyntax)
		}
		f.describe(at, e.Content)
	case filterEqual, filterApprox, filterGreater, filterLess:
		err = f.assertion(r, e, at)
	case filterSubstrings:
		err = f.substrings(r, e, at)
	case filterExtensible:
		err = f.extensible(r, e, at)
	default:
		// Choices that a later version may add evaluate to Undefined.
		f.nodes[at].kind = filterExtensible
	}
	f.nodes[at].end = len(f.nodes)
	return err
}

func (f *filter) describe(at int, text []byte) {
	f.nodes[at].attr, f.nodes[at].known = dit.Describe(text)
}

// set reads AND, OR and NOT. Empty sets are the absolute filters of RFC 4526.
func (f *filter) set(r *ber.Reader, e ber.Element, depth int) error {
	in, err := r.Child(e)
	if err != nil {
		return err
	}
	n := 0
	for ; !in.Empty(); n++ {
		if err := f.node(&in, depth+1); err != nil {
			return err
		}
	}
	if e.Tag.Number == uint32(filterNot) && n != 1 {
		return fmt.Errorf("%w: NOT of %d filters", ber.ErrSyntax, n)
	}
	return nil
}

// assertion reads an AttributeValueAssertion.
func (f *filter) assertion(r *ber.Reader, e ber.Element, at int) error {
	in, err := r.Child(e)
	if err != nil {
		return err
	}
	description, err := octets(&in)
	if err != nil {
		return err
	}
	f.describe(at, description)
	f.nodes[at].value, err = octets(&in)
	return err
}

// substrings reads a SubstringFilter: initial first, final last, both at most
// once (RFC 4511 §4.5.1.7.2).
func (f *filter) substrings(r *ber.Reader, e ber.Element, at int) error {
	in, err := r.Child(e)
	if err != nil {
		return err
	}
	description, err := octets(&in)
	if err != nil {
		return err
	}
	f.describe(at, description)
	list, err := enter(&in, ber.Sequence)
	if err != nil {
		return err
	}
	if list.Empty() {
		return errEnumeration // SIZE (1..MAX)
	}
	parts := &f.nodes[at].parts
	first := len(f.any)
	for n := 0; !list.Empty(); n++ {
		part, err := element(&list)
		if err != nil {
			return err
		}
		if len(f.nodes)+len(f.any) >= maxFilterNodes {
			return errFilterNodes
		}
		switch {
		case part.Tag == ber.Context(0, false) && n == 0:
			parts.Initial = part.Content
		case part.Tag == ber.Context(1, false):
			f.any = append(f.any, part.Content)
		case part.Tag == ber.Context(2, false) && list.Empty():
			parts.Final = part.Content
		default:
			return fmt.Errorf("%w: %s in a substring item", ber.ErrSyntax, part.Tag)
		}
	}
	parts.Any = f.any[first:len(f.any):len(f.any)]
	return nil
}

// extensible reads a MatchingRuleAssertion (RFC 4511 §4.5.1.7.7). An item that
// says neither rule nor type, or no value, is Undefined, as in other directories.
func (f *filter) extensible(r *ber.Reader, e ber.Element, at int) error {
	in, err := r.Child(e)
	if err != nil {
		return err
	}
	n := &f.nodes[at]
	var has [5]bool
	recognized, last := true, uint32(0)
	for !in.Empty() {
		part, err := element(&in)
		if err != nil {
			return err
		}
		number := part.Tag.Number
		if part.Tag.Class != ber.ContextSpecific || part.Tag.Constructed || number <= last || number >= uint32(len(has)) {
			return fmt.Errorf("%w: %s in an extensible item", ber.ErrSyntax, part.Tag)
		}
		found := true
		switch number {
		case 1:
			n.rule, found = dit.FindRule(part.Content)
		case 2:
			n.attr, found = dit.Describe(part.Content)
		case 3:
			n.value = part.Content
		case 4:
			if len(part.Content) != 1 {
				return fmt.Errorf("%w: dnAttributes of %d octets", ber.ErrSyntax, len(part.Content))
			}
			n.dn = part.Content[0] != 0
		}
		has[number] = true
		recognized = recognized && found
		last = number
	}
	n.known = recognized && has[3] && (has[1] || has[2])
	return nil
}

// matches evaluates the filter for an entry. Only True selects it.
func (f *filter) matches(e *dit.Entry) dit.Truth { return f.eval(0, e) }

func (f *filter) eval(at int, e *dit.Entry) dit.Truth {
	n := &f.nodes[at]
	switch n.kind {
	case filterAnd:
		result := dit.True
		for i := at + 1; i < n.end; i = f.nodes[i].end {
			result = min(result, f.eval(i, e))
		}
		return result
	case filterOr:
		result := dit.False
		for i := at + 1; i < n.end; i = f.nodes[i].end {
			result = max(result, f.eval(i, e))
		}
		return result
	case filterNot:
		return f.eval(at+1, e).Not()
	}
	if !n.known {
		return dit.Undefined // RFC 4511 §4.5.1.7: the attribute description is not recognized
	}
	switch n.kind {
	case filterPresent:
		return e.Present(n.attr)
	case filterEqual, filterApprox:
		// RFC 4511 §4.5.1.7.6: without an algorithm of our own for approximate
		// matching, it is equality.
		return e.Equal(n.attr, n.value)
	case filterSubstrings:
		return e.Matches(n.attr, n.parts)
	case filterExtensible:
		return e.MatchesRule(dit.RuleAssertion{Rule: n.rule, Attrs: n.attr.Attrs, DN: n.dn, Value: n.value})
	}
	// No attribute here has an ordering rule (RFC 4511 §4.5.1.7.3, .4).
	return dit.Undefined
}

// pins appends the values that mail must equal for the filter to be True, and
// tells whether there is such a list of at most maxPins: an equality item on
// mail gives one, by an extensible item too, AND those of any one of its parts, OR
// those of all its parts together. NOT and every other item leave mail open.
func (f *filter) pins(dst [][]byte) ([][]byte, bool) { return f.pin(0, dst) }

func (f *filter) pin(at int, dst [][]byte) ([][]byte, bool) {
	n := &f.nodes[at]
	switch n.kind {
	case filterEqual, filterExtensible:
		if !n.known || !n.attr.IsMail() || n.dn || !n.rule.Equality() || len(dst) == maxPins {
			return dst, false
		}
		return append(dst, n.value), true
	case filterAnd:
		for i := at + 1; i < n.end; i = f.nodes[i].end {
			if pinned, ok := f.pin(i, dst); ok {
				return pinned, true
			}
		}
		return dst, false
	case filterOr:
		all := dst
		for i := at + 1; i < n.end; i = f.nodes[i].end {
			var ok bool
			if all, ok = f.pin(i, all); !ok {
				return dst, false
			}
		}
		return all, true
	}
	return dst, false
}
