package dnsserver

import "github.com/miekg/dns"

// UDPCert says when CERT records may leave by UDP. A certificate is twenty
// times the size of the question for it, and the sender's address of a UDP
// packet proves nothing; over TCP it does.
type UDPCert uint8

// The policies.
const (
	// CertByCookie: only to a client that proved its address by a DNS cookie.
	// This server hands out no cookies, so that CERT leaves by TCP alone.
	CertByCookie UDPCert = iota
	// CertNever: by TCP alone.
	CertNever
	// CertAlways: whenever it fits.
	CertAlways
)

// ParseUDPCert reads the value of the configuration; anything unknown is false
// and the strict default.
func ParseUDPCert(s string) (UDPCert, bool) {
	switch s {
	case "cookie", "":
		return CertByCookie, true
	case "never":
		return CertNever, true
	case "always":
		return CertAlways, true
	}
	return CertByCookie, false
}

// limit is the size that the answer may have.
func (t Transport) limit(e edns) int {
	switch {
	case t.TCP:
		return maxTCP
	case !e.present:
		return plainUDP
	}
	// RFC 6891 §6.2.5: less than 512 means 512.
	return min(maxUDP, max(plainUDP, e.size))
}

// mustUseTCP tells RRsets that are not worth an attacker's while only over TCP:
// certificates, and whatever answers a question for ANY (RFC 8482 §4.4).
func (t Transport) mustUseTCP(rrtype, qtype uint16) bool {
	if t.TCP {
		return false
	}
	return qtype == dns.TypeANY || rrtype == dns.TypeCERT && t.UDPCert != CertAlways
}

// truncate leaves the question alone and sets TC: the client asks again by TCP
// (RFC 7766 §5). A part of an RRset would be of no use (RFC 2181 §9).
func (r *reply) truncate() {
	r.msg = r.msg[:r.records]
	r.answers, r.authority, r.additional = 0, 0, 0
	r.flags |= flagTC
}
