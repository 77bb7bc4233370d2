package admin

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

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

// classify tells what a file holds by its content, never by its name.
func classify(f File, passphrase string) []found {
	switch {
	case len(bytes.TrimSpace(f.Data)) == 0:
		return []found{{file: f.Name, bad: "is empty"}}
	case bytes.Contains(f.Data, []byte("-----BEGIN ")):
		return classifyPEM(f)
	}
	if list := classifyDER(f.Name, f.Data); list != nil {
		return list
	}
	if list := classifyPKCS12(f, passphrase); list != nil {
		return list
	}
	return []found{{file: f.Name, bad: "is neither PEM, a DER certificate or key, PKCS#12 nor PKCS#7"}}
}

func classifyPEM(f File) []found {
	var list []found
	rest := f.Data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			list = append(list, found{file: f.Name, bad: "holds an encrypted private key; decrypt it, or give a PKCS#12 file with --passphrase-file"})
		default:
			found1 := classifyDER(f.Name, block.Bytes)
			if found1 == nil {
				found1 = []found{{file: f.Name, bad: "holds a PEM block of type " + block.Type + " that is neither a certificate nor a key"}}
			}
			list = append(list, found1...)
		}
	}
	if len(list) == 0 {
		return []found{{file: f.Name, bad: "holds no complete PEM block"}}
	}
	for i := range list {
		list[i].chain = len(list) > 1
	}
	return list
}

// classifyDER gives nil for what it does not know.
func classifyDER(name string, der []byte) []found {
	if c, err := x509.ParseCertificate(der); err == nil {
		return []found{{file: name, cert: c}}
	}
	if key := parseKey(der); key != nil {
		return []found{{file: name, key: key}}
	}
	certs, err := parsePKCS7(der)
	if err != nil {
		return nil
	}
	var list []found
	for _, raw := range certs {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			list = append(list, found{file: name, bad: "holds a certificate that does not parse: " + err.Error()})
			continue
		}
		list = append(list, found{file: name, cert: c, chain: true})
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

func classifyPKCS12(f File, passphrase string) []found {
	key, cert, chain, err := pkcs12.DecodeChain(f.Data, passphrase)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return []found{{file: f.Name, bad: "is PKCS#12 under another passphrase; give it with --passphrase-file"}}
	}
	if err != nil {
		return nil
	}
	list := []found{{file: f.Name, cert: cert, chain: true}}
	if s, ok := key.(crypto.Signer); ok {
		list = append(list, found{file: f.Name, key: s})
	}
	for _, c := range chain {
		list = append(list, found{file: f.Name, cert: c, chain: true})
	}
	return list
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
