package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"directnode/internal/testpki"
)

// kinds writes what was found as one word a thing: leaf, ca, key or the reason.
func kinds(list []found) string {
	var words []string
	for _, x := range list {
		switch {
		case x.cert != nil && isIssuer(x.cert) && x.chain:
			words = append(words, "chain-ca")
		case x.cert != nil && isIssuer(x.cert):
			words = append(words, "ca")
		case x.cert != nil:
			words = append(words, "leaf")
		case x.key != nil:
			words = append(words, "key")
		default:
			words = append(words, "bad: "+x.bad)
		}
	}
	return strings.Join(words, ", ")
}

func block(kind string, der []byte, headers ...string) []byte {
	h := map[string]string{}
	for i := 0; i+1 < len(headers); i += 2 {
		h[headers[i]] = headers[i+1]
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: h, Bytes: der})
}

// certsOnly is a degenerate SignedData (RFC 8551 §3.8).
func certsOnly(t testing.TB, certs ...[]byte) []byte {
	t.Helper()
	oid := func(o asn1.ObjectIdentifier) []byte { return marshal(t, o) }
	seq := func(tag byte, parts ...[]byte) []byte {
		return marshal(t, asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 31), IsCompound: tag&32 != 0, Bytes: bytes.Join(parts, nil)})
	}
	data := seq(0x30, oid(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}))
	var bag []byte
	if certs != nil {
		bag = seq(0xa0, certs...)
	}
	signed := seq(0x30, marshal(t, 1), seq(0x31), data, bag, seq(0x31))
	return seq(0x30, oid(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}), seq(0xa0, signed))
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func p12(t testing.TB, e *pkcs12.Encoder, p testpki.Pair, chain []*x509.Certificate, passphrase string) []byte {
	t.Helper()
	b, err := e.Encode(p.Key, p.Cert, chain, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesAreKnownByTheirContent(t *testing.T) {
	p := testpki.New(t)
	root := p.Root("Root")
	leaf := root.Leaf("alice", testpki.Address("alice@a.direct.test"))
	other := root.Leaf("bob", testpki.Address("bob@b.direct.test"))
	ec := root.Leaf("carol", testpki.Address("carol@a.direct.test"), testpki.WithKey(testpki.P256()))
	sec1, err := x509.MarshalECPrivateKey(ec.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(leaf.Key.(*rsa.PrivateKey))
	chain := []*x509.Certificate{root.Cert}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	bom := []byte("\xef\xbb\xbf")
	broken := bytes.Replace(leaf.CertPEM(), []byte("M"), []byte("*"), 1)
	// 100,001 rounds become 8,388,607, which no test has the time to compute.
	slow := bytes.ReplaceAll(p12(t, pkcs12.Modern.WithIterations(100_001), leaf, nil, "secret"), []byte{2, 3, 0x01, 0x86, 0xa1}, []byte{2, 3, 0x7f, 0xff, 0xff})
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                       {nil, "bad: is empty"},
		"white space":                 {[]byte(" \r\n\t"), "bad: is empty"},
		"text":                        {[]byte("hello"), "bad: is neither"},
		"DER certificate":             {leaf.DER, "leaf"},
		"DER issuer":                  {root.DER, "ca"},
		"DER PKCS #8 key":             {leaf.KeyDER(), "key"},
		"DER PKCS #1 key":             {pkcs1, "key"},
		"DER SEC 1 key":               {sec1, "key"},
		"PEM certificate":             {leaf.CertPEM(), "leaf"},
		"PEM with CRLF":               {bytes.ReplaceAll(leaf.CertPEM(), []byte("\n"), []byte("\r\n")), "leaf"},
		"PEM after a byte order mark": {join(bom, leaf.CertPEM()), "leaf"},
		"PEM after words":             {join([]byte("subject=alice\n"), leaf.CertPEM()), "leaf"},
		"key before certificate":      {join(leaf.KeyPEM(), leaf.CertPEM()), "key, leaf"},
		"several pairs":               {join(leaf.KeyPEM(), other.KeyPEM(), other.CertPEM(), leaf.CertPEM()), "key, key, leaf, leaf"},
		"certificate and its chain":   {join(leaf.CertPEM(), root.CertPEM()), "leaf, chain-ca"},
		"a bundle of roots":           {join(root.CertPEM(), root.CertPEM()), "ca, ca"},
		"EC key with parameters":      {join(block("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}), block("EC PRIVATE KEY", sec1), ec.CertPEM()), "key, leaf"},
		"encrypted PKCS #8 key":       {block("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), "bad: holds an encrypted private key"},
		"encrypted legacy key":        {block("RSA PRIVATE KEY", []byte{1}, "Proc-Type", "4,ENCRYPTED", "DEK-Info", "AES-128-CBC,00"), "bad: holds an encrypted private key"},
		"request":                     {block("CERTIFICATE REQUEST", []byte{0x30, 0}), "bad: holds a PEM block of type CERTIFICATE REQUEST"},
		"PEM that breaks off":         {leaf.CertPEM()[:200], "bad: holds no complete PEM block"},
		"one broken block of two":     {join(broken, other.CertPEM()), "leaf, bad: holds a PEM block that is broken"},
		"two broken blocks of three":  {join(other.CertPEM(), broken, broken), "leaf, bad: holds 2 PEM blocks that are broken"},
		"PKCS #7":                     {certsOnly(t, leaf.DER, root.DER), "leaf, chain-ca"},
		"PKCS #7 in PEM":              {block("PKCS7", certsOnly(t, leaf.DER, other.DER)), "leaf, leaf"},
		"PKCS #7 of issuers":          {certsOnly(t, root.DER), "ca"},
		"PKCS #7 with a bad one":      {certsOnly(t, leaf.DER, []byte{0x30, 0}), "leaf, bad: holds a certificate that does not parse"},
		"PKCS #7 with nothing":        {certsOnly(t), "bad: is PKCS#7 without a certificate"},
		"PKCS #12 modern":             {p12(t, pkcs12.Modern, leaf, chain, "secret"), "leaf, key, chain-ca"},
		"PKCS #12 legacy":             {p12(t, pkcs12.Legacy, leaf, chain, "secret"), "leaf, key, chain-ca"},
		"PKCS #12 RC2":                {p12(t, pkcs12.LegacyRC2, leaf, nil, "secret"), "leaf, key"},
		"PKCS #12 modern, other":      {p12(t, pkcs12.Modern, leaf, nil, "other"), "bad: is PKCS#12 under another passphrase"},
		"PKCS #12 legacy, other":      {p12(t, pkcs12.Legacy, leaf, nil, "other"), "bad: is PKCS#12 under another passphrase"},
		"PKCS #12 cut short":          {p12(t, pkcs12.Modern, leaf, nil, "secret")[:600], "bad: is neither"},
		"PKCS #12 without a key":      {trustStore(t, root.Cert), "ca"},
		"PKCS #12 that takes years":   {slow, "bad: is PKCS#12 with a key derivation of 8388607 rounds"},
	} {
		t.Run(name, func(t *testing.T) {
			got := kinds(classify(File{Name: "f", Data: c.data}, "secret"))
			if got != c.want && !(strings.Contains(c.want, "bad:") && strings.HasPrefix(got, c.want)) {
				t.Errorf("found %q\nwant %q", got, c.want)
			}
			if strings.Contains(got, "secret") {
				t.Error("the passphrase stands in the account")
			}
		})
	}
}

func trustStore(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	b, err := pkcs12.Modern.EncodeTrustStore(certs, "secret")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPKCS12WithoutAPassphrase(t *testing.T) {
	leaf := testpki.New(t).SelfSigned("alice", testpki.Address("alice@a.direct.test"))
	for name, e := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern, "legacy": pkcs12.Legacy, "no protection": pkcs12.Passwordless} {
		data := p12(t, e, leaf, nil, "")
		if got := kinds(classify(File{Name: "f", Data: data}, "")); got != "leaf, key" {
			t.Errorf("%s: found %q", name, got)
		}
		if got := kinds(classify(File{Name: "f", Data: data}, "secret")); name != "no protection" && got != "leaf, key" {
			t.Errorf("%s, beside others that have one: found %q", name, got)
		}
	}
	data := p12(t, pkcs12.Modern, leaf, nil, "secret")
	if got := kinds(classify(File{Name: "f", Data: data}, "")); !strings.HasPrefix(got, "bad: is PKCS#12 under another passphrase; give it with --passphrase-file") {
		t.Errorf("a missing passphrase: %q", got)
	}
	if got := kinds(classify(File{Name: "f", Data: data}, "\U0001F511")); !strings.HasPrefix(got, "bad: is PKCS#12 that cannot be read") {
		t.Errorf("a passphrase that PKCS #12 cannot hold: %q", got)
	}
}

// FuzzClassify: whatever a file holds, it is named once and said what it is.
func FuzzClassify(f *testing.F) {
	p := testpki.New(f)
	root := p.Root("Root")
	leaf := root.Leaf("alice", testpki.Address("alice@a.direct.test"))
	for _, seed := range [][]byte{
		nil, leaf.DER, leaf.KeyDER(), append(leaf.KeyPEM(), leaf.CertPEM()...), certsOnly(f, leaf.DER, root.DER), certsOnly(f),
		p12(f, pkcs12.Modern, leaf, nil, "secret"), p12(f, pkcs12.Legacy, leaf, nil, "secret"), p12(f, pkcs12.Passwordless, leaf, nil, ""),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list := classify(File{Name: "f", Data: data}, "secret")
		if len(list) == 0 {
			t.Fatal("nothing is said about the file")
		}
		for _, x := range list {
			said := 0
			for _, yes := range []bool{x.cert != nil, x.key != nil, x.bad != ""} {
				if yes {
					said++
				}
			}
			if said != 1 || x.file != "f" {
				t.Fatalf("%d things are said at once: %+v", said, x)
			}
		}
	})
}
