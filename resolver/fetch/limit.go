package fetch

import "time"

// Limits of the door. Every URL comes out of somebody else's certificate or record, and every server behind it may be hostile, so
// each figure bounds what a stranger can make us do.
const (
	// maxURL is longer than any URL in a certificate of this network; the longest LDAP-turned-HTTP ones have 300 characters.
	maxURL = 2048
	// maxHeader bounds the head of a response. Servers of issuers send 500 octets, content networks 2 KiB.
	maxHeader = 16 << 10
	// maxRedirects is how many times a server may send us elsewhere; http to www to a content network takes two.
	maxRedirects = 3
	// maxAddresses is how many addresses of one host are tried: one of each family that is down leaves two.
	maxAddresses = 4
	// connectTime bounds one connection attempt, lost packets included: a SYN is sent again after one second.
	connectTime = 3 * time.Second
	// handshakeTime bounds TLS on top of it.
	handshakeTime = 5 * time.Second
	// headTime bounds the wait for the head of a response. Responders that sign as they are asked need a second.
	headTime = 8 * time.Second
	// perHost is how many requests one host gets from us at once (RFC 9112 §9.4 asks for few).
	perHost = 2
	// negativeTime is how long a failure answers for its URL: without it each message to a domain whose server hangs would hang too.
	negativeTime = 5 * time.Minute
	// maxKept bounds the cache in entries and maxKeptOctets in octets. Answers that live in it are certificates of issuers: 1 to 8 KiB.
	maxKept       = 4096
	maxKeptOctets = 16 << 20
	// backoffAfter failures in a row to reach a host, it is left alone for backoffBase, doubled with each further one up to backoffMost.
	backoffAfter = 3
	backoffBase  = 30 * time.Second
	backoffMost  = 15 * time.Minute
	// maxHosts bounds what is remembered of hosts; the names come from strangers.
	maxHosts = 4096
	// maxDetail bounds what an error quotes of a server or a URL.
	maxDetail = 300
)

// Kind is what is fetched. Each has limits of its own.
type Kind string

// The kinds, as they stand in metrics and evidence.
const (
	AIA    Kind = "aia"    // an issuer's certificate, or a p7c with several (RFC 5280 §4.2.2.1)
	CRL    Kind = "crl"    // RFC 5280 §4.2.1.13
	OCSP   Kind = "ocsp"   // RFC 6960 appendix A
	IPKIX  Kind = "ipkix"  // the certificate that a CERT record points to (RFC 4398 §2.1)
	Bundle Kind = "bundle" // trust anchors
)

// Kinds lists them in the order of documents.
func Kinds() []Kind { return []Kind{AIA, CRL, OCSP, IPKIX, Bundle} }

// rule is what one kind may cost.
type rule struct {
	octets int64         // of the body
	time   time.Duration // from the first question to the DNS to the last octet
	fresh  time.Duration // how long an answer is kept; 0 = the caller keeps it
	accept string        // media types, as a wish: servers send what they like and nothing depends on it
	https  bool          // also without Options.HTTPS
}

// rules gives the limits of a kind.
func (k Kind) rule() (rule, bool) {
	switch k {
	case AIA:
		// 1 MiB: the federal bridge's p7c has 150 KiB.
		return rule{1 << 20, 10 * time.Second, time.Hour, "application/pkix-cert, application/pkcs7-mime", false}, true
	case CRL:
		// 64 MiB: the largest list of this network's issuers has a tenth of it; 60 s for it are 9 Mbit/s.
		return rule{64 << 20, 60 * time.Second, 0, "application/pkix-crl", false}, true
	case OCSP:
		return rule{64 << 10, 10 * time.Second, 0, "application/ocsp-response", false}, true
	case IPKIX:
		// 64 KiB is what resolver/trust takes as a certificate.
		return rule{64 << 10, 10 * time.Second, 5 * time.Minute, "application/pkix-cert", true}, true
	case Bundle:
		// 8 MiB: some hundreds of anchors have 1 MiB; PEM is a third longer.
		return rule{8 << 20, 30 * time.Second, 0, "application/pkcs7-mime, application/x-pkcs7-certificates", true}, true
	}
	return rule{}, false
}
