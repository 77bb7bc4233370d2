package zones

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"
)

// namesIn tells where names stand in the RDATA of the types whose names are
// lowered for signing (RFC 4034 §6.2, without NSEC: RFC 6840 §5.1): after how
// many octets, and how many of them one after the other. Types younger than
// RFC 3597 are not among them.
func namesIn(rrtype uint16) (skip, count int) {
	switch rrtype {
	case dns.TypeNS, dns.TypeMD, dns.TypeMF, dns.TypeCNAME, dns.TypeMB, dns.TypeMG, dns.TypeMR, dns.TypePTR, dns.TypeDNAME:
		return 0, 1
	case dns.TypeSOA, dns.TypeMINFO, dns.TypeRP:
		return 0, 2
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX:
		return 2, 1
	case dns.TypePX:
		return 2, 2
	case dns.TypeSRV:
		return 6, 1
	}
	return 0, 0
}

// naptrName is where the name begins in the RDATA of a NAPTR record: after two
// numbers and three strings (RFC 3403 §4.1).
func naptrName(rdata []byte) int {
	at := 4
	for range 3 {
		if at < len(rdata) {
			at += 1 + int(rdata[at])
		}
	}
	return min(at, len(rdata))
}

// appendCanonical appends RDATA in canonical form (RFC 4034 §6.2). It is well
// formed and has no compressed names: zones are built of such only.
func appendCanonical(dst []byte, rrtype uint16, rdata []byte) []byte {
	at, count := namesIn(rrtype)
	if rrtype == dns.TypeNAPTR {
		at, count = naptrName(rdata), 1
	}
	if count == 0 {
		return append(dst, rdata...)
	}
	dst = append(dst, rdata[:at]...)
	end := at
	for range count {
		for end < len(rdata) && rdata[end] != 0 {
			end += 1 + int(rdata[end])
		}
		end = min(end+1, len(rdata))
	}
	dst = AppendLower(dst, rdata[at:end])
	return append(dst, rdata[end:]...)
}

// appendSigned appends an RRset as it is signed (RFC 4034 §3.1.8.1): every
// record with the owner in lower case, RDATA in canonical form and order
// (§6.3).
func appendSigned(dst []byte, owner []byte, set *RRset) []byte {
	_, names := namesIn(set.Type)
	var sorted [][]byte
	for data := range set.RData {
		if names > 0 || set.Type == dns.TypeNAPTR {
			data = appendCanonical(nil, set.Type, data)
		}
		sorted = append(sorted, data)
	}
	slices.SortFunc(sorted, bytes.Compare)
	for _, data := range sorted {
		dst = append(dst, owner...)
		dst = binary.BigEndian.AppendUint16(dst, set.Type)
		dst = binary.BigEndian.AppendUint16(dst, dns.ClassINET)
		dst = binary.BigEndian.AppendUint32(dst, set.TTL)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(data)))
		dst = append(dst, data...)
	}
	return dst
}
