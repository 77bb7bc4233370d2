package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"directnode/internal/ber"
	"directnode/internal/cms"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

func TestSignaturesOfPeersVerify(t *testing.T) {
	content := fixture(t, "content.txt")
	for _, c := range []struct {
		file    string
		digest  crypto.Hash
		signers []string
		noTime  bool
	}{
		{"signed-sha256.der", crypto.SHA256, []string{"alice"}, false},
		{"signed-sha384.der", crypto.SHA384, []string{"alice"}, false},
		{"signed-sha512.der", crypto.SHA512, []string{"alice"}, false},
		{"signed-pss.der", crypto.SHA256, []string{"alice"}, false},
		{"signed-pss-sha512.der", crypto.SHA512, []string{"alice"}, false},
		{"signed-ecdsa.der", crypto.SHA256, []string{"carol"}, false},
		{"signed-keyid.der", crypto.SHA256, []string{"alice"}, false},
		{"signed-noattr.der", crypto.SHA256, []string{"alice"}, true},
		{"../gpgsm/signed.der", crypto.SHA256, []string{"alice"}, false},
		{"signed-two.der", crypto.SHA256, []string{"alice", "carol"}, false},
	} {
		results := verify(t, fixture(t, c.file), content, cms.VerifyPolicy{})
		if len(results) != len(c.signers) {
			t.Errorf("%s: %d results", c.file, len(results))
			continue
		}
		names := map[string]bool{}
		for _, r := range results {
			if r.Err != nil || r.Digest != c.digest || r.SigningTime.IsZero() != c.noTime || !bytes.Equal(r.MessageDigest, digest(c.digest, content)) {
				t.Errorf("%s: %+v", c.file, r)
				continue
			}
			names[r.Certificate.Subject.CommonName] = true
		}
		for _, n := range c.signers {
			if !names[n] {
				t.Errorf("%s: no signature of %s", c.file, n)
			}
		}
		for i, r := range verify(t, fixture(t, c.file), append(content[:len(content):len(content)], '\n'), cms.VerifyPolicy{}) {
			if r.Err == nil {
				t.Errorf("%s: signer %d verifies over another content", c.file, i)
			}
		}
	}
}

func TestReceivedSHA256Verifies(t *testing.T) {
	spec.Covers(t, "AS-2.6-b")
	for _, file := range []string{"signed-sha256.der", "signed-pss.der", "signed-ecdsa.der", "../gpgsm/signed.der"} {
		r := verifyOne(t, fixture(t, file), fixture(t, "content.txt"), cms.VerifyPolicy{})
		if r.Err != nil || r.Digest != crypto.SHA256 {
			t.Errorf("%s: %+v", file, r)
		}
	}
}

func TestSHA1VerifiesOnlyWhenThePolicySaysSo(t *testing.T) {
	spec.Covers(t, "AS-2.6-d")
	content := fixture(t, "content.txt")
	r := verifyOne(t, fixture(t, "signed-sha1.der"), content, cms.VerifyPolicy{AllowSHA1: true})
	if r.Err != nil || r.Digest != crypto.SHA1 {
		t.Errorf("allowed: %+v", r)
	}
	r = verifyOne(t, fixture(t, "signed-sha1.der"), content, cms.VerifyPolicy{})
	wantErr(t, r.Err, cms.ErrAlgorithm)
	if r.Digest != 0 || r.MessageDigest != nil || r.Certificate == nil {
		t.Errorf("refused: %+v", r)
	}
}

func TestWeakDigestsAreRefusedByName(t *testing.T) {
	spec.Covers(t, "AS-2.6-e")
	p := newPeople(t)
	content := fixture(t, "content.txt")
	for _, policy := range []cms.VerifyPolicy{{}, {AllowSHA1: true}} {
		for name, der := range map[string][]byte{
			"MD5":        fixture(t, "signed-md5.der"),
			"SHA-224":    fixture(t, "signed-sha224.der"),
			"MD4":        signedBy(t, forgedSigner{who: p.alice, digest: oid{1, 2, 840, 113549, 2, 4}, attributes: goodAttributes(content)}),
			"MD2":        signedBy(t, forgedSigner{who: p.alice, digest: oid{1, 2, 840, 113549, 2, 2}, attributes: goodAttributes(content)}),
			"RIPEMD-160": signedBy(t, forgedSigner{who: p.alice, digest: oid{1, 3, 36, 3, 2, 1}, attributes: goodAttributes(content)}),
			"MD5 with RSA": signedBy(t, forgedSigner{who: p.alice, attributes: goodAttributes(content),
				signature: algorithmID(oid{1, 2, 840, 113549, 1, 1, 4}, null)}),
			"1.2.3.4": signedBy(t, forgedSigner{who: p.alice, digest: oid{1, 2, 3, 4}, attributes: goodAttributes(content)}),
		} {
			r := verifyOne(t, der, content, policy)
			if !errors.Is(r.Err, cms.ErrAlgorithm) || !bytes.Contains([]byte(r.Err.Error()), []byte(name)) {
				t.Errorf("%s: %v", name, r.Err)
			}
		}
	}
}

// TestSignedAttributesMustProveTheContent holds the forged signer to RFC 5652 §5.3 and §11: everything here carries a valid
// signature over what it says.
func TestSignedAttributesMustProveTheContent(t *testing.T) {
	p := newPeople(t)
	sum := digest(crypto.SHA256, entity)
	other := digest(crypto.SHA256, []byte("another content"))
	at := attribute(oidSigningTime, build(func(b *ber.Builder) { b.Text(ber.UTCTime, "260304050607Z") }))
	protect := func(digest, signature oid) []byte {
		sig := algorithmID(signature)
		sig[0] = 0xa1
		return attribute(oidProtection, tlv(ber.Sequence, algorithmID(digest), sig))
	}
	for name, c := range map[string]struct {
		attributes [][]byte
		want       error
	}{
		"as they should be":                  {[][]byte{contentType(oidData), messageDigest(sum)}, nil},
		"in another order":                   {[][]byte{messageDigest(sum), contentType(oidData)}, nil},
		"with others":                        {[][]byte{contentType(oidData), attribute(oid{1, 2, 3}, null, null), messageDigest(sum), at}, nil},
		"unreadable signing time":            {append(goodAttributes(entity), attribute(oidSigningTime, octets(nil))), nil},
		"protected algorithms":               {append(goodAttributes(entity), protect(oidSHA256, oidSHA256RSA)), nil},
		"none of them":                       {[][]byte{}, cms.ErrAttributes},
		"no messageDigest":                   {[][]byte{contentType(oidData)}, cms.ErrAttributes},
		"no contentType":                     {[][]byte{messageDigest(sum)}, cms.ErrAttributes},
		"two equal messageDigests":           {[][]byte{contentType(oidData), messageDigest(sum), messageDigest(sum)}, cms.ErrAttributes},
		"two messageDigests, good one first": {[][]byte{contentType(oidData), messageDigest(sum), messageDigest(other)}, cms.ErrAttributes},
		"two messageDigests, good one last":  {[][]byte{contentType(oidData), messageDigest(other), messageDigest(sum)}, cms.ErrAttributes},
		"messageDigest of two values":        {[][]byte{contentType(oidData), attribute(oidMessageDigest, octets(sum), octets(other))}, cms.ErrAttributes},
		"messageDigest of no value":          {[][]byte{contentType(oidData), attribute(oidMessageDigest)}, cms.ErrAttributes},
		"messageDigest is no octet string":   {[][]byte{contentType(oidData), attribute(oidMessageDigest, encodeInt(1))}, cms.ErrAttributes},
		"two contentTypes":                   {append(goodAttributes(entity), contentType(oidData)), cms.ErrAttributes},
		"contentType of two values":          {[][]byte{attribute(oidContentType, encodeOID(oidData), encodeOID(oidData)), messageDigest(sum)}, cms.ErrAttributes},
		"contentType is another":             {[][]byte{contentType(oidSigned), messageDigest(sum)}, cms.ErrAttributes},
		"two signing times":                  {append(goodAttributes(entity), at, at), cms.ErrAttributes},
		"digest of another content":          {[][]byte{contentType(oidData), messageDigest(other)}, cms.ErrDigest},
		"empty digest":                       {[][]byte{contentType(oidData), messageDigest(nil)}, cms.ErrDigest},
		"cut digest":                         {[][]byte{contentType(oidData), messageDigest(sum[:20])}, cms.ErrDigest},
		"protected are other digests":        {append(goodAttributes(entity), protect(oidSHA512, oidSHA256RSA)), cms.ErrAttributes},
		"protected are other signatures":     {append(goodAttributes(entity), protect(oidSHA256, oidSHA512RSA)), cms.ErrAttributes},
		"protection is malformed":            {append(goodAttributes(entity), attribute(oidProtection, null)), cms.ErrAttributes},
		"an attribute is no sequence":        {append(goodAttributes(entity), null), cms.ErrMalformed},
		"an attribute has no values":         {append(goodAttributes(entity), tlv(ber.Sequence, encodeOID(oid{1, 2, 3}))), cms.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			r := verifyOne(t, signedBy(t, forgedSigner{who: p.alice, attributes: c.attributes}), entity, cms.VerifyPolicy{})
			if !errors.Is(r.Err, c.want) {
				t.Errorf("error is %v, must be %v", r.Err, c.want)
			}
		})
	}
}

func TestSignatureIsOverTheOriginalAttributes(t *testing.T) {
	p := newPeople(t)
	// A length that is not minimal inside an attribute: re-encoding would change the octets that were signed.
	padded := []byte{0x30, 0x81, 0x18, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03, 0x31, 0x0b}
	padded = append(padded, encodeOID(oidData)...)
	der := signedBy(t, forgedSigner{who: p.alice, attributes: [][]byte{messageDigest(digest(crypto.SHA256, entity)), padded}})
	if r := verifyOne(t, der, entity, cms.VerifyPolicy{}); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestEncapsulatedContentIsNotTakenForTheDetachedOne(t *testing.T) {
	p := newPeople(t)
	evil := []byte("Content-Type: text/plain\r\n\r\nPay Mallory.\r\n")
	enclose := func(c []byte) []byte { return tlv(ber.Context(0, true), octets(c)) }
	info := forgedSigner{who: p.alice, attributes: goodAttributes(entity)}.encode(t)

	s := parseSigned(t, forgedSigned{eContent: enclose(entity), certs: [][]byte{p.alice.DER}, infos: [][]byte{info}}.encode())
	if s.Detached() || !bytes.Equal(s.Content(), entity) {
		t.Errorf("Detached() = %v, Content() = %q", s.Detached(), s.Content())
	}
	// The signature is good over eContent; what is shown beside it is something else, or even the same.
	for _, shown := range [][]byte{evil, entity} {
		if results, err := s.Verify(bytes.NewReader(shown), cms.VerifyPolicy{}); !errors.Is(err, cms.ErrContent) || results != nil {
			t.Errorf("content beside eContent: %v, %v", results, err)
		}
	}
	results, err := s.Verify(nil, cms.VerifyPolicy{})
	if err != nil || results[0].Err != nil {
		t.Errorf("eContent alone: %v, %+v", err, results)
	}

	s = parseSigned(t, forgedSigned{eContent: enclose(evil), certs: [][]byte{p.alice.DER}, infos: [][]byte{info}}.encode())
	if results, err = s.Verify(nil, cms.VerifyPolicy{}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, results[0].Err, cms.ErrDigest)

	s = parseSigned(t, forgedSigned{eContent: enclose(nil), certs: [][]byte{p.alice.DER}, infos: [][]byte{info}}.encode())
	if s.Detached() {
		t.Error("an empty eContent is taken for a detached signature")
	}
	_, err = parseSigned(t, signedBy(t, forgedSigner{who: p.alice, attributes: goodAttributes(entity)})).Verify(nil, cms.VerifyPolicy{})
	wantErr(t, err, cms.ErrContent)
}

func TestOpaqueSignaturesOfOpenSSLVerifyOverTheirContent(t *testing.T) {
	for _, file := range []string{"signed-opaque.der", "signed-opaque-ber.der"} {
		s := parseSigned(t, fixture(t, file))
		if s.Detached() || !bytes.Equal(s.Content(), fixture(t, "content.txt")) {
			t.Errorf("%s: Detached() = %v, Content() = %q", file, s.Detached(), s.Content())
		}
		if results, err := s.Verify(nil, cms.VerifyPolicy{}); err != nil || len(results) != 1 || results[0].Err != nil {
			t.Errorf("%s: %v, %+v", file, err, results)
		}
	}
}

// TestAttributesOfOneMessageAreNotTheContentOfAnother takes the signed attributes of a real message as content: without
// attributes of its own, the same signature would verify over them.
func TestAttributesOfOneMessageAreNotTheContentOfAnother(t *testing.T) {
	p := newPeople(t)
	set := tlv(ber.Set, goodAttributes(entity)...)
	der := signedBy(t, forgedSigner{who: p.alice, over: set})
	wantErr(t, verifyOne(t, der, set, cms.VerifyPolicy{}).Err, cms.ErrAttributes)
	long := tlv(ber.Set, append(goodAttributes(entity), attribute(oid{1, 2, 3}, octets(make([]byte, 70_000))))...)
	wantErr(t, verifyOne(t, signedBy(t, forgedSigner{who: p.alice, over: long}), long, cms.VerifyPolicy{}).Err, cms.ErrAttributes)

	for _, content := range [][]byte{entity, nil, []byte("1"), []byte("10"), []byte("100: a header field whose name is a number\r\n\r\n")} {
		if r := verifyOne(t, signedBy(t, forgedSigner{who: p.alice, over: content}), content, cms.VerifyPolicy{}); r.Err != nil {
			t.Errorf("%q: %v", content, r.Err)
		}
	}
}

func TestEverySignerIsJudgedByItself(t *testing.T) {
	p := newPeople(t)
	good := forgedSigner{who: p.alice, attributes: goodAttributes(entity)}.encode(t)
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	foreign := forgedSigner{who: p.carol, attributes: goodAttributes([]byte("x")), signature: algorithmID(oid{1, 2, 840, 10045, 4, 3, 2})}.encode(t)
	unknown := forgedSigner{who: p.bob, attributes: goodAttributes(entity)}.encode(t)
	md5 := forgedSigner{who: p.alice, digest: oid{1, 2, 840, 113549, 2, 5}, attributes: goodAttributes(entity)}.encode(t)
	malformed := tlv(ber.Sequence, encodeInt(1), null)
	der := forgedSigned{
		certs: [][]byte{p.carol.DER, p.alice.DER},
		infos: [][]byte{broken, null, good, foreign, unknown, md5, malformed},
	}.encode()
	want := []error{cms.ErrSignature, cms.ErrMalformed, nil, cms.ErrDigest, cms.ErrSignerCertificate, cms.ErrAlgorithm, cms.ErrMalformed}
	results := verify(t, der, entity, cms.VerifyPolicy{})
	if len(results) != len(want) {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		if !errors.Is(r.Err, want[i]) {
			t.Errorf("signer %d: %v, must be %v", i, r.Err, want[i])
		}
	}
}

func TestSignedDataWithoutSignersIsNoSignature(t *testing.T) {
	s := parseSigned(t, fixture(t, "certs-only.p7c"))
	if n := len(s.Certificates()); n != 2 {
		t.Errorf("%d certificates", n)
	}
	results, err := s.Verify(bytes.NewReader(entity), cms.VerifyPolicy{})
	if !errors.Is(err, cms.ErrNoSigner) || results != nil {
		t.Errorf("%v, %v", results, err)
	}
}

func TestSignerWithoutEnclosedCertificateIsNamedSo(t *testing.T) {
	p := newPeople(t)
	wantErr(t, verifyOne(t, fixture(t, "signed-nocerts.der"), fixture(t, "content.txt"), cms.VerifyPolicy{}).Err, cms.ErrSignerCertificate)
	info := forgedSigner{who: p.alice, attributes: goodAttributes(entity)}.encode(t)
	other := forgedSigned{certs: [][]byte{p.bob.DER, p.ca.DER}, infos: [][]byte{info}}.encode()
	wantErr(t, verifyOne(t, other, entity, cms.VerifyPolicy{}).Err, cms.ErrSignerCertificate)
}

func TestOneBadCertificateDoesNotSpoilTheOthers(t *testing.T) {
	p := newPeople(t)
	info := forgedSigner{who: p.alice, attributes: goodAttributes(entity)}.encode(t)
	der := forgedSigned{
		certs: [][]byte{tlv(ber.Sequence), tlv(ber.Context(1, true), null), null, p.alice.DER, p.alice.DER},
		crls:  tlv(ber.Context(1, true), null),
		infos: [][]byte{info},
	}.encode()
	s := parseSigned(t, der)
	if len(s.Certificates()) != 1 || s.Skipped() != 3 {
		t.Errorf("%d certificates, %d skipped", len(s.Certificates()), s.Skipped())
	}
	if r := verifyOne(t, der, entity, cms.VerifyPolicy{}); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestCertificatesThatShareAKeyIdentifierAreAllTried(t *testing.T) {
	p := newPeople(t)
	decoy := p.ca.Leaf("decoy", testpki.SubjectKeyID(p.alice.Cert.SubjectKeyId))
	sid := tlv(ber.Context(0, false), p.alice.Cert.SubjectKeyId)
	der := forgedSigned{
		certs: [][]byte{decoy.DER, p.alice.DER},
		infos: [][]byte{forgedSigner{who: p.alice, sid: sid, attributes: goodAttributes(entity)}.encode(t)},
	}.encode()
	if r := verifyOne(t, der, entity, cms.VerifyPolicy{}); r.Err != nil || !r.Certificate.Equal(p.alice.Cert) {
		t.Errorf("%+v", r)
	}
}

func TestSignatureAlgorithmsMustFitDigestAndKey(t *testing.T) {
	p := newPeople(t)
	pss := func(hash, mgf oid, rest ...[]byte) []byte {
		return algorithmID(oidPSS, tlv(ber.Sequence,
			tlv(ber.Context(0, true), algorithmID(hash, null)),
			tlv(ber.Context(1, true), algorithmID(oidMGF1, algorithmID(mgf, null))), bytes.Join(rest, nil)))
	}
	salt := func(n int64) []byte { return tlv(ber.Context(2, true), encodeInt(n)) }
	saltOf := func(n int) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: n, Hash: crypto.SHA256} }
	for name, c := range map[string]struct {
		signature []byte
		opts      crypto.SignerOpts
		who       testpki.Pair
		want      error
	}{
		"plain rsaEncryption":             {algorithmID(oidRSA, null), nil, p.alice, nil},
		"plain ECDSA key":                 {algorithmID(oid{1, 2, 840, 10045, 2, 1}), nil, p.carol, nil},
		"RSA-PSS":                         {pss(oidSHA256, oidSHA256, salt(32)), saltOf(32), p.alice, nil},
		"RSA-PSS, salt by default":        {pss(oidSHA256, oidSHA256), saltOf(20), p.alice, nil},
		"RSA-PSS, trailer 1":              {pss(oidSHA256, oidSHA256, salt(8), tlv(ber.Context(3, true), encodeInt(1))), saltOf(8), p.alice, nil},
		"RSA-PSS, another salt":           {pss(oidSHA256, oidSHA256, salt(20)), saltOf(32), p.alice, cms.ErrSignature},
		"RSA-PSS, trailer 2":              {pss(oidSHA256, oidSHA256, salt(32), tlv(ber.Context(3, true), encodeInt(2))), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS, negative salt":          {pss(oidSHA256, oidSHA256, salt(-1)), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS, endless salt":           {pss(oidSHA256, oidSHA256, salt(1<<40)), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS with other hash":         {pss(oidSHA512, oidSHA256, salt(32)), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS with other mask":         {pss(oidSHA256, oidSHA512, salt(32)), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS with MD5":                {pss(oid{1, 2, 840, 113549, 2, 5}, oidSHA256, salt(32)), saltOf(32), p.alice, cms.ErrAlgorithm},
		"RSA-PSS, SHA-1 by default":       {algorithmID(oidPSS, tlv(ber.Sequence)), saltOf(20), p.alice, cms.ErrAlgorithm},
		"RSA-PSS, no parameters":          {algorithmID(oidPSS), saltOf(20), p.alice, cms.ErrAlgorithm},
		"RSA-PSS, malformed":              {algorithmID(oidPSS, octets(nil)), saltOf(20), p.alice, cms.ErrMalformed},
		"RSA-PSS named, v1.5 made":        {pss(oidSHA256, oidSHA256, salt(32)), nil, p.alice, cms.ErrSignature},
		"v1.5 named, RSA-PSS made":        {algorithmID(oidSHA256RSA, null), saltOf(32), p.alice, cms.ErrSignature},
		"signature with SHA-512 over 256": {algorithmID(oidSHA512RSA, null), nil, p.alice, cms.ErrAlgorithm},
		"RSA named, ECDSA key":            {algorithmID(oidSHA256RSA, null), nil, p.carol, cms.ErrSignature},
		"ECDSA named, RSA key":            {algorithmID(oid{1, 2, 840, 10045, 4, 3, 2}), nil, p.alice, cms.ErrSignature},
		"unknown":                         {algorithmID(oid{1, 2, 3, 4}), nil, p.alice, cms.ErrAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			der := signedBy(t, forgedSigner{who: c.who, attributes: goodAttributes(entity), signature: c.signature, opts: c.opts})
			wantErr(t, verifyOne(t, der, entity, cms.VerifyPolicy{}).Err, c.want)
		})
	}
}

func TestSHA1InsidePSSFollowsThePolicy(t *testing.T) {
	p := newPeople(t)
	der := signedBy(t, forgedSigner{
		who: p.alice, digest: oidSHA1, hash: crypto.SHA1, attributes: [][]byte{contentType(oidData), messageDigest(digest(crypto.SHA1, entity))},
		signature: algorithmID(oidPSS), opts: &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA1},
	})
	wantErr(t, verifyOne(t, der, entity, cms.VerifyPolicy{AllowSHA1: true}).Err, nil)
	wantErr(t, verifyOne(t, der, entity, cms.VerifyPolicy{}).Err, cms.ErrAlgorithm)
}

func TestSignedDataInBERVerifies(t *testing.T) {
	p := newPeople(t)
	for _, der := range [][]byte{
		sign(t, entity, cms.SignOptions{SigningTime: signedAt}, signer(p.alice, p.ca.Cert)),
		fixture(t, "signed-two.der"),
	} {
		content := entity
		if bytes.Equal(der, fixture(t, "signed-two.der")) {
			content = fixture(t, "content.txt")
		}
		// Down to the fields of SignedData everything becomes indefinite: certificates and attributes stay DER, as they must.
		for _, r := range verify(t, toBER(t, der, 4, 0), content, cms.VerifyPolicy{}) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
	}
	// Attributes under an indefinite length are hashed under a definite one (RFC 5652 §5.4).
	attributes := goodAttributes(entity)
	info := forgedSigner{who: p.alice, attributes: attributes}.encode(t)
	sent := tlv(ber.Context(0, true), attributes...)
	endless := append(append([]byte{0xa0, 0x80}, bytes.Join(attributes, nil)...), 0, 0)
	fields := bytes.Replace(info, sent, endless, 1)
	_, header, _ := bytes.Cut(fields, encodeInt(1))
	info = tlv(ber.Sequence, encodeInt(1), header)
	der := forgedSigned{certs: [][]byte{p.alice.DER}, infos: [][]byte{info}}.encode()
	if r := verifyOne(t, der, entity, cms.VerifyPolicy{}); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestVerifyReadsTheContentOnceAndPassesItsErrorsOn(t *testing.T) {
	p := newPeople(t)
	der := sign(t, entity, cms.SignOptions{}, signer(p.alice), signer(p.bob), signer(p.carol))
	results, err := parseSigned(t, der).Verify(iotest.OneByteReader(bytes.NewBuffer(entity)), cms.VerifyPolicy{})
	if err != nil || len(results) != 3 {
		t.Fatalf("%v, %d results", err, len(results))
	}
	for _, r := range results {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	_, err = parseSigned(t, der).Verify(iotest.ErrReader(io.ErrNoProgress), cms.VerifyPolicy{})
	wantErr(t, err, io.ErrNoProgress)
}

func TestAnyFlippedOctetOfTheContentIsNoticed(t *testing.T) {
	p := newPeople(t)
	s := parseSigned(t, sign(t, entity, cms.SignOptions{SigningTime: time.Unix(1, 0)}, signer(p.alice)))
	for i := range entity {
		changed := bytes.Clone(entity)
		changed[i] ^= 0x20
		results, err := s.Verify(bytes.NewReader(changed), cms.VerifyPolicy{})
		if err != nil || !errors.Is(results[0].Err, cms.ErrDigest) {
			t.Errorf("octet %d: %v, %v", i, err, results)
		}
	}
}

func TestOtherStructuresAreNotSignedData(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":                   {nil, cms.ErrMalformed},
		"text":                      {entity, cms.ErrMalformed},
		"enveloped":                 {fixture(t, "enveloped-aes128.der"), cms.ErrContentType},
		"auth-enveloped":            {fixture(t, "authenveloped-gcm.der"), cms.ErrContentType},
		"a certificate":             {fixturePair(t, "alice").DER, cms.ErrMalformed},
		"signed over signed":        {forgedSigned{typ: oidSigned}.encode(), cms.ErrContentType},
		"eContent is no string":     {forgedSigned{eContent: tlv(ber.Context(0, true), null)}.encode(), cms.ErrMalformed},
		"no fields":                 {contentInfo(oidSigned), cms.ErrMalformed},
		"no signerInfos":            {contentInfo(oidSigned, encodeInt(1), tlv(ber.Set), tlv(ber.Sequence, encodeOID(oidData))), cms.ErrMalformed},
		"length beyond the end":     {[]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x06}, cms.ErrMalformed},
		"length of many octets":     {[]byte{0x30, 0x8a, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, cms.ErrLimit},
		"indefinite and never ends": {[]byte{0x30, 0x80, 0x06, 0x01, 0x01}, cms.ErrMalformed},
	} {
		s, err := cms.ParseSignedData(c.in, cms.Limits{})
		if !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: %v, %v, must be %v", name, s, err, c.want)
		}
	}
}
