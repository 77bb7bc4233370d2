package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"slices"
	"testing"

	"directnode/internal/ber"
	"directnode/internal/testpki"
)

// The builders here write what the package itself never would, signed with real keys.

type oid = asn1.ObjectIdentifier

var (
	oidData          = oid{1, 2, 840, 113549, 1, 7, 1}
	oidSigned        = oid{1, 2, 840, 113549, 1, 7, 2}
	oidEnveloped     = oid{1, 2, 840, 113549, 1, 7, 3}
	oidContentType   = oid{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = oid{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = oid{1, 2, 840, 113549, 1, 9, 5}
	oidProtection    = oid{1, 2, 840, 113549, 1, 9, 52}
	oidSHA1          = oid{1, 3, 14, 3, 2, 26}
	oidSHA256        = oid{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA512        = oid{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidRSA           = oid{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256RSA     = oid{1, 2, 840, 113549, 1, 1, 11}
	oidSHA512RSA     = oid{1, 2, 840, 113549, 1, 1, 13}
	oidOAEP          = oid{1, 2, 840, 113549, 1, 1, 7}
	oidPSS           = oid{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1          = oid{1, 2, 840, 113549, 1, 1, 8}
	oidAES128        = oid{2, 16, 840, 1, 101, 3, 4, 1, 2}
)

// build gives what f writes.
func build(f func(*ber.Builder)) []byte {
	var b ber.Builder
	f(&b)
	return b.Encoded()
}

// tlv wraps contents.
func tlv(t ber.Tag, contents ...[]byte) []byte {
	return ber.AppendTLV(nil, t, bytes.Join(contents, nil))
}

func encodeOID(o oid) []byte { return build(func(b *ber.Builder) { b.OID(o) }) }

func encodeInt(n int64) []byte { return build(func(b *ber.Builder) { b.Int(ber.Integer, n) }) }

func octets(b []byte) []byte { return tlv(ber.OctetString, b) }

var null = []byte{5, 0}

func algorithmID(o oid, params ...[]byte) []byte {
	return tlv(ber.Sequence, encodeOID(o), bytes.Join(params, nil))
}

func attribute(o oid, values ...[]byte) []byte {
	return tlv(ber.Sequence, encodeOID(o), tlv(ber.Set, values...))
}

func issuerAndSerial(p testpki.Pair) []byte {
	return tlv(ber.Sequence, p.Cert.RawIssuer, encodeInt(p.Cert.SerialNumber.Int64()))
}

func digest(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// contentType and messageDigest are the two attributes that must be there.
func contentType(o oid) []byte        { return attribute(oidContentType, encodeOID(o)) }
func messageDigest(sum []byte) []byte { return attribute(oidMessageDigest, octets(sum)) }
func goodAttributes(c []byte) [][]byte {
	return [][]byte{contentType(oidData), messageDigest(digest(crypto.SHA256, c))}
}

// forgedSigner is a SignerInfo whose every part can be chosen; zero parts are as they should be.
type forgedSigner struct {
	who        testpki.Pair
	sid        []byte
	digest     oid // SHA-256
	attributes [][]byte
	hash       crypto.Hash // that the signature really uses; SHA-256
	signature  []byte      // encoded signature algorithm; sha256WithRSAEncryption
	opts       crypto.SignerOpts
	over       []byte // what is signed when there are no attributes
	tail       []byte // unsigned attributes
}

func (f forgedSigner) encode(t testing.TB) []byte {
	t.Helper()
	if f.hash == 0 {
		f.hash = crypto.SHA256
	}
	if f.opts == nil {
		f.opts = f.hash
	}
	if f.sid == nil {
		f.sid = issuerAndSerial(f.who)
	}
	if f.digest == nil {
		f.digest = oidSHA256
	}
	if f.signature == nil {
		f.signature = algorithmID(oidSHA256RSA, null)
	}
	signed, sent := f.over, []byte(nil)
	if f.attributes != nil {
		signed, sent = tlv(ber.Set, f.attributes...), tlv(ber.Context(0, true), f.attributes...)
	}
	value, err := f.who.Key.Sign(rand.Reader, digest(f.hash, signed), f.opts)
	if err != nil {
		t.Fatal(err)
	}
	return tlv(ber.Sequence, encodeInt(1), f.sid, algorithmID(f.digest), sent, f.signature, octets(value), f.tail)
}

// forgedSigned is a SignedData.
type forgedSigned struct {
	typ      oid
	eContent []byte // encoded [0]; nil for detached
	certs    [][]byte
	crls     []byte // encoded [1]
	infos    [][]byte
}

func (f forgedSigned) encode() []byte {
	if f.typ == nil {
		f.typ = oidData
	}
	var certs []byte
	if f.certs != nil {
		certs = tlv(ber.Context(0, true), f.certs...)
	}
	return contentInfo(oidSigned, encodeInt(1), tlv(ber.Set, algorithmID(oidSHA256)),
		tlv(ber.Sequence, encodeOID(f.typ), f.eContent), certs, f.crls, tlv(ber.Set, f.infos...))
}

func contentInfo(o oid, fields ...[]byte) []byte {
	return tlv(ber.Sequence, encodeOID(o), tlv(ber.Context(0, true), tlv(ber.Sequence, fields...)))
}

// signedBy is a detached SignedData of one forged signer with its certificate.
func signedBy(t testing.TB, f forgedSigner) []byte {
	t.Helper()
	return forgedSigned{certs: [][]byte{f.who.DER}, infos: [][]byte{f.encode(t)}}.encode()
}

// forgedEnveloped is an EnvelopedData.
type forgedEnveloped struct {
	typ        oid
	originator []byte
	infos      [][]byte
	algorithm  []byte // encoded
	content    []byte // encoded [0]
	tail       []byte
}

func (f forgedEnveloped) encode() []byte {
	if f.typ == nil {
		f.typ = oidData
	}
	return contentInfo(oidEnveloped, encodeInt(2), f.originator, tlv(ber.Set, f.infos...),
		tlv(ber.Sequence, encodeOID(f.typ), f.algorithm, f.content), f.tail)
}

// toBER rewrites DER with indefinite lengths wherever an element is constructed, except below the given depth, and cuts the
// octet string under the primitive tag split into constructed segments.
func toBER(t testing.TB, der []byte, depth int, split byte) []byte {
	t.Helper()
	r := ber.NewReader(der, ber.Limits{Depth: 64, Count: 1 << 20, Size: 1 << 26})
	var out []byte
	for !r.Empty() {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case split != 0 && e.Raw[0] == split:
			out = append(out, split|0x20, 0x80)
			for segment := range slices.Chunk(e.Content, 7) {
				out = append(out, octets(segment)...)
			}
			out = append(out, 0, 0)
		case e.Tag.Constructed && depth > 0:
			out = append(out, e.Raw[0], 0x80)
			out = append(out, toBER(t, e.Content, depth-1, split)...)
			out = append(out, 0, 0)
		default:
			out = append(out, e.Raw...)
		}
	}
	return out
}
