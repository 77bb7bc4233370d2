package cms_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"directnode/internal/ber"
	"directnode/internal/cms"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

func TestContentThatPeersEncryptedDecrypts(t *testing.T) {
	spec.Covers(t, "AS-2.7-a", "AS-2.7-b", "AS-2.7-e")
	alice, content := decrypter(fixturePair(t, "alice")), fixture(t, "content.txt")
	for _, file := range []string{
		"enveloped-aes128.der", "enveloped-aes192.der", "enveloped-aes256.der",
		"enveloped-oaep-sha1.der", "enveloped-oaep-sha256.der", "enveloped-oaep-sha256-mgf1.der", "enveloped-oaep-sha384.der",
		"enveloped-oaep-sha512.der", "enveloped-oaep-label.der",
		"enveloped-keyid.der", "enveloped-ber.der", "enveloped-ber-keyid.der", "enveloped-two.der", "enveloped-mixed.der",
		"../gpgsm/enveloped-aes128.der", "../gpgsm/enveloped-aes256.der",
	} {
		if got, err := decrypt(t, fixture(t, file), alice); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %q, %v (%s)", file, got, err, reason(t, fixture(t, file), alice))
		}
	}
}

func TestOtherKindsOfRecipientsAreSkipped(t *testing.T) {
	var kinds []string
	for _, r := range parseEnveloped(t, fixture(t, "enveloped-mixed.der")).Recipients() {
		kinds = append(kinds, r.Kind)
	}
	slices.Sort(kinds)
	if want := []string{"kari", "kekri", "ktri", "pwri"}; !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, must be %v", kinds, want)
	}
}

func TestWeakCiphersAreRefusedAndNamedToTheOperatorOnly(t *testing.T) {
	spec.Covers(t, "AS-2.7-c", "AS-2.7-d")
	alice := decrypter(fixturePair(t, "alice"))
	for file, name := range map[string]string{"enveloped-3des.der": "3DES", "enveloped-des.der": "DES-CBC", "enveloped-rc2.der": "RC2-CBC", "../gpgsm/enveloped-3des.der": "3DES"} {
		_, err := decrypt(t, fixture(t, file), alice)
		wantErr(t, err, cms.ErrDecrypt)
		if told := reason(t, fixture(t, file), alice); !strings.Contains(told, name) {
			t.Errorf("%s: operator is told %q, must contain %q", file, told, name)
		}
		if strings.Contains(cms.ErrDecrypt.Error(), name) {
			t.Error("the error names the cipher")
		}
	}
}

// envelope is an EnvelopedData for one recipient that a test then breaks.
type envelope struct {
	cek, iv   []byte
	encrypted []byte // content
	transport []byte // encoded algorithm
	wrapped   []byte
	rid       []byte
	cipher    []byte // encoded algorithm
}

func newEnvelope(t testing.TB, to testpki.Pair, content []byte) envelope {
	t.Helper()
	e := envelope{cek: bytes.Repeat([]byte{7}, 16), iv: bytes.Repeat([]byte{9}, 16), transport: algorithmID(oidRSA, null), rid: issuerAndSerial(to)}
	pad := 16 - len(content)%16
	e.encrypted = e.cbc(t, append(bytes.Clone(content), bytes.Repeat([]byte{byte(pad)}, pad)...))
	e.wrapped = wrapV15(t, to, e.cek)
	e.cipher = algorithmID(oidAES128, octets(e.iv))
	return e
}

// cbc encrypts whole blocks.
func (e envelope) cbc(t testing.TB, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(e.cek)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, e.iv).CryptBlocks(out, plain)
	return out
}

func wrapV15(t testing.TB, to testpki.Pair, key []byte) []byte {
	t.Helper()
	//lint:ignore SA1019 a peer that knows nothing else
	out, err := rsa.EncryptPKCS1v15(rand.Reader, to.Cert.PublicKey.(*rsa.PublicKey), key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wrapOAEP(t testing.TB, to testpki.Pair, key []byte, hash, mgf crypto.Hash) []byte {
	t.Helper()
	out, err := rsa.EncryptOAEPWithOptions(rand.Reader, to.Cert.PublicKey.(*rsa.PublicKey), key, &rsa.OAEPOptions{Hash: hash, MGFHash: mgf})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (e envelope) info() []byte {
	return tlv(ber.Sequence, encodeInt(0), e.rid, e.transport, octets(e.wrapped))
}

func (e envelope) encode() []byte {
	return forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: tlv(ber.Context(0, false), e.encrypted)}.encode()
}

// TestEveryFailureIsTheSame breaks a message in every way that can be told from its octets or by a key that surely does not
// fit: the error is the one value, and nothing is written.
func TestEveryFailureIsTheSame(t *testing.T) {
	p := newPeople(t)
	bob := decrypter(p.bob)
	good := newEnvelope(t, p.bob, entity)
	if got, err := decrypt(t, good.encode(), bob); err != nil || !bytes.Equal(got, entity) {
		t.Fatalf("unbroken: %q, %v", got, err)
	}
	block := func(b ...byte) []byte { return append(make([]byte, 16-len(b)), b...) }
	oaep := func(params ...[]byte) []byte { return algorithmID(oidOAEP, params...) }
	causes := map[string]func(e *envelope){
		"no key":                   func(e *envelope) { e.rid = issuerAndSerial(p.alice) },
		"key identifier of nobody": func(e *envelope) { e.rid = tlv(ber.Context(0, false), []byte("nobody")) },
		"wrapped key is cut":       func(e *envelope) { e.wrapped = nil },
		"OAEP named, v1.5 made":    func(e *envelope) { e.transport = oaep(tlv(ber.Sequence)) },
		"OAEP with another hash":   func(e *envelope) { e.transport, e.wrapped = oaep(), wrapOAEP(t, p.bob, e.cek, crypto.SHA256, 0) },
		"OAEP key of another size": func(e *envelope) {
			e.transport, e.wrapped = oaep(), wrapOAEP(t, p.bob, make([]byte, 24), crypto.SHA1, 0)
		},
		"OAEP to another key":       func(e *envelope) { e.transport, e.wrapped = oaep(), wrapOAEP(t, p.alice, e.cek, crypto.SHA1, 0) },
		"OAEP longer than the key":  func(e *envelope) { e.transport, e.wrapped = oaep(), make([]byte, 300) },
		"OAEP parameters malformed": func(e *envelope) { e.transport = oaep(octets(nil)) },
		"OAEP with MD5": func(e *envelope) {
			e.transport = oaep(tlv(ber.Sequence, tlv(ber.Context(0, true), algorithmID(oid{1, 2, 840, 113549, 2, 5}))))
		},
		"OAEP with an unknown mask": func(e *envelope) {
			e.transport = oaep(tlv(ber.Sequence, tlv(ber.Context(1, true), algorithmID(oid{1, 2, 3}))))
		},
		"OAEP with an unknown label": func(e *envelope) {
			e.transport = oaep(tlv(ber.Sequence, tlv(ber.Context(2, true), algorithmID(oid{1, 2, 3}))))
		},
		"unknown transport": func(e *envelope) { e.transport = algorithmID(oid{1, 2, 3, 4}) },
		"3DES":              func(e *envelope) { e.cipher = algorithmID(oid{1, 2, 840, 113549, 3, 7}, octets(make([]byte, 8))) },
		"AES-GCM": func(e *envelope) {
			e.cipher = algorithmID(oid{2, 16, 840, 1, 101, 3, 4, 1, 6}, octets(make([]byte, 16)))
		},
		"no vector":                 func(e *envelope) { e.cipher = algorithmID(oidAES128) },
		"short vector":              func(e *envelope) { e.cipher = algorithmID(oidAES128, octets(make([]byte, 15))) },
		"vector is no octet string": func(e *envelope) { e.cipher = algorithmID(oidAES128, null) },
		"no content":                func(e *envelope) { e.encrypted = nil },
		"content not in blocks":     func(e *envelope) { e.encrypted = e.encrypted[:len(e.encrypted)-1] },
		"one octet of content":      func(e *envelope) { e.encrypted = e.encrypted[:1] },
		"last block is missing":     func(e *envelope) { e.encrypted = e.encrypted[:len(e.encrypted)-16] },
		"padding of 0":              func(e *envelope) { e.encrypted = e.cbc(t, block(0)) },
		"padding of 17":             func(e *envelope) { e.encrypted = e.cbc(t, bytes.Repeat([]byte{17}, 32)) },
		"padding of 255":            func(e *envelope) { e.encrypted = e.cbc(t, bytes.Repeat([]byte{255}, 16)) },
		"padding of 128":            func(e *envelope) { e.encrypted = e.cbc(t, bytes.Repeat([]byte{128}, 256)) },
		"padding 2, 1 octet wrong":  func(e *envelope) { e.encrypted = e.cbc(t, block(3, 2)) },
		"padding 16, first wrong":   func(e *envelope) { e.encrypted = e.cbc(t, append([]byte{15}, bytes.Repeat([]byte{16}, 15)...)) },
		"padding 3, middle wrong":   func(e *envelope) { e.encrypted = e.cbc(t, block(3, 4, 3)) },
		"last block altered": func(e *envelope) {
			e.encrypted = bytes.Clone(e.encrypted)
			e.encrypted[len(e.encrypted)-17] ^= 0x40 // flips a bit of the padding octet
		},
	}
	for name, breakIt := range causes {
		e := good
		breakIt(&e)
		if got, err := decrypt(t, e.encode(), bob); err != cms.ErrDecrypt || len(got) != 0 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if told := reason(t, e.encode(), bob); told == "" {
			t.Errorf("%s: the operator is told nothing", name)
		}
	}
	for name, keys := range map[string][]cms.Decrypter{
		"no keys":                 nil,
		"empty key":               {{}},
		"certificate without key": {{Certificate: p.bob.Cert}},
		"key without certificate": {{Key: bob.Key}},
	} {
		if _, err := decrypt(t, good.encode(), keys...); err != cms.ErrDecrypt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBrokenPKCS1v15KeysLookLikeWrongOnes is about the million message attack (RFC 3218): an encrypted key that is not
// PKCS #1 v1.5 goes the way of a wrong key. By chance one in 256 of either passes the check of the padding and gives random
// octets; of 8 attempts that is hardly ever more than one, and the same message always has the same fate.
func TestBrokenPKCS1v15KeysLookLikeWrongOnes(t *testing.T) {
	p := newPeople(t)
	bob := decrypter(p.bob)
	good := newEnvelope(t, p.bob, entity)
	modulus := p.bob.Cert.PublicKey.(*rsa.PublicKey).Size()
	for name, breakIt := range map[string]func(e *envelope, i byte){
		"right form, wrong key":     func(e *envelope, i byte) { e.wrapped = wrapV15(t, p.bob, bytes.Repeat([]byte{i}, 16)) },
		"right form, key too long":  func(e *envelope, i byte) { e.wrapped = wrapV15(t, p.bob, bytes.Repeat([]byte{i}, 24)) },
		"right form, key too short": func(e *envelope, i byte) { e.wrapped = wrapV15(t, p.bob, bytes.Repeat([]byte{i}, 5)) },
		"right form, no key":        func(e *envelope, i byte) { e.wrapped = wrapV15(t, p.bob, nil) },
		"to another key":            func(e *envelope, i byte) { e.wrapped = wrapV15(t, p.alice, e.cek) },
		"noise":                     func(e *envelope, i byte) { e.wrapped = append(bytes.Repeat([]byte{0}, modulus-2), 1, i) },
		"one bit":                   func(e *envelope, i byte) { e.wrapped = bytes.Clone(e.wrapped); e.wrapped[modulus-1-int(i)] ^= 1 },
		"beyond the modulus":        func(e *envelope, i byte) { e.wrapped = bytes.Repeat([]byte{255}, modulus) },
		"longer than the modulus":   func(e *envelope, i byte) { e.wrapped = bytes.Repeat([]byte{i}, modulus+1) },
		"OAEP made":                 func(e *envelope, i byte) { e.wrapped = wrapOAEP(t, p.bob, e.cek, crypto.SHA1, 0) },
	} {
		failed := 0
		for i := range byte(8) {
			e := good
			breakIt(&e, i+100)
			der := e.encode()
			first, err := decrypt(t, der, bob)
			if err != nil {
				failed++
			}
			if bytes.Contains(first, []byte("Hello")) {
				t.Errorf("%s: the content came out", name)
			}
			if again, err2 := decrypt(t, der, bob); err2 != err || !bytes.Equal(again, first) {
				t.Errorf("%s: the second attempt went another way: %v, then %v", name, err, err2)
			}
		}
		if failed < 4 { // by chance once in 10^10
			t.Errorf("%s: only %d of 8 failed", name, failed)
		}
	}
}

// countingKey is a key in a hardware module. It counts and may know no session keys.
type countingKey struct {
	rsa        *rsa.PrivateKey
	calls      int
	noSessions bool
	gives      []byte // instead of decrypting
}

func (k *countingKey) Public() crypto.PublicKey { return k.rsa.Public() }

func (k *countingKey) Decrypt(r io.Reader, b []byte, o crypto.DecrypterOpts) ([]byte, error) {
	k.calls++
	//lint:ignore SA1019 what the decrypter must ask for
	if v15, ok := o.(*rsa.PKCS1v15DecryptOptions); ok && (k.noSessions || v15.SessionKeyLen == 0) {
		return nil, errors.New("session keys are not supported")
	}
	if k.gives != nil {
		return k.gives, nil
	}
	return k.rsa.Decrypt(r, b, o)
}

func TestKeysInHardwareModulesDecrypt(t *testing.T) {
	p := newPeople(t)
	for _, transport := range allTransports {
		key := &countingKey{rsa: p.bob.Key.(*rsa.PrivateKey)}
		der := encrypt(t, entity, cms.AES192CBC, cms.Recipient{Certificate: p.bob.Cert, Transport: transport})
		got, err := decrypt(t, der, cms.Decrypter{Certificate: p.bob.Cert, Key: key})
		if err != nil || !bytes.Equal(got, entity) || key.calls != 1 {
			t.Errorf("%s: %q, %v, %d calls", transport, got, err, key.calls)
		}
		for _, bad := range []*countingKey{{rsa: key.rsa, gives: []byte{}}, {rsa: key.rsa, gives: make([]byte, 300)}, {rsa: key.rsa, noSessions: true}} {
			got, err := decrypt(t, der, cms.Decrypter{Certificate: p.bob.Cert, Key: bad})
			if transport != cms.PKCS1v15 && bad.noSessions {
				continue
			}
			if bytes.Equal(got, entity) || transport != cms.PKCS1v15 && err != cms.ErrDecrypt {
				t.Errorf("%s: bad module: %q, %v", transport, got, err)
			}
		}
	}
}

func TestKeysOfOtherKindsAreNotTried(t *testing.T) {
	p := newPeople(t)
	e := newEnvelope(t, p.bob, entity)
	e.rid = issuerAndSerial(p.carol)
	key := &notRSA{p.carol.Key}
	told := reason(t, e.encode(), cms.Decrypter{Certificate: p.carol.Cert, Key: key})
	if !strings.Contains(told, "needs an RSA key") {
		t.Errorf("operator is told %q", told)
	}
}

type notRSA struct{ crypto.Signer }

func (notRSA) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errors.New("ECDSA keys do not decrypt")
}

// TestAllMatchingRecipientsAreTried puts broken RecipientInfos that name our certificate before the good one.
func TestAllMatchingRecipientsAreTried(t *testing.T) {
	p := newPeople(t)
	good := newEnvelope(t, p.bob, entity)
	oaepBroken, unknown, keyID := good, good, good
	oaepBroken.transport = algorithmID(oidOAEP)
	unknown.transport = algorithmID(oid{1, 2, 3})
	keyID.rid = tlv(ber.Context(0, false), p.bob.Cert.SubjectKeyId)
	malformed := tlv(ber.Sequence, encodeInt(0), good.rid)
	other := newEnvelope(t, p.alice, entity)
	other.transport = algorithmID(oidOAEP)
	for name, infos := range map[string][][]byte{
		"issuer and serial":       {good.info()},
		"key identifier":          {keyID.info()},
		"behind a broken one":     {oaepBroken.info(), good.info()},
		"behind many":             {malformed, null, unknown.info(), oaepBroken.info(), other.info(), tlv(ber.Context(9, true), null), keyID.info()},
		"before broken ones":      {keyID.info(), oaepBroken.info()},
		"constructed key, in BER": {toBER(t, good.info(), 1, 0x04)},
	} {
		der := forgedEnveloped{infos: infos, algorithm: good.cipher, content: tlv(ber.Context(0, false), good.encrypted)}.encode()
		if got, err := decrypt(t, der, decrypter(p.alice), decrypter(p.bob)); err != nil || !bytes.Equal(got, entity) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPrivateKeyOperationsPerMessageAreBounded(t *testing.T) {
	p := newPeople(t)
	e := newEnvelope(t, p.bob, entity)
	e.transport = algorithmID(oidOAEP) // the key was wrapped by PKCS #1 v1.5: each attempt fails
	f := forgedEnveloped{infos: slices.Repeat([][]byte{e.info()}, 100), algorithm: e.cipher, content: tlv(ber.Context(0, false), e.encrypted)}
	key := &countingKey{rsa: p.bob.Key.(*rsa.PrivateKey)}
	_, err := decrypt(t, f.encode(), cms.Decrypter{Certificate: p.bob.Cert, Key: key})
	if err != cms.ErrDecrypt || key.calls != 32 {
		t.Errorf("%v after %d operations", err, key.calls)
	}
}

func TestOAEPParametersOfEveryFormAreRead(t *testing.T) {
	p := newPeople(t)
	hash := func(o oid, params ...[]byte) []byte { return tlv(ber.Context(0, true), algorithmID(o, params...)) }
	mask := func(o oid, params ...[]byte) []byte {
		return tlv(ber.Context(1, true), algorithmID(oidMGF1, algorithmID(o, params...)))
	}
	empty := tlv(ber.Context(2, true), algorithmID(oid{1, 2, 840, 113549, 1, 1, 9}, octets(nil)))
	for name, c := range map[string]struct {
		params    []byte
		hash, mgf crypto.Hash
	}{
		"absent":                     {nil, crypto.SHA1, crypto.SHA1},
		"NULL":                       {null, crypto.SHA1, crypto.SHA1},
		"empty":                      {tlv(ber.Sequence), crypto.SHA1, crypto.SHA1},
		"defaults written out":       {tlv(ber.Sequence, hash(oidSHA1, null), mask(oidSHA1, null), empty), crypto.SHA1, crypto.SHA1},
		"hash alone":                 {tlv(ber.Sequence, hash(oidSHA256, null)), crypto.SHA256, crypto.SHA1},
		"mask alone":                 {tlv(ber.Sequence, mask(oidSHA256, null)), crypto.SHA1, crypto.SHA256},
		"both, NULL left out":        {tlv(ber.Sequence, hash(oidSHA512), mask(oidSHA512)), crypto.SHA512, crypto.SHA512},
		"both, different, and label": {tlv(ber.Sequence, hash(oidSHA512, null), mask(oidSHA256), empty), crypto.SHA512, crypto.SHA256},
	} {
		e := newEnvelope(t, p.bob, entity)
		e.transport, e.wrapped = algorithmID(oidOAEP, c.params), wrapOAEP(t, p.bob, e.cek, c.hash, c.mgf)
		if got, err := decrypt(t, e.encode(), decrypter(p.bob)); err != nil || !bytes.Equal(got, entity) {
			t.Errorf("%s: %q, %v: %s", name, got, err, reason(t, e.encode(), decrypter(p.bob)))
		}
	}
}

func TestOAEPParametersAreWrittenAsRFC4055Says(t *testing.T) {
	p := newPeople(t)
	explicit := func(o oid) []byte {
		return tlv(ber.Sequence, tlv(ber.Context(0, true), algorithmID(o, null)), tlv(ber.Context(1, true), algorithmID(oidMGF1, algorithmID(o, null))))
	}
	for transport, want := range map[cms.KeyTransport][]byte{
		cms.OAEPSHA1:   algorithmID(oidOAEP, tlv(ber.Sequence)),
		cms.OAEPSHA256: algorithmID(oidOAEP, explicit(oidSHA256)),
		cms.OAEPSHA384: algorithmID(oidOAEP, explicit(oid{2, 16, 840, 1, 101, 3, 4, 2, 2})),
		cms.OAEPSHA512: algorithmID(oidOAEP, explicit(oidSHA512)),
		cms.PKCS1v15:   algorithmID(oidRSA, null),
	} {
		if der := encrypt(t, entity, cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert, Transport: transport}); !bytes.Contains(der, want) {
			t.Errorf("%s: parameters are not %x", transport, want)
		}
	}
}

func TestEnvelopedDataInBERDecrypts(t *testing.T) {
	p := newPeople(t)
	der := encrypt(t, entity, cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert, Transport: cms.OAEPSHA256})
	for depth := range 7 { // below stand names and numbers of certificates, which a writer copies
		for _, split := range []byte{0, 0x80} { // 0x80 is encryptedContent
			got, err := decrypt(t, toBER(t, der, depth, split), decrypter(p.bob))
			if err != nil || !bytes.Equal(got, entity) {
				t.Errorf("indefinite down to %d, content split %v: %q, %v", depth, split != 0, got, err)
			}
		}
	}
	e := newEnvelope(t, p.bob, entity)
	nested := tlv(ber.Context(0, true), octets(e.encrypted[:5]), tlv(ber.Tag{Constructed: true, Number: 4}, octets(e.encrypted[5:20]), octets(nil)), octets(e.encrypted[20:]))
	f := forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: nested, originator: tlv(ber.Context(0, true), null), tail: tlv(ber.Context(1, true), null)}
	if got, err := decrypt(t, f.encode(), decrypter(p.bob)); err != nil || !bytes.Equal(got, entity) {
		t.Errorf("segments of segments: %q, %v", got, err)
	}
}

func TestFailureOfTheWriterIsNoOracle(t *testing.T) {
	p := newPeople(t)
	der := encrypt(t, bytes.Repeat(entity, 5000), cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert})
	var told string
	err := parseEnveloped(t, der).DecryptDiagnosed(&failing{40_000}, []cms.Decrypter{decrypter(p.bob)}, func(r string) { told = r })
	if err != cms.ErrDecrypt || !strings.Contains(told, "short write") {
		t.Errorf("%v, operator is told %q", err, told)
	}
}

func TestDecryptingLeavesTheMessageAlone(t *testing.T) {
	p := newPeople(t)
	der := encrypt(t, bytes.Repeat(entity, 3000), cms.AES256CBC, cms.Recipient{Certificate: p.bob.Cert})
	before := bytes.Clone(der)
	e := parseEnveloped(t, der)
	for range 2 {
		var out bytes.Buffer
		if err := e.Decrypt(&out, []cms.Decrypter{decrypter(p.bob)}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(der, before) {
		t.Error("the octets that were parsed changed")
	}
}

func TestOtherStructuresAreNotEnvelopedData(t *testing.T) {
	p := newPeople(t)
	e := newEnvelope(t, p.bob, entity)
	content := tlv(ber.Context(0, false), e.encrypted)
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":               {nil, cms.ErrMalformed},
		"text":                  {entity, cms.ErrMalformed},
		"signed":                {fixture(t, "signed-sha256.der"), cms.ErrContentType},
		"auth-enveloped":        {fixture(t, "authenveloped-gcm.der"), cms.ErrContentType},
		"enveloped over signed": {forgedEnveloped{typ: oidSigned, infos: [][]byte{e.info()}, algorithm: e.cipher, content: content}.encode(), cms.ErrContentType},
		"no fields":             {contentInfo(oidEnveloped), cms.ErrMalformed},
		"no algorithm":          {forgedEnveloped{infos: [][]byte{e.info()}, content: content}.encode(), cms.ErrMalformed},
		"content is a number":   {forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: encodeInt(1)}.encode(), cms.ErrMalformed},
		"segments are numbers":  {forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: tlv(ber.Context(0, true), encodeInt(1))}.encode(), cms.ErrMalformed},
		"cut":                   {e.encode()[:200], cms.ErrMalformed},
	} {
		got, err := cms.ParseEnvelopedData(c.in, cms.Limits{})
		if !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v, %v, must be %v", name, got, err, c.want)
		}
	}
	without := forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher}.encode()
	_, err := decrypt(t, without, decrypter(p.bob))
	wantErr(t, err, cms.ErrDecrypt)
}
