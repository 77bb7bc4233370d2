package revocation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // the digests of signatures
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"directnode/resolver/trust"
)

// CRL is a revocation list (RFC 5280 §5) as far as it is needed to look certificates up: the entries as an index, and what is signed as
// its digest. It does not change, and holds nothing of the octets it was read from.
type CRL struct {
	ThisUpdate time.Time
	NextUpdate time.Time // zero if the list has none
	Number     *big.Int  // nil if the list has none
	Octets     int64     // of the list

	issuer    []byte // DER of the name
	scope     scope
	faults    []string // why the list cannot be used for any certificate
	how       signature
	digest    []byte
	signature []byte
	entries   index
}

// scope is the issuingDistributionPoint (RFC 5280 §5.2.5).
type scope struct {
	present             bool
	names               [][]byte // GeneralNames of the point; none = every point
	user, ca, attribute bool
	someReasons         bool
}

// Entry is one revoked certificate.
type Entry struct {
	At     time.Time
	Reason int // of RFC 5280 §5.3.1
}

// Entries is the number of entries.
func (c *CRL) Entries() int { return c.entries.count }

// memory is what the list takes.
func (c *CRL) memory() int {
	return c.entries.octets() + len(c.issuer) + len(c.digest) + len(c.signature) + 1024
}

// signature is a signature algorithm.
type signature struct {
	hash crypto.Hash
	pss  bool
	rsa  bool
	name string
}

var (
	oidDelta         = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidPoint         = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidNumber        = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason        = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidCertIssuer    = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidAuthorityKey  = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPSS           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	signatureSchemes = []struct {
		oid asn1.ObjectIdentifier
		how signature
	}{
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, signature{crypto.SHA1, false, true, "SHA1-RSA"}},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, signature{crypto.SHA1, false, false, "ECDSA-SHA1"}},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, signature{crypto.SHA256, false, true, "SHA256-RSA"}},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, signature{crypto.SHA384, false, true, "SHA384-RSA"}},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, signature{crypto.SHA512, false, true, "SHA512-RSA"}},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, signature{crypto.SHA256, false, false, "ECDSA-SHA256"}},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, signature{crypto.SHA384, false, false, "ECDSA-SHA384"}},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, signature{crypto.SHA512, false, false, "ECDSA-SHA512"}},
	}
)

// ReadCRL reads a list, DER or PEM, to its end. It takes as much memory as the entries need and a window besides, never the list. That
// it could be read says nothing: Issued checks the signature, Covers the scope.
func ReadCRL(r io.Reader) (*CRL, error) {
	c, err := readCRL(newSource(unarmored(r)))
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	return c, nil
}

func readCRL(s *source) (*CRL, error) {
	all, err := s.open(tagSequence, "CertificateList")
	if err != nil {
		return nil, err
	}
	end := s.place() + int64(all)
	c := &CRL{}
	s.begin()
	size, err := s.open(tagSequence, "tbsCertList")
	if err != nil {
		return nil, err
	}
	tbsEnd := s.place() + int64(size)
	if tbsEnd > end {
		return nil, errShort
	}
	algorithm, err := c.readHead(s)
	if err != nil {
		return nil, err
	}
	if err := c.readRest(s, tbsEnd); err != nil {
		return nil, err
	}
	if s.place() != tbsEnd {
		return nil, errors.New("tbsCertList has fields that no list has")
	}
	s.end()
	c.digest = s.sum.Sum(nil)
	outer, _, err := s.whole(maxHead, "signatureAlgorithm")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(outer, algorithm) { // RFC 5280 §5.1.1.2
		return nil, errors.New("the signature algorithm outside is not the one that is signed")
	}
	raw, _, err := s.whole(maxHead, "signatureValue")
	if err != nil {
		return nil, err
	}
	var bits asn1.BitString
	if rest, err := asn1.Unmarshal(raw, &bits); err != nil || len(rest) > 0 || bits.BitLength%8 != 0 {
		return nil, errors.New("signatureValue: no signature")
	}
	c.signature = bytes.Clone(bits.Bytes)
	if s.place() != end {
		return nil, errors.New("something stands behind the signature")
	}
	if _, err := s.need(1); !errors.Is(err, errShort) {
		return nil, errors.New("something follows the list")
	}
	c.Octets = s.taken
	return c, nil
}

const (
	tagInteger         = 0x02
	tagSequence        = 0x30
	tagExtensions      = 0xa0
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
)

// readHead reads version, algorithm, issuer and times.
func (c *CRL) readHead(s *source) (algorithm []byte, err error) {
	h, err := s.peek()
	if err != nil {
		return nil, err
	}
	if h.tag == tagInteger { // absent in version 1, which has no extensions and is otherwise the same
		v, _, err := s.whole(16, "version")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(v, []byte{tagInteger, 1, 1}) {
			return nil, errors.New("version: neither 1 nor 2")
		}
	}
	raw, _, err := s.whole(1<<10, "signature algorithm")
	if err != nil {
		return nil, err
	}
	algorithm = bytes.Clone(raw)
	if c.how, err = parseSignature(algorithm); err != nil {
		return nil, err
	}
	s.use(c.how.hash.New())
	raw, h, err = s.whole(maxHead, "issuer")
	if err != nil {
		return nil, err
	}
	if h.tag != tagSequence {
		return nil, errors.New("issuer: no name")
	}
	c.issuer = bytes.Clone(raw)
	if c.ThisUpdate, err = readTime(s, "thisUpdate"); err != nil {
		return nil, err
	}
	if h, err = s.peek(); err == nil && (h.tag == tagUTCTime || h.tag == tagGeneralizedTime) {
		if c.NextUpdate, err = readTime(s, "nextUpdate"); err != nil {
			return nil, err
		}
	}
	return algorithm, nil
}

// readRest reads entries and extensions, both of which may be absent.
func (c *CRL) readRest(s *source, end int64) error {
	if s.place() < end {
		h, err := s.peek()
		if err != nil {
			return err
		}
		if h.tag == tagSequence {
			if err := c.readEntries(s, end); err != nil {
				return err
			}
		}
	}
	if s.place() >= end {
		return nil
	}
	raw, h, err := s.whole(maxExtensions, "crlExtensions")
	if err != nil {
		return err
	}
	if h.tag != tagExtensions {
		return errors.New("tbsCertList has a field that no list has")
	}
	var extensions []extension
	if rest, err := asn1.Unmarshal(raw[h.size:], &extensions); err != nil || len(rest) > 0 {
		return errors.New("crlExtensions: they do not parse")
	}
	for _, e := range extensions {
		if err := c.extension(e); err != nil {
			return err
		}
	}
	return nil
}

type extension struct {
	ID       asn1.ObjectIdentifier
	Critical bool `asn1:"optional"`
	Value    []byte
}

// extension takes one extension of the list. What makes the list unfit for every certificate is kept by name (RFC 5280 §5.2: a list
// with a critical extension that is not understood must not be used to say anything).
func (c *CRL) extension(e extension) error {
	switch {
	case e.ID.Equal(oidNumber):
		n := new(big.Int)
		if rest, err := asn1.Unmarshal(e.Value, &n); err != nil || len(rest) > 0 {
			return errors.New("cRLNumber: no number")
		}
		c.Number = n
	case e.ID.Equal(oidDelta):
		c.faults = append(c.faults, "it is a delta list (RFC 5280 §5.2.4), which is not supported")
	case e.ID.Equal(oidPoint):
		return c.readScope(e.Value)
	case e.ID.Equal(oidAuthorityKey):
		// Key identifiers order work and decide nothing; the signature does.
	case e.Critical:
		c.faults = append(c.faults, fmt.Sprintf("it has the critical extension %s, which is not understood", e.ID))
	}
	return nil
}

// readEntries streams revokedCertificates (RFC 5280 §5.1.2.6).
func (c *CRL) readEntries(s *source, limit int64) error {
	size, err := s.open(tagSequence, "revokedCertificates")
	if err != nil {
		return err
	}
	end := s.place() + int64(size)
	if end > limit {
		return errors.New("revokedCertificates: longer than the list")
	}
	c.entries = newIndex(size)
	for s.place() < end {
		raw, h, err := s.whole(maxEntry, "an entry")
		if err != nil {
			return err
		}
		if h.tag != tagSequence || s.place() > end {
			return errors.New("an entry: no entry")
		}
		if err := c.entry(raw[h.size:]); err != nil {
			return fmt.Errorf("entry %d: %w", c.entries.count+1, err)
		}
	}
	return nil
}

// entry takes one entry, without an allocation where it is as usual.
func (c *CRL) entry(b []byte) error {
	serial, b, ok := element(b, tagInteger)
	if !ok || len(serial) == 0 || len(serial) > maxSerial {
		return errors.New("no serial number")
	}
	at, b, err := entryTime(b)
	if err != nil {
		return err
	}
	reason := 0
	if len(b) > 0 {
		if reason, err = c.entryExtensions(b); err != nil {
			return err
		}
	}
	// RFC 5280 §5.3.1: removeFromCRL stands in delta lists only; a full list has no entry for what is not revoked.
	c.entries.add(minimal(serial), at, byte(reason))
	return nil
}

// element cuts an element with a length of one or two octets.
func element(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, b, false
	}
	n, at := int(b[1]), 2
	if n == 0x81 && len(b) > 2 {
		n, at = int(b[2]), 3
	} else if n >= 0x80 {
		return nil, b, false
	}
	if len(b) < at+n {
		return nil, b, false
	}
	return b[at : at+n], b[at+n:], true
}

// minimal takes superfluous leading octets off an INTEGER, which some issuers write.
func minimal(serial []byte) []byte {
	for len(serial) > 1 && (serial[0] == 0 && serial[1] < 0x80 || serial[0] == 0xff && serial[1] >= 0x80) {
		serial = serial[1:]
	}
	return serial
}

// serialOf is a serial number as the content of an INTEGER, nil if it is longer than any that is kept. buf may lend its memory.
func serialOf(n *big.Int, buf []byte) []byte {
	if n.Sign() < 0 { // RFC 5280 §4.1.2.2 forbids it
		der, err := asn1.Marshal(n)
		if err != nil || len(der) > 2+maxSerial {
			return nil
		}
		return der[2:]
	}
	size := n.BitLen()/8 + 1 // room for a bit of sign
	if size > maxSerial {
		return nil
	}
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	return n.FillBytes(buf[:size])
}

// entryTime reads revocationDate.
func entryTime(b []byte) (time.Time, []byte, error) {
	if content, rest, ok := element(b, tagUTCTime); ok && len(content) == 13 && content[12] == 'Z' {
		var f [6]int
		digits := true
		for i := range f {
			hi, lo := content[2*i]-'0', content[2*i+1]-'0'
			digits = digits && hi <= 9 && lo <= 9
			f[i] = int(hi)*10 + int(lo)
		}
		if digits && f[1] >= 1 && f[1] <= 12 && f[2] >= 1 && f[2] <= 31 {
			year := 2000 + f[0]
			if f[0] >= 50 { // RFC 5280 §4.1.2.5.1
				year = 1900 + f[0]
			}
			return time.Date(year, time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC), rest, nil
		}
	}
	var at time.Time
	rest, err := asn1.Unmarshal(b, &at)
	if err != nil {
		return at, b, errors.New("no revocation date")
	}
	return at, rest, nil
}

// entryExtensions gives the reason code of an entry.
func (c *CRL) entryExtensions(b []byte) (reason int, err error) {
	// As nearly every entry has it: SEQUENCE { SEQUENCE { reasonCode, OCTET STRING { ENUMERATED } } }.
	usual := []byte{0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01}
	if len(b) == len(usual)+1 && bytes.HasPrefix(b, usual) {
		return int(b[len(usual)]), nil
	}
	var list []extension
	if rest, err := asn1.Unmarshal(b, &list); err != nil || len(rest) > 0 {
		return 0, errors.New("its extensions do not parse")
	}
	for _, e := range list {
		switch {
		case e.ID.Equal(oidReason):
			var code asn1.Enumerated
			if rest, err := asn1.Unmarshal(e.Value, &code); err != nil || len(rest) > 0 || code < 0 || code > 10 {
				return 0, errors.New("no reason code")
			}
			reason = int(code)
		case e.ID.Equal(oidCertIssuer):
			c.fault("it speaks for other issuers (an indirect list, RFC 5280 §5.3.3), which is not supported")
		case e.Critical:
			// RFC 5280 §5.3: such a list must not be used to determine the status of any certificate.
			c.fault(fmt.Sprintf("an entry has the critical extension %s, which is not understood", e.ID))
		}
	}
	return reason, nil
}

// fault keeps a reason once: a million entries may have it.
func (c *CRL) fault(text string) {
	for _, have := range c.faults {
		if have == text {
			return
		}
	}
	if len(c.faults) < 4 {
		c.faults = append(c.faults, text)
	}
}

func readTime(s *source, what string) (time.Time, error) {
	raw, h, err := s.whole(64, what)
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	if h.tag != tagUTCTime && h.tag != tagGeneralizedTime {
		return at, fmt.Errorf("%s: no time", what)
	}
	if rest, err := asn1.Unmarshal(raw, &at); err != nil || len(rest) > 0 {
		return at, fmt.Errorf("%s: no time", what)
	}
	return at, nil
}

// parseSignature reads an AlgorithmIdentifier. MD5 is not among those that are known. A list signed with SHA-1 is read, and Issued refuses it.
func parseSignature(raw []byte) (signature, error) {
	var a struct {
		ID     asn1.ObjectIdentifier
		Params asn1.RawValue `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(raw, &a); err != nil || len(rest) > 0 {
		return signature{}, errors.New("signature algorithm: it does not parse")
	}
	for _, k := range signatureSchemes {
		if k.oid.Equal(a.ID) {
			return k.how, nil
		}
	}
	if a.ID.Equal(oidPSS) {
		return parsePSS(a.Params.FullBytes)
	}
	return signature{}, fmt.Errorf("it is signed with the algorithm %s, which is not taken", a.ID)
}

// parsePSS takes the parameters that RFC 4055 §3.1 recommends: one hash for both, a salt of its length.
func parsePSS(raw []byte) (signature, error) {
	type algorithm struct {
		ID     asn1.ObjectIdentifier
		Params asn1.RawValue `asn1:"optional"`
	}
	var p struct {
		Hash    algorithm `asn1:"explicit,tag:0"`
		MGF     algorithm `asn1:"explicit,tag:1"`
		Salt    int       `asn1:"explicit,tag:2"`
		Trailer int       `asn1:"optional,explicit,tag:3,default:1"`
	}
	var inner algorithm
	if rest, err := asn1.Unmarshal(raw, &p); err != nil || len(rest) > 0 {
		return signature{}, errors.New("signature algorithm: RSA-PSS without parameters that are taken")
	}
	if rest, err := asn1.Unmarshal(p.MGF.Params.FullBytes, &inner); err != nil || len(rest) > 0 || !p.MGF.ID.Equal(oidMGF1) || !inner.ID.Equal(p.Hash.ID) || p.Trailer != 1 {
		return signature{}, errors.New("signature algorithm: RSA-PSS with parameters that are not taken")
	}
	for _, k := range []struct {
		oid  asn1.ObjectIdentifier
		hash crypto.Hash
	}{{oidSHA256, crypto.SHA256}, {oidSHA384, crypto.SHA384}, {oidSHA512, crypto.SHA512}} {
		if k.oid.Equal(p.Hash.ID) && p.Salt == k.hash.Size() {
			return signature{k.hash, true, true, k.hash.String() + "-RSAPSS"}, nil
		}
	}
	return signature{}, errors.New("signature algorithm: RSA-PSS with parameters that are not taken")
}

// Issued says why the list is not one of this issuer: another name, a key that must not sign lists, another key (RFC 5280 §6.3.3 (f),
// (g)). nil means that the holder of the issuer's key signed it.
func (c *CRL) Issued(issuer *x509.Certificate) error {
	if c.how.hash == crypto.SHA1 {
		// Like certificates: two lists with one digest can be made, and an authority that signs what it is told signs the other one too.
		return fmt.Errorf("the list is signed with %s, which is not taken", c.how.name)
	}
	return c.signedBy(issuer)
}

// signedBy is Issued whatever the digest.
func (c *CRL) signedBy(issuer *x509.Certificate) error {
	if !trust.SameName(c.issuer, issuer.RawSubject) {
		return fmt.Errorf("the list is one of another issuer, %s", nameText(c.issuer))
	}
	for _, e := range issuer.Extensions {
		if e.Id.Equal(oidKeyUsage) && issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
			return errors.New("the issuer's certificate has a keyUsage without cRLSign")
		}
	}
	ok := false
	switch k := issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		switch {
		case !c.how.rsa || k.N.BitLen() > maxRSABits:
		case c.how.pss:
			ok = rsa.VerifyPSS(k, c.how.hash, c.digest, c.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		default:
			ok = rsa.VerifyPKCS1v15(k, c.how.hash, c.digest, c.signature) == nil
		}
	case *ecdsa.PublicKey:
		ok = !c.how.rsa && ecdsa.VerifyASN1(k, c.digest, c.signature)
	}
	if !ok {
		return errors.New("the signature of the list is not one of the issuer's key")
	}
	return nil
}

// maxRSABits is that of resolver/trust: it bounds the cost of one verification.
const maxRSABits = 8192

// Find looks a certificate of the list's issuer up by its serial number.
func (c *CRL) Find(serial *big.Int) (Entry, bool) {
	var buf [maxSerial]byte
	at, reason, found := c.entries.find(serialOf(serial, buf[:]))
	return Entry{at, int(reason)}, found
}

// Current says why the list does not speak about a moment that is the present.
func (c *CRL) Current(at time.Time) error { return c.speaks(at, at) }

// speaks is Current for a moment that may be past: a list that was made since speaks about it too.
func (c *CRL) speaks(at, now time.Time) error {
	switch {
	case c.ThisUpdate.After(now.Add(skew)):
		return fmt.Errorf("the list is of %s, which is yet to come", stamp(c.ThisUpdate))
	case at.After(c.until()):
		return fmt.Errorf("the list expired %s", stamp(c.until()))
	}
	return nil
}

// until is when the list stops speaking.
func (c *CRL) until() time.Time {
	if c.NextUpdate.IsZero() {
		return c.ThisUpdate.Add(openList)
	}
	return c.NextUpdate
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
