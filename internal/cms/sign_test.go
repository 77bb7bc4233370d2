package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
	"time"

	"directnode/internal/cms"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

func TestWhatIsSignedVerifies(t *testing.T) {
	spec.Covers(t, "AS-2.6-f")
	p := newPeople(t)
	dave := p.ca.Leaf("dave", testpki.WithKey(testpki.P384()))
	for _, who := range []testpki.Pair{p.alice, p.carol, dave, p.ca.Leaf("eve", testpki.WithKey(testpki.RSA4096()))} {
		for _, digest := range []crypto.Hash{0, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			for _, content := range [][]byte{entity, nil, bytes.Repeat(entity, 5000)} {
				der := sign(t, content, cms.SignOptions{Digest: digest, SigningTime: signedAt}, signer(who))
				r := verifyOne(t, der, content, cms.VerifyPolicy{})
				if r.Err != nil || !r.Certificate.Equal(who.Cert) || !r.SigningTime.Equal(signedAt) {
					t.Fatalf("%s, %s: %+v", who.Cert.Subject, digest, r)
				}
				want := digest
				if want == 0 {
					want = crypto.SHA256
				}
				h := want.New()
				h.Write(content)
				if r.Digest != want || !bytes.Equal(r.MessageDigest, h.Sum(nil)) {
					t.Fatalf("%s: digest %s, message digest %x", want, r.Digest, r.MessageDigest)
				}
			}
		}
	}
}

func TestSignatureIsSHA256UnlessToldOtherwise(t *testing.T) {
	spec.Covers(t, "AS-2.6-a")
	p := newPeople(t)
	for _, c := range []struct {
		who       testpki.Pair
		signature asn1.ObjectIdentifier
	}{
		{p.alice, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}}, // sha256WithRSAEncryption
		{p.carol, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},   // ecdsa-with-SHA256
	} {
		info := unmarshalSigned(t, sign(t, entity, cms.SignOptions{}, signer(c.who))).SignerInfos[0]
		if !info.DigestAlgorithm.Algorithm.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}) {
			t.Errorf("digest algorithm %s", info.DigestAlgorithm.Algorithm)
		}
		if !info.SignatureAlgorithm.Algorithm.Equal(c.signature) {
			t.Errorf("signature algorithm %s", info.SignatureAlgorithm.Algorithm)
		}
	}
}

func TestNothingIsSignedWithWeakDigests(t *testing.T) {
	spec.Covers(t, "AS-2.6-c")
	p := newPeople(t)
	for _, digest := range []crypto.Hash{crypto.SHA1, crypto.MD5, crypto.MD4, crypto.SHA224, crypto.RIPEMD160, crypto.MD5SHA1, crypto.Hash(99)} {
		der, err := cms.SignDetached(bytes.NewReader(entity), []cms.Signer{signer(p.alice)}, cms.SignOptions{Digest: digest})
		wantErr(t, err, cms.ErrAlgorithm)
		if der != nil {
			t.Errorf("%s: a signature came out", digest)
		}
	}
}

func TestSignedDataIsDetachedDERWithTheSignersCertificate(t *testing.T) {
	spec.Covers(t, "AS-2.5.2-a")
	p := newPeople(t)
	der := sign(t, entity, cms.SignOptions{SigningTime: signedAt}, signer(p.alice, p.ca.Cert, p.ca.Cert, p.alice.Cert))
	sd := unmarshalSigned(t, der) // encoding/asn1 reads DER only
	if len(sd.Content.EContent.FullBytes) != 0 {
		t.Error("the content is enclosed")
	}
	got := parseSigned(t, der)
	if !got.Detached() || got.Content() != nil || got.Skipped() != 0 {
		t.Errorf("Detached() = %v, Content() = %q, Skipped() = %d", got.Detached(), got.Content(), got.Skipped())
	}
	enclosed := map[string]int{}
	for _, c := range got.Certificates() {
		enclosed[c.Subject.CommonName]++
	}
	if len(enclosed) != 2 || enclosed["alice"] != 1 || enclosed["CMS Test Root"] != 1 {
		t.Errorf("enclosed certificates: %v", enclosed)
	}
	info := sd.SignerInfos[0]
	if info.Version != 1 || !bytes.Equal(info.SID.Issuer.FullBytes, p.alice.Cert.RawIssuer) || info.SID.Serial.Cmp(p.alice.Cert.SerialNumber) != 0 {
		t.Errorf("signer is not named by issuer and serial number: %+v", info.SID)
	}
}

func TestSignedAttributesStandInTheOrderOfDER(t *testing.T) {
	p := newPeople(t)
	info := unmarshalSigned(t, sign(t, entity, cms.SignOptions{SigningTime: signedAt}, signer(p.alice))).SignerInfos[0]
	var types []string
	var last []byte
	for rest := info.SignedAttrs.Bytes; len(rest) > 0; {
		var a struct {
			Type   asn1.ObjectIdentifier
			Values asn1.RawValue `asn1:"set"`
		}
		next, err := asn1.Unmarshal(rest, &a)
		if err != nil {
			t.Fatal(err)
		}
		raw := rest[:len(rest)-len(next)]
		if bytes.Compare(last, raw) >= 0 {
			t.Errorf("%s stands out of order", a.Type)
		}
		last, rest = raw, next
		types = append(types, a.Type.String())
		if a.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}) {
			want := []byte{0x30, 0x1a, // AES-256-CBC, AES-128-CBC
				0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a,
				0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02}
			if !bytes.Equal(a.Values.Bytes, want) {
				t.Errorf("capabilities %x", a.Values.Bytes)
			}
		}
	}
	if len(types) != 4 {
		t.Errorf("attributes %v", types)
	}
}

func TestSigningTimeIsKeptAsRFC5652Writes(t *testing.T) {
	p := newPeople(t)
	for _, at := range []time.Time{
		{},
		signedAt,
		time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)),
	} {
		r := verifyOne(t, sign(t, entity, cms.SignOptions{SigningTime: at}, signer(p.alice)), entity, cms.VerifyPolicy{})
		if r.Err != nil || !r.SigningTime.Equal(at) {
			t.Errorf("%s came back as %s, %v", at, r.SigningTime, r.Err)
		}
	}
	_, err := cms.SignDetached(bytes.NewReader(entity), []cms.Signer{signer(p.alice)}, cms.SignOptions{SigningTime: time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)})
	wantErr(t, err, cms.ErrKey)
}

func TestUnsuitableSignersAreRefused(t *testing.T) {
	p := newPeople(t)
	short := p.ca.Leaf("short", testpki.WithKey(testpki.RSA1024()))
	for name, c := range map[string]struct {
		signers []cms.Signer
		want    error
	}{
		"none":             {nil, cms.ErrNoSigner},
		"no certificate":   {[]cms.Signer{{Key: p.alice.Key}}, cms.ErrKey},
		"no key":           {[]cms.Signer{{Certificate: p.alice.Cert}}, cms.ErrKey},
		"other's key":      {[]cms.Signer{{Certificate: p.alice.Cert, Key: p.bob.Key}}, cms.ErrKey},
		"RSA of 1024 bits": {[]cms.Signer{signer(short)}, cms.ErrKey},
		"extra is missing": {[]cms.Signer{signer(p.alice, nil)}, cms.ErrKey},
		"second is bad":    {[]cms.Signer{signer(p.alice), signer(short)}, cms.ErrKey},
	} {
		_, err := cms.SignDetached(bytes.NewReader(entity), c.signers, cms.SignOptions{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, must be %v", name, err, c.want)
		}
	}
	_, err := cms.SignDetached(iotest.ErrReader(io.ErrNoProgress), []cms.Signer{signer(p.alice)}, cms.SignOptions{})
	wantErr(t, err, io.ErrNoProgress)
}

// module is a key that is neither *rsa.PrivateKey nor *ecdsa.PrivateKey, as one in a hardware module is.
type module struct {
	crypto.Signer
	fail error
}

func (m module) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	return m.Signer.Sign(r, digest, o)
}

func TestKeysInHardwareModulesSign(t *testing.T) {
	p := newPeople(t)
	for _, who := range []testpki.Pair{p.alice, p.carol} {
		der := sign(t, entity, cms.SignOptions{}, cms.Signer{Certificate: who.Cert, Key: module{Signer: who.Key}})
		if r := verifyOne(t, der, entity, cms.VerifyPolicy{}); r.Err != nil {
			t.Error(r.Err)
		}
	}
	gone := errors.New("module is gone")
	_, err := cms.SignDetached(bytes.NewReader(entity), []cms.Signer{{Certificate: p.alice.Cert, Key: module{p.alice.Key, gone}}}, cms.SignOptions{})
	wantErr(t, err, gone)
}

func TestCurvesOutsideTheUsualStillSign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	frank := newPeople(t).ca.Leaf("frank", testpki.WithKey(key))
	if r := verifyOne(t, sign(t, entity, cms.SignOptions{Digest: crypto.SHA512}, signer(frank)), entity, cms.VerifyPolicy{}); r.Err != nil {
		t.Error(r.Err)
	}
}

// What follows reads SignedData with encoding/asn1, which shares no code with the package.

type asn1IssuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type asn1Algorithm struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type asn1SignedData struct {
	Version          int
	DigestAlgorithms []asn1Algorithm `asn1:"set"`
	Content          struct {
		Type     asn1.ObjectIdentifier
		EContent asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	Certificates asn1.RawValue    `asn1:"optional,tag:0"`
	SignerInfos  []asn1SignerInfo `asn1:"set"`
}

type asn1SignerInfo struct {
	Version            int
	SID                asn1IssuerAndSerial
	DigestAlgorithm    asn1Algorithm
	SignedAttrs        asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm asn1Algorithm
	Signature          []byte
}

func unmarshalSigned(t testing.TB, der []byte) asn1SignedData {
	t.Helper()
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1SignedData `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) != 0 {
		t.Fatalf("not DER: %v, %d octets left", err, len(rest))
	}
	for rest := info.Content.Certificates.Bytes; len(rest) > 0; {
		var c asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &c); err != nil {
			t.Fatal(err)
		}
		if _, err := x509.ParseCertificate(c.FullBytes); err != nil {
			t.Fatal(err)
		}
	}
	return info.Content
}
