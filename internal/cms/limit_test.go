package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"
	"slices"
	"testing"

	"directnode/internal/ber"
	"directnode/internal/cms"
	"directnode/internal/testpki"
)

// crossing is a structure that is one step inside a limit and one that is one step beyond it.
type crossing struct {
	within, beyond []byte
	limits         cms.Limits
}

func cross(t *testing.T, cases map[string]crossing, parse func([]byte, cms.Limits) error) {
	t.Helper()
	for name, c := range cases {
		if err := parse(c.within, c.limits); err != nil {
			t.Errorf("%s: within: %v", name, err)
		}
		if err := parse(c.beyond, c.limits); !errors.Is(err, cms.ErrLimit) {
			t.Errorf("%s: beyond: %v", name, err)
		}
	}
}

// nested is n constructed elements around nothing.
func nested(n int) []byte {
	var b []byte
	for range n {
		b = tlv(ber.Sequence, b)
	}
	return b
}

// endless is n elements of indefinite length around inner.
func endless(tag byte, n int, inner ...byte) []byte {
	b := append(bytes.Repeat([]byte{tag, 0x80}, n), inner...)
	return append(b, make([]byte, 2*n)...)
}

func TestEachLimitOfSignedDataIsKept(t *testing.T) {
	p := newPeople(t)
	info := forgedSigner{who: p.alice, attributes: goodAttributes(entity)}.encode(t)
	certs := func(n int) []byte {
		return forgedSigned{certs: slices.Repeat([][]byte{p.alice.DER}, n), infos: [][]byte{info}}.encode()
	}
	signers := func(n int) []byte { return forgedSigned{infos: slices.Repeat([][]byte{info}, n)}.encode() }
	deep := func(n int) []byte {
		return forgedSigned{crls: endless(0xa1, 1, endless(0x30, n)...)}.encode()
	}
	one := signers(1)
	cross(t, map[string]crossing{
		"certificates":              {certs(32), certs(33), cms.Limits{}},
		"certificates, as chosen":   {certs(2), certs(3), cms.Limits{Certificates: 2}},
		"certificates, more chosen": {certs(100), certs(101), cms.Limits{Certificates: 100}},
		"signers":                   {signers(8), signers(9), cms.Limits{}},
		"signers, as chosen":        {signers(1), signers(2), cms.Limits{Signers: 1}},
		"depth":                     {deep(11), deep(14), cms.Limits{}},
		"depth of thousands":        {deep(11), deep(100_000), cms.Limits{}},
		"size":                      {one, signers(2), cms.Limits{Size: len(one)}},
	}, func(b []byte, l cms.Limits) error { _, err := cms.ParseSignedData(b, l); return err })
}

func TestSignedAttributesAreLimited(t *testing.T) {
	p := newPeople(t)
	for _, n := range []int{32, 33, 5000} {
		attributes := goodAttributes(entity)
		for i := range n - len(attributes) {
			attributes = append(attributes, attribute(oid{1, 2, 3, i}, null))
		}
		r := verifyOne(t, signedBy(t, forgedSigner{who: p.alice, attributes: attributes}), entity, cms.VerifyPolicy{})
		if n <= 32 && r.Err != nil || n > 32 && !errors.Is(r.Err, cms.ErrLimit) {
			t.Errorf("%d attributes: %v", n, r.Err)
		}
	}
}

func TestEachLimitOfEnvelopedDataIsKept(t *testing.T) {
	p := newPeople(t)
	e := newEnvelope(t, p.bob, entity)
	recipients := func(n int) []byte {
		return forgedEnveloped{infos: slices.Repeat([][]byte{e.info()}, n), algorithm: e.cipher, content: tlv(ber.Context(0, false), e.encrypted)}.encode()
	}
	segments := func(n int) []byte {
		return forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: tlv(ber.Context(0, true), slices.Repeat([][]byte{{4, 0}}, n)...)}.encode()
	}
	deep := func(n int) []byte {
		return forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, originator: endless(0xa0, 1, endless(0x30, n)...)}.encode()
	}
	chain := func(n int) []byte { // an octet string in an octet string …
		return forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: tlv(ber.Context(0, true), endless(0x24, n, 4, 0))}.encode()
	}
	one := recipients(1)
	cross(t, map[string]crossing{
		"recipients":             {recipients(6400), recipients(6401), cms.Limits{}},
		"recipients, as chosen":  {recipients(2), recipients(3), cms.Limits{Recipients: 2}},
		"segments":               {segments(10_000), segments(100_000), cms.Limits{}},
		"depth":                  {deep(11), deep(14), cms.Limits{}},
		"depth of thousands":     {deep(11), deep(100_000), cms.Limits{}},
		"depth, as chosen":       {deep(11), deep(100), cms.Limits{Depth: 32}},
		"strings inside strings": {chain(8), chain(20), cms.Limits{}},
		"strings, thousands":     {chain(8), chain(20_000), cms.Limits{}},
		"size":                   {one, recipients(2), cms.Limits{Size: len(one)}},
	}, func(b []byte, l cms.Limits) error { _, err := cms.ParseEnvelopedData(b, l); return err })
}

func TestIdentifiersAreLimited(t *testing.T) {
	p := newPeople(t)
	serial := func(n int) []byte {
		return tlv(ber.Sequence, p.bob.Cert.RawIssuer, tlv(ber.Integer, append(make([]byte, n-1), byte(p.bob.Cert.SerialNumber.Int64()))))
	}
	for name, c := range map[string]struct {
		rid  []byte
		kind string
	}{
		"serial number, padded":    {serial(64), "ktri"},
		"serial number of 65":      {serial(65), "unknown"},
		"serial number of nothing": {tlv(ber.Sequence, p.bob.Cert.RawIssuer, tlv(ber.Integer)), "unknown"},
		"negative serial number":   {tlv(ber.Sequence, p.bob.Cert.RawIssuer, encodeInt(-3)), "ktri"},
		"key identifier of 128":    {tlv(ber.Context(0, false), make([]byte, 128)), "ktri"},
		"key identifier of 129":    {tlv(ber.Context(0, false), make([]byte, 129)), "unknown"},
		"empty key identifier":     {tlv(ber.Context(0, false)), "unknown"},
		"identifier of no kind":    {tlv(ber.Context(1, false), []byte{1}), "unknown"},
	} {
		e := newEnvelope(t, p.bob, entity)
		e.rid = c.rid
		r := parseEnveloped(t, e.encode()).Recipients()[0]
		if r.Kind != c.kind {
			t.Errorf("%s: kind %s", name, r.Kind)
		}
		got, err := decrypt(t, e.encode(), decrypter(p.bob))
		if ours := name == "serial number, padded"; ours != (err == nil) || ours && !bytes.Equal(got, entity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnEmptyKeyIdentifierNamesNobody(t *testing.T) {
	p := newPeople(t)
	bare := p.bob
	cert := *bare.Cert
	cert.SubjectKeyId = nil // a certificate without the extension
	bare.Cert = &cert
	e := newEnvelope(t, p.bob, entity)
	e.rid = tlv(ber.Context(0, true)) // constructed of no segments
	if _, err := decrypt(t, e.encode(), decrypter(bare)); err != cms.ErrDecrypt {
		t.Error(err)
	}
}

// giant is an RSA key that nobody could use in reasonable time.
type giant struct{ crypto.Signer }

func (giant) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 8200)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

func (giant) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 1026), nil
}

func TestGiantRSAKeysAreRefused(t *testing.T) {
	p := newPeople(t)
	mallory := p.ca.Leaf("mallory", testpki.WithKey(giant{}))
	r := verifyOne(t, signedBy(t, forgedSigner{who: mallory, attributes: goodAttributes(entity)}), entity, cms.VerifyPolicy{})
	wantErr(t, r.Err, cms.ErrAlgorithm)
	wantErr(t, cms.Encrypt(io.Discard, bytes.NewReader(entity), []cms.Recipient{{Certificate: mallory.Cert}}, cms.AES128CBC), cms.ErrKey)
}

// TestMemoryFollowsTheMessage parses what would make a tree builder allocate a hundred times the input.
func TestMemoryFollowsTheMessage(t *testing.T) {
	p := newPeople(t)
	e := newEnvelope(t, p.bob, entity)
	for name, filler := range map[string][]byte{
		"nulls":   bytes.Repeat(null, 1<<19),
		"deep":    nested(2_000),
		"endless": endless(0x30, 20_000),
	} {
		in := forgedEnveloped{infos: [][]byte{e.info()}, algorithm: e.cipher, content: tlv(ber.Context(0, false), e.encrypted), tail: tlv(ber.Context(1, true), filler)}.encode()
		allocated := testing.AllocsPerRun(1, func() {
			_, _ = cms.ParseEnvelopedData(in, cms.Limits{})
		})
		if allocated > 200 {
			t.Errorf("%s: %v allocations for %d octets", name, allocated, len(in))
		}
	}
}
