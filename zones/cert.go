package zones

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/keytag"
)

// Certificate types of CERT records (RFC 4398 §2.1).
const (
	certPKIX  = 1 // an X.509 certificate; AS 5.3 calls it X509
	certIPKIX = 4 // the URL of one
)

// certTypes are the mnemonics of RFC 4398 §2.1 and AS 5.3. The codec's own
// table misspells IPKIX, so CERT RDATA is read and written here.
func certType(s string) (uint16, bool) {
	switch strings.ToUpper(s) {
	case "PKIX", "X509":
		return certPKIX, true
	case "SPKI":
		return 2, true
	case "PGP":
		return 3, true
	case "IPKIX", "IX509":
		return certIPKIX, true
	case "ISPKI":
		return 5, true
	case "IPGP":
		return 6, true
	case "ACPKIX":
		return 7, true
	case "IACPKIX":
		return 8, true
	case "URI":
		return 253, true
	case "OID":
		return 254, true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}

// parseCERT reads the RDATA of a CERT record: type, key tag, algorithm, Base64
// in any number of pieces (RFC 4398 §2.2), or the generic form.
func parseCERT(tokens []string) ([]byte, error) {
	if isGeneric(tokens) {
		wire, err := parseGeneric(tokens)
		if err == nil && len(wire) <= certHead {
			err = fmt.Errorf("a CERT record of %d octets holds no certificate", len(wire))
		}
		return wire, err
	}
	if len(tokens) < 4 {
		return nil, fmt.Errorf("a CERT record has type, key tag, algorithm and certificate (RFC 4398 §2.2)")
	}
	kind, ok := certType(tokens[0])
	if !ok {
		return nil, fmt.Errorf("certificate type %.20q (RFC 4398 §2.1)", tokens[0])
	}
	tag, err := strconv.ParseUint(tokens[1], 10, 16)
	if err != nil {
		return nil, fmt.Errorf("key tag %.20q", tokens[1])
	}
	algorithm, ok := dns.StringToAlgorithm[strings.ToUpper(tokens[2])]
	if !ok {
		n, err := strconv.ParseUint(tokens[2], 10, 8)
		if err != nil {
			return nil, fmt.Errorf("algorithm %.20q", tokens[2])
		}
		algorithm = uint8(n)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(strings.Join(tokens[3:], ""))
	if err != nil {
		return nil, fmt.Errorf("the certificate is not Base64: %w", err)
	}
	wire := binary.BigEndian.AppendUint16(nil, kind)
	wire = binary.BigEndian.AppendUint16(wire, uint16(tag))
	return append(append(wire, algorithm), data...), nil
}

// certHead is type, key tag and algorithm in front of the certificate.
const certHead = 2 + 2 + 1

// certText is the RDATA as text, in numbers: the mnemonics differ between
// implementations.
func certText(wire []byte) (string, error) {
	if len(wire) <= certHead {
		return "", fmt.Errorf("a CERT record of %d octets holds no certificate", len(wire))
	}
	return fmt.Sprintf("%s %s", certPrefix(wire), base64.StdEncoding.EncodeToString(wire[certHead:])), nil
}

func certPrefix(wire []byte) string {
	return fmt.Sprintf("%d %d %d", binary.BigEndian.Uint16(wire), binary.BigEndian.Uint16(wire[2:]), wire[4])
}

// certRData is the RDATA that publishes a certificate: type PKIX, and the key
// tag and algorithm of its key.
func certRData(der []byte, before *RRset) rdata {
	d := rdata{used: certHead, body: der}
	if head, ok := knownHead(der, before); ok {
		d.head = head
		return d
	}
	tag, algorithm := keytag.Of(der)
	binary.BigEndian.PutUint16(d.head[:], certPKIX)
	binary.BigEndian.PutUint16(d.head[2:], tag)
	d.head[4] = algorithm
	return d
}

// knownHead finds what the generation before worked out for the certificate.
func knownHead(der []byte, before *RRset) (head [certHead]byte, ok bool) {
	if before == nil {
		return head, false
	}
	for wire := range before.RData {
		if len(wire) == certHead+len(der) && bytes.Equal(wire[certHead:], der) {
			return [certHead]byte(wire), true
		}
	}
	return head, false
}
