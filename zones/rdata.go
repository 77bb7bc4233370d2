package zones

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// rdata is the RDATA of one record in wire form, in two pieces: certificates
// are not copied to get their five octets in front.
type rdata struct {
	head [5]byte
	used int // octets of head
	body []byte
}

func (d rdata) len() int { return d.used + len(d.body) }

func (d rdata) append(dst []byte) []byte {
	return append(append(dst, d.head[:d.used]...), d.body...)
}

// compare is the canonical order of records in an RRset (RFC 4034 §6.3), which
// we keep so that equal data gives equal octets.
func (d rdata) compare(e rdata) int {
	if d.used == e.used {
		if c := bytes.Compare(d.head[:d.used], e.head[:e.used]); c != 0 {
			return c
		}
		return bytes.Compare(d.body, e.body)
	}
	return bytes.Compare(d.append(nil), e.append(nil))
}

// refusedTypes are those that a zone's text may not hold, and why.
func refusedType(rrtype uint16) string {
	switch rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeSIG, dns.TypeNXT:
		return "records of DNSSEC signing are made by the signer, not taken from text"
	case 0, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return "a type for queries and messages, not for data (RFC 6895 §3.1)"
	}
	return ""
}

// parseType reads a type mnemonic or TYPEnnn (RFC 3597 §5).
func parseType(s string) (uint16, bool) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok {
		return t, true
	}
	if n, ok := strings.CutPrefix(s, "TYPE"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		return uint16(v), err == nil
	}
	return 0, false
}

// typeString is the mnemonic, or TYPEnnn where there is none.
func typeString(t uint16) string {
	if s, ok := dns.TypeToString[t]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// isGeneric tells the form `\# length hex` (RFC 3597 §5), which is legal for
// every type.
func isGeneric(tokens []string) bool { return len(tokens) > 0 && tokens[0] == `\#` }

// parseGeneric reads that form.
func parseGeneric(tokens []string) ([]byte, error) {
	if len(tokens) < 2 {
		return nil, fmt.Errorf(`RDATA after \# has no length`)
	}
	n, err := strconv.ParseUint(tokens[1], 10, 16)
	if err != nil {
		return nil, fmt.Errorf(`RDATA length %.20q after \#`, tokens[1])
	}
	b, err := hex.DecodeString(strings.Join(tokens[2:], ""))
	if err != nil {
		return nil, fmt.Errorf(`RDATA after \# is not hexadecimal: %w`, err)
	}
	if uint64(len(b)) != n {
		return nil, fmt.Errorf(`RDATA of %d octets after \# %d`, len(b), n)
	}
	return b, nil
}

// parseRData makes RDATA in wire form of its text: tokens as a zone file has
// them, names below origin where they are relative. CERT has its own reader.
func parseRData(rrtype uint16, tokens []string, origin string) ([]byte, error) {
	if rrtype == dns.TypeCERT {
		return parseCERT(tokens)
	}
	if isGeneric(tokens) {
		wire, err := parseGeneric(tokens)
		if err != nil {
			return nil, err
		}
		return wire, checkRData(rrtype, wire)
	}
	// The owner is a stand-in, so that no name can begin the line like a
	// directive; it is the root, so that it never meets the origin.
	text := ". 0 IN " + typeString(rrtype) + " " + strings.Join(tokens, " ") + "\n"
	zp := dns.NewZoneParser(strings.NewReader(text), origin, "")
	rr, ok := zp.Next()
	if !ok {
		return nil, codecError(zp.Err())
	}
	if _, more := zp.Next(); more || zp.Err() != nil {
		return nil, fmt.Errorf("more than one record")
	}
	wire, err := packRData(rr)
	if err != nil {
		return nil, err
	}
	// The codec writes a name of 256 octets; only its reader counts them.
	_, err = unpackRData(rrtype, wire)
	return wire, err
}

// codecError drops the position that the codec reports: it counts within the
// one record that it was given.
func codecError(err error) error {
	if err == nil {
		return fmt.Errorf("no RDATA")
	}
	s := strings.TrimPrefix(err.Error(), "dns: ")
	if at := strings.LastIndex(s, " at line: "); at >= 0 {
		s = s[:at]
	}
	return fmt.Errorf("%.200s", s)
}

func packRData(rr dns.RR) ([]byte, error) {
	buf := make([]byte, dns.Len(rr)+maxName)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, codecError(err)
	}
	// The owner is the root: one octet, then type, class, TTL and length.
	return buf[1+10 : end : end], nil
}

// checkRData refuses octets that the codec would not have written itself, such
// as compression pointers (RFC 3597 §4) and trailing garbage.
func checkRData(rrtype uint16, wire []byte) error {
	rr, err := unpackRData(rrtype, wire)
	if err != nil {
		return err
	}
	again, err := packRData(rr)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, wire) {
		return fmt.Errorf("RDATA is not what a %s record holds", typeString(rrtype))
	}
	return nil
}

func unpackRData(rrtype uint16, wire []byte) (dns.RR, error) {
	h := dns.RR_Header{Name: ".", Rrtype: rrtype, Class: dns.ClassINET, Rdlength: uint16(len(wire))}
	if len(wire) == 0 {
		if rrtype == dns.TypeAPL || rrtype == dns.TypeNULL || dns.TypeToRR[rrtype] == nil {
			return &dns.RFC3597{Hdr: h}, nil
		}
		return nil, fmt.Errorf("a %s record without RDATA", typeString(rrtype))
	}
	rr, _, err := dns.UnpackRRWithHeader(h, wire, 0)
	if err != nil {
		return nil, codecError(err)
	}
	return rr, nil
}

// rdataText is the text form of RDATA on one line, all names absolute: what a
// store.Record keeps.
func rdataText(rrtype uint16, wire []byte) (string, error) {
	if rrtype == dns.TypeCERT {
		return certText(wire)
	}
	rr, err := unpackRData(rrtype, wire)
	if err != nil {
		return "", err
	}
	switch rr.(type) {
	case *dns.RFC3597, *dns.NULL: // RFC 1035 §3.3.10: NULL has no form of its own
		return strings.TrimSpace(genericText(wire)), nil
	}
	return strings.TrimSpace(strings.TrimPrefix(rr.String(), rr.Header().String())), nil
}

// genericText is the form that any name server can read (RFC 3597 §5).
func genericText(wire []byte) string {
	return fmt.Sprintf(`\# %d %s`, len(wire), hex.EncodeToString(wire))
}
