package zones

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Formats of WriteMaster.
const (
	FormatBIND     = "bind"     // zone text of RFC 1035
	FormatRFC3597  = "rfc3597"  // the same with CERT and younger types as TYPEnnn, for servers that do not know them
	FormatNsupdate = "nsupdate" // commands that put the same records into a zone on another server
)

// Formats lists them, the default first.
func Formats() []string { return []string{FormatBIND, FormatRFC3597, FormatNsupdate} }

// WriteMaster writes the zone of a domain as the DNS shows it: with the serial
// of the view, certificates included. Certificates stand there themselves,
// whatever form the node publishes them in, so that ParseMaster gives back what
// was written; keys and signatures of DNSSEC, which are of no use without each
// other elsewhere, are left out.
func WriteMaster(w io.Writer, v *store.View, d direct.Domain, format string) error {
	if !slices.Contains(Formats(), format) {
		return fmt.Errorf("zone %s: no format %q; there are %s", d, format, strings.Join(Formats(), ", "))
	}
	if v.Domain(d) == nil {
		return fmt.Errorf("zone %s: not one of our domains", d)
	}
	set, err := Build(v, Options{unsigned: true})
	if err != nil {
		return err
	}
	return set.Zone(d).Write(w, format)
}

// Write writes the zone's text in one of the formats.
func (z *Zone) Write(w io.Writer, format string) error {
	out := &masterWriter{Writer: bufio.NewWriter(w), apex: z.apex, format: format}
	out.begin(z)
	names := z.sorted()
	if format == FormatNsupdate {
		// BIND refuses an MX or SRV record to a host that has no address yet.
		out.addresses = true
		if err := out.names(z, names); err != nil {
			return err
		}
		out.addresses = false
	}
	if err := out.names(z, names); err != nil {
		return err
	}
	out.end()
	return out.Flush()
}

// names writes the RRsets of all names.
func (w *masterWriter) names(z *Zone, names []Name) error {
	var set RRset
	for _, name := range names {
		n := z.nodes.get(name)
		if n == nil {
			z.certsAt([]byte(name), &set)
			n = &Node{name: name, sets: []*RRset{&set}}
		}
		for _, s := range n.sets {
			if err := w.set(n, s); err != nil {
				return fmt.Errorf("zone %s: %s %s: %w", z.domain, n.name, typeString(s.Type), err)
			}
		}
	}
	return nil
}

// sorted is all names, the apex first, in canonical order.
func (z *Zone) sorted() []Name {
	type place struct {
		key  string
		name Name
	}
	places := make([]place, 0, z.Len())
	for n := range z.nodes.all {
		places = append(places, place{n.name.sortKey(), n.name})
	}
	for name := range z.allCerts {
		places = append(places, place{name.sortKey(), name})
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.key, b.key) })
	names := make([]Name, len(places))
	for i, p := range places {
		names[i] = p.name
	}
	return names
}

// masterWriter writes one zone; its bufio.Writer keeps the first error.
type masterWriter struct {
	*bufio.Writer
	apex   *Node
	format string

	// Of FormatNsupdate:
	batch     int  // octets of records since the last "send"
	addresses bool // addresses are written now, and nothing else; they come first
}

func (w *masterWriter) begin(z *Zone) {
	if w.format == FormatNsupdate {
		fmt.Fprintf(w, "; zone %s, serial %d. SOA and NS of the zone are left as the server has them.\nzone %s\n", z.domain, z.serial, ownerText(w.apex.name))
		return
	}
	fmt.Fprintf(w, "; zone %s, serial %d\n$ORIGIN %s\n", z.domain, z.serial, ownerText(w.apex.name))
}

func (w *masterWriter) end() {
	if w.format == FormatNsupdate && w.batch > 0 {
		fmt.Fprintln(w, "send")
	}
}

// set writes one RRset.
func (w *masterWriter) set(n *Node, s *RRset) error {
	// A zone begins with its SOA (RFC 1035 §5.2), so it is written before the
	// other types of the apex.
	if n == w.apex && w.format != FormatNsupdate && s == n.sets[0] && s.Type != dns.TypeSOA {
		if err := w.records(n, n.RRset(dns.TypeSOA)); err != nil {
			return err
		}
	}
	if n == w.apex && s.Type == dns.TypeSOA && s != n.sets[0] && w.format != FormatNsupdate {
		return nil
	}
	if w.format == FormatNsupdate {
		return w.update(n, s)
	}
	return w.records(n, s)
}

// maxUpdate bounds one UPDATE message (RFC 2136 §2: a DNS message of at most
// 65,535 octets). The longest RRset goes alone.
const maxUpdate = 60_000

// update replaces one RRset on the other server.
func (w *masterWriter) update(n *Node, s *RRset) error {
	// RFC 2136 §3.4.2.3: SOA and NS of the apex belong to whoever serves it.
	if n == w.apex && (s.Type == dns.TypeSOA || s.Type == dns.TypeNS) {
		return nil
	}
	if w.addresses != (s.Type == dns.TypeA || s.Type == dns.TypeAAAA) {
		return nil
	}
	size := len(n.name) + 10 + s.Len(len(n.name))
	if w.batch > 0 && w.batch+size > maxUpdate {
		fmt.Fprintln(w, "send")
		w.batch = 0
	}
	w.batch += size
	fmt.Fprintf(w, "update delete %s %s\n", ownerText(n.name), typeString(s.Type))
	for wire := range s.RData {
		text, err := rdataText(s.Type, wire)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "update add %s %d IN %s %s\n", ownerText(n.name), s.TTL, typeString(s.Type), text)
	}
	return nil
}

// records writes an RRset as zone text.
func (w *masterWriter) records(n *Node, s *RRset) error {
	for wire := range s.RData {
		switch {
		case w.format == FormatRFC3597 && !oldType(s.Type):
			if len(wire) == 0 { // parentheses around nothing are no RDATA to some
				fmt.Fprintf(w, "%s %d IN TYPE%d \\# 0\n", ownerText(n.name), s.TTL, s.Type)
				continue
			}
			fmt.Fprintf(w, "%s %d IN TYPE%d \\# %d (\n", ownerText(n.name), s.TTL, s.Type, len(wire))
			w.folded(hex.EncodeToString(wire))
		case s.Type == dns.TypeCERT:
			fmt.Fprintf(w, "%s %d IN CERT %s (\n", ownerText(n.name), s.TTL, certPrefix(wire))
			w.folded(base64.StdEncoding.EncodeToString(wire[certHead:]))
		default:
			text, err := rdataText(s.Type, wire)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s %d IN %s %s\n", ownerText(n.name), s.TTL, typeString(s.Type), text)
		}
	}
	return nil
}

// ownerText is the owner of a record as every server reads it: Knot takes
// letters, digits and few signs as they are, and everything that a local part
// has besides only in the form of RFC 1035 §5.1, \DDD.
func ownerText(n Name) string {
	var b strings.Builder
	for !n.isRoot() {
		for _, c := range []byte(n.first()) {
			switch {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '*':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, "\\%03d", c)
			}
		}
		b.WriteByte('.')
		n = n.parent()
	}
	if b.Len() == 0 {
		return "."
	}
	return b.String()
}

// folded ends a record in parentheses, 64 characters a line as PEM has them.
func (w *masterWriter) folded(s string) {
	for len(s) > 0 {
		n := min(64, len(s))
		end := "\n"
		if n == len(s) {
			end = " )\n"
		}
		fmt.Fprintf(w, "\t%s%s", s[:n], end)
		s = s[n:]
	}
}

// oldType tells the types that every name server reads by their names.
func oldType(t uint16) bool {
	switch t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeCNAME, dns.TypeSRV, dns.TypePTR:
		return true
	}
	return false
}
