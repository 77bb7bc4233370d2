package admin

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"directnode/internal/ber"
)

// found is one thing found in a file.
type found struct {
	file  string
	cert  *x509.Certificate
	key   crypto.Signer
	chain bool   // stands beside others in its file: an issuer among them is no mistake
	bad   string // why it is neither
}

// byteOrderMark stands before text that Windows editors saved.
var byteOrderMark = []byte("\xef\xbb\xbf")

// classify tells what a file holds by its content, never by its name. It says
// something about every file.
func classify(f File, passphrase string) []found {
	f.Data = bytes.TrimPrefix(f.Data, byteOrderMark)
	list := classifyContent(f, passphrase)
	// An issuer is no mistake where it stands beside what it issued.
	leaf := slices.ContainsFunc(list, func(x found) bool { return x.cert != nil && !isIssuer(x.cert) })
	for i := range list {
		list[i].file, list[i].chain = f.Name, leaf && len(list) > 1
	}
	return list
}

func classifyContent(f File, passphrase string) []found {
	switch {
	case f.Fault != "":
		return []found{{bad: "cannot be read: " + f.Fault}}
	case len(bytes.TrimSpace(f.Data)) == 0:
		return []found{{bad: "is empty"}}
	case bytes.Contains(f.Data, beginPEM):
		return classifyPEM(f.Data)
	}
	if list := classifyDER(f.Data); list != nil {
		return list
	}
	if isPKCS12(f.Data) {
		return classifyPKCS12(f.Data, passphrase)
	}
	return []found{{bad: "is neither PEM, a DER certificate or key, PKCS#12 nor PKCS#7"}}
}

// isIssuer tells a certificate that only signs others. A self-signed one that
// names an owner is that owner's, although openssl makes it a CA unless told
// otherwise (AS 4.2.3 takes a chain of one), as long as its key may sign or
// decrypt mail (RFC 5280 §4.2.1.3: without the extension it may do anything).
func isIssuer(c *x509.Certificate) bool {
	if !c.IsCA {
		return false
	}
	mail := c.KeyUsage == 0 || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment) != 0
	return !mail || len(c.EmailAddresses)+len(c.DNSNames) == 0
}

var beginPEM = []byte("-----BEGIN ")

func classifyPEM(text []byte) []found {
	var list []found
	blocks := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		list = append(list, classifyBlock(block)...)
	}
	// The decoder passes over what is broken; the operator must hear of it.
	begun := 0
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, beginPEM) {
			begun++
		}
	}
	switch broken := begun - blocks; {
	case blocks == 0:
		return []found{{bad: "holds no complete PEM block"}}
	case broken == 1:
		list = append(list, found{bad: "holds a PEM block that is broken: its lines were cut or changed"})
	case broken > 1:
		list = append(list, found{bad: fmt.Sprintf("holds %d PEM blocks that are broken: their lines were cut or changed", broken)})
	}
	if len(list) == 0 {
		return []found{{bad: "holds parameters of a key and no key"}}
	}
	return list
}

func classifyBlock(block *pem.Block) []found {
	switch {
	case block.Type == "EC PARAMETERS": // openssl writes the curve before the key, which names it again
		return nil
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return []found{{bad: "holds an encrypted private key; decrypt it, or give a PKCS#12 file with --passphrase-file"}}
	}
	if list := classifyDER(block.Bytes); list != nil {
		return list
	}
	return []found{{bad: fmt.Sprintf("holds a PEM block of type %.64s that is neither a certificate nor a key", block.Type)}}
}

// classifyDER gives nil for what it does not know.
func classifyDER(der []byte) []found {
	if c, err := x509.ParseCertificate(der); err == nil {
		return []found{{cert: c}}
	}
	if key := parseKey(der); key != nil {
		return []found{{key: key}}
	}
	certs, err := parsePKCS7(der)
	if err != nil {
		return nil
	}
	if len(certs) == 0 {
		return []found{{bad: "is PKCS#7 without a certificate"}}
	}
	var list []found
	for _, raw := range certs {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			list = append(list, found{bad: "holds a certificate that does not parse: " + err.Error()})
			continue
		}
		list = append(list, found{cert: c})
	}
	return list
}

func parseKey(der []byte) crypto.Signer {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s
		}
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k
	}
	return nil
}

// bundleLimits suits a p7b of a few thousand certificates.
var bundleLimits = ber.Limits{Depth: 16, Count: 100_000, Size: 64 << 20}

// parsePKCS7 gives the certificates of a SignedData without looking at
// signers: a certs-only bundle (RFC 5652 §5.1, RFC 8551 §3.8).
func parsePKCS7(b []byte) ([][]byte, error) {
	r, err := ber.NewReader(b, bundleLimits).Enter(ber.Sequence)
	if err != nil {
		return nil, err
	}
	if oid, err := r.OID(); err != nil || oid.String() != "1.2.840.113549.1.7.2" {
		return nil, fmt.Errorf("no SignedData")
	}
	if r, err = r.Enter(ber.Context(0, true)); err != nil {
		return nil, err
	}
	if r, err = r.Enter(ber.Sequence); err != nil {
		return nil, err
	}
	for _, tag := range []ber.Tag{ber.Integer, ber.Set, ber.Sequence} { // version, digestAlgorithms, encapContentInfo
		if _, err := r.Expect(tag); err != nil {
			return nil, err
		}
	}
	if tag, ok := r.Peek(); !ok || tag != ber.Context(0, true) { // the field is OPTIONAL
		return nil, nil
	}
	if r, err = r.Enter(ber.Context(0, true)); err != nil {
		return nil, err
	}
	var certs [][]byte
	for !r.Empty() {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e.Tag == ber.Sequence { // the other choices are attribute certificates and relics
			certs = append(certs, e.Raw)
		}
	}
	return certs, nil
}
