package zones

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/ber"
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
	tag, algorithm := keyTag(der)
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

// keyTag works out key tag and algorithm of a certificate's key. RFC 4398 §2.1:
// the key is put into the form of a DNSKEY's public key and the tag computed as
// in RFC 4034 App. B; where DNSSEC has no algorithm for the key or does not
// allow its size, both are zero.
func keyTag(der []byte) (tag uint16, algorithm uint8) {
	spki, ok := subjectPublicKeyInfo(der)
	if !ok {
		return 0, 0
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return 0, 0
	}
	algorithm, key := dnssecKey(pub)
	if algorithm == 0 {
		return 0, 0
	}
	// Flags 0: the key signs no zone (RFC 4034 §2.1.1). Protocol is always 3.
	sum := tagOf(append([]byte{0, 0, 3, algorithm}, key...))
	return sum, algorithm
}

// subjectPublicKeyInfo walks to the key (RFC 5280 §4.1) and no further: parsing
// all of a hundred thousand certificates would make up most of a start.
func subjectPublicKeyInfo(der []byte) ([]byte, bool) {
	sequence := ber.Tag{Constructed: true, Number: 16}
	certificate, err := ber.NewReader(der, ber.Limits{}).Enter(sequence)
	if err != nil {
		return nil, false
	}
	tbs, err := certificate.Enter(sequence)
	if err != nil {
		return nil, false
	}
	if t, ok := tbs.Peek(); ok && t.Class == ber.ContextSpecific {
		if _, err := tbs.Next(); err != nil { // version
			return nil, false
		}
	}
	for range 5 { // serialNumber, signature, issuer, validity, subject
		if _, err := tbs.Next(); err != nil {
			return nil, false
		}
	}
	spki, err := tbs.Expect(sequence)
	return spki.Raw, err == nil
}

// dnssecKey is the key as the public key field of a DNSKEY.
func dnssecKey(pub any) (algorithm uint8, key []byte) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		// RFC 5702 §2.1 names the sizes for RSA/SHA-256, RFC 3110 §2 the form;
		// the exponents of real keys fit into its short length field.
		n := k.N.Bytes()
		if len(n) < 64 || len(n) > 512 {
			return 0, nil
		}
		e := binary.BigEndian.AppendUint64(nil, uint64(k.E))
		e = bytes.TrimLeft(e, "\x00")
		return dns.RSASHA256, append(append([]byte{byte(len(e))}, e...), n...)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return 0, nil
		}
		// RFC 6605 §4: x and y, without the octet for "uncompressed".
		switch len(point) {
		case 1 + 64:
			return dns.ECDSAP256SHA256, point[1:]
		case 1 + 96:
			return dns.ECDSAP384SHA384, point[1:]
		}
	case ed25519.PublicKey:
		return dns.ED25519, k // RFC 8080 §3
	}
	return 0, nil
}

// tagOf is the sum of RFC 4034 App. B.
func tagOf(rdata []byte) uint16 {
	sum := uint32(0)
	for i, c := range rdata {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	return uint16(sum + sum>>16&0xFFFF)
}
