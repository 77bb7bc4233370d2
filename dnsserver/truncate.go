package dnsserver

import "github.com/miekg/dns"

// UDPCert says when CERT records may leave by UDP. A certificate is twenty
// times the size of the question for it, and the sender's address of a UDP
// packet proves nothing; a valid cookie or a TCP connection does.
type UDPCert uint8

// The policies.
const (
	// CertByCookie: only to a client that proved its address by a DNS cookie.
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

// truncation says why an answer has TC set.
type truncation uint8

const (
	notTruncated truncation = iota
	tooLarge                // it does not fit
	needsProof              // the address must be proved first, by a cookie or by TCP
	tooMany                 // the address has had its share of answers
)

// limit is the size that the answer to a question may have.
func (t *Transport) limit(e *edns, qtype uint16) int {
	switch {
	case t.TCP:
		return maxTCP
	case !e.present:
		return plainUDP
	case !t.proved && !(qtype == dns.TypeCERT && t.UDPCert == CertAlways):
		// What was good enough for DNS before EDNS is all that an address
		// gets which may be somebody else's.
		return plainUDP
	}
	// RFC 6891 §6.2.5: less than 512 means 512.
	return min(t.UDPSize, max(plainUDP, e.size))
}

// mustUseTCP tells the types that are worth an attacker's while: certificates,
// keys and signatures, and whatever answers a question for ANY (RFC 8482 §4.4).
// They leave by UDP only to a proved address. The rule is for the question
// as much as for the RRset: that a name has no certificate is told to the same
// clients as the certificate.
func (t Transport) mustUseTCP(rrtype, qtype uint16) bool {
	switch {
	case t.TCP:
		return false
	case rrtype == dns.TypeCERT && t.UDPCert == CertNever:
		return true
	case t.proved:
		return false
	}
	switch qtype {
	case dns.TypeANY, dns.TypeDNSKEY, dns.TypeRRSIG:
		return true
	}
	return rrtype == dns.TypeCERT && t.UDPCert != CertAlways
}

// truncate leaves the question alone and sets TC: the client asks again by TCP
// (RFC 7766 §5). A part of an RRset would be of no use (RFC 2181 §9).
func (r *reply) truncate() {
	r.msg = r.msg[:r.records]
	r.answers, r.authority, r.additional = 0, 0, 0
	r.flags |= flagTC
}

// slip makes a finished answer one that is no larger than its question and
// still lets an honest client go on, by TCP. What carries no records is as small
// as that already and stays. NXDOMAIN becomes NOERROR: it would be believed,
// and is what the one who is limited wants to know.
func (s *solver) slip(whole []byte) []byte {
	if s.answers+s.authority == 0 {
		return whole
	}
	s.truncate()
	s.rcode = dns.RcodeSuccess
	s.cut = tooMany
	return s.whole()
}
