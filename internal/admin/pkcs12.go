package admin

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

	"directnode/internal/ber"
)

// isPKCS12 tells a PFX by its first fields (RFC 7292 §4): a SEQUENCE of version
// 3 and a ContentInfo.
func isPKCS12(b []byte) bool {
	r, err := ber.NewReader(b, bundleLimits).Enter(ber.Sequence)
	if err != nil {
		return false
	}
	version, err := r.Expect(ber.Integer)
	if err != nil || !bytes.Equal(version.Content, []byte{3}) {
		return false
	}
	if r, err = r.Enter(ber.Sequence); err != nil {
		return false
	}
	_, err = r.OID()
	return err == nil
}

// classifyPKCS12 opens a PFX. Only the integrity check tells a wrong
// passphrase from a file that is read otherwise.
func classifyPKCS12(data []byte, passphrase string) []found {
	if n, _ := iterations(ber.NewReader(data, bundleLimits), 0); n > maxIterations {
		return []found{{bad: fmt.Sprintf("is PKCS#12 with a key derivation of %d rounds, at most %d; export it anew", n, maxIterations)}}
	}
	key, cert, chain, err := pkcs12.DecodeChain(data, passphrase)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) && passphrase != "" { // in a folder, one may have none
		if k, c, more, again := pkcs12.DecodeChain(data, ""); again == nil {
			key, cert, chain, err = k, c, more, nil
		}
	}
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return []found{{bad: "is PKCS#12 under another passphrase; give it with --passphrase-file"}}
	case err != nil:
		certs, trustErr := pkcs12.DecodeTrustStore(data, passphrase)
		if trustErr != nil || len(certs) == 0 {
			return []found{{bad: "is PKCS#12 that cannot be read (" + err.Error() + "); turn it into PEM with `openssl pkcs12 -nodes`"}}
		}
		chain = certs
	}
	var list []found
	if cert != nil {
		list = append(list, found{cert: cert})
	}
	if s, ok := key.(crypto.Signer); ok {
		list = append(list, found{key: s})
	}
	for _, c := range chain {
		list = append(list, found{cert: c})
	}
	return list
}

// iterations finds the largest iteration count that a PFX asks for before
// anything in it is decrypted. A count stands behind its salt, an INTEGER
// behind an OCTET STRING, in the parameters of PBE, PBKDF2 and the MAC alike
// (RFC 7292 §4 and appendix C, RFC 8018 appendix A). ok is false for octets
// that are not BER to their end: a salt or a ciphertext.
func iterations(r *ber.Reader, depth int) (most int64, ok bool) {
	salt := false
	for !r.Empty() {
		e, err := r.Next()
		if err != nil || depth == maxPKCS12Depth {
			return most, false
		}
		switch {
		case e.Tag == ber.Integer && salt:
			most = max(most, count(e.Content))
		case e.Tag == ber.OctetString || e.Tag.Constructed: // an octet string may hold further layers
			if n, ok := iterations(ber.NewReader(e.Content, bundleLimits), depth+1); ok || e.Tag.Constructed {
				most = max(most, n)
			}
		}
		salt = e.Tag == ber.OctetString
	}
	return most, true
}

// count reads a small INTEGER; a large one is more than any limit.
func count(content []byte) (n int64) {
	if len(content) > 7 {
		return 1 << 56
	}
	for _, c := range content {
		n = n<<8 | int64(c)
	}
	return n
}
