package cms

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"directnode/internal/ber"
)

// writeAttributes gives the content octets of the SET OF signed attributes, in DER order (RFC 5652 §5.3, §11). The caller
// tags them: SET to be hashed, [0] to be sent (RFC 5652 §5.4).
func writeAttributes(digest []byte, signingTime time.Time) ([]byte, error) {
	attributes := [][]byte{
		attribute(oidContentType, func(b *ber.Builder) { b.OID(oidData) }),
		attribute(oidMessageDigest, func(b *ber.Builder) { b.Bytes(ber.OctetString, digest) }),
		attribute(oidSMIMECapabilities, writeCapabilities),
	}
	if !signingTime.IsZero() {
		if y := signingTime.UTC().Year(); y < 1950 || y > 9999 {
			return nil, fmt.Errorf("%w: signing time in the year %d", ErrKey, y)
		}
		attributes = append(attributes, attribute(oidSigningTime, func(b *ber.Builder) { writeTime(b, signingTime) }))
	}
	return setOf(attributes), nil
}

func attribute(o oid, value func(*ber.Builder)) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.OID(o)
	b.Begin(ber.Set)
	value(&b)
	b.End()
	b.End()
	return b.Encoded()
}

// writeCapabilities announces what we decrypt, the strongest first (RFC 5751 §2.5.2; RFC 3565 §4.1: no parameters).
func writeCapabilities(b *ber.Builder) {
	b.Begin(ber.Sequence)
	writeAlgorithm(b, oidAES256CBC, nil)
	writeAlgorithm(b, oidAES128CBC, nil)
	b.End()
}

// writeTime writes UTCTime through 2049 and GeneralizedTime after it (RFC 5652 §11.3).
func writeTime(b *ber.Builder, t time.Time) {
	t = t.UTC()
	if t.Year() < 2050 {
		b.Text(ber.UTCTime, t.Format("060102150405Z"))
		return
	}
	b.Text(ber.GeneralizedTime, t.Format("20060102150405Z"))
}

// setOf joins encoded elements in the order of DER: ascending octet strings (X.690 §11.6). Equal elements are kept once.
func setOf(elements [][]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return bytes.Join(slices.CompactFunc(elements, bytes.Equal), nil)
}

// attributes are the signed attributes that we understand.
type attributes struct {
	contentType   oid
	messageDigest []byte
	signingTime   time.Time // zero when absent or unreadable: nothing is decided by it
	protected     *protection
}

// protection is the CMSAlgorithmProtection attribute (RFC 6211 §2).
type protection struct{ digest, signature algorithm }

// readAttributes reads the content octets of the signed attributes. The two that carry the proof must be there exactly
// once with exactly one value each (RFC 5652 §5.3, §11.1, §11.2), the signing time at most once (§11.3): a second one is
// how a forger shows each verifier what it wants to see.
func readAttributes(content []byte, l Limits) (attributes, error) {
	var a attributes
	seen := map[string]int{}
	r := ber.NewReader(content, l.ber(len(content)))
	for n := 0; !r.Empty(); n++ {
		if n == l.Attributes {
			return a, tooMany("signed attributes", l.Attributes)
		}
		in, err := r.Enter(ber.Sequence)
		if err != nil {
			return a, unread("signed attribute", err)
		}
		o, err := in.OID()
		if err != nil {
			return a, unread("signed attribute", err)
		}
		values, err := in.Enter(ber.Set)
		if err != nil {
			return a, unread("signed attribute "+o.String(), err)
		}
		seen[o.String()]++
		if err := a.take(o, values); err != nil {
			return a, err
		}
	}
	for _, must := range []struct {
		oid  oid
		name string
		min  int
	}{{oidContentType, "contentType", 1}, {oidMessageDigest, "messageDigest", 1}, {oidSigningTime, "signingTime", 0}, {oidAlgorithmProtection, "CMSAlgorithmProtection", 0}} {
		if n := seen[must.oid.String()]; n > 1 || n < must.min {
			return a, fmt.Errorf("%w: %s stands %d times", ErrAttributes, must.name, n)
		}
	}
	return a, nil
}

// take reads the values of one attribute.
func (a *attributes) take(o oid, values *ber.Reader) error {
	var name string
	var err error
	switch {
	case o.Equal(oidContentType):
		name = "contentType"
		a.contentType, err = values.OID()
	case o.Equal(oidMessageDigest):
		name = "messageDigest"
		a.messageDigest, err = values.OctetString(ber.OctetString)
	case o.Equal(oidSigningTime):
		name = "signingTime"
		a.signingTime, err = readTime(values)
	case o.Equal(oidAlgorithmProtection):
		name = "CMSAlgorithmProtection"
		a.protected, err = readProtection(values)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrAttributes, name, err)
	}
	if !values.Empty() {
		return fmt.Errorf("%w: %s has more than one value", ErrAttributes, name)
	}
	return nil
}

// readTime reads UTCTime or GeneralizedTime. A time that does not parse is taken as none.
func readTime(values *ber.Reader) (time.Time, error) {
	e, err := values.Next()
	if err != nil {
		return time.Time{}, err
	}
	var t time.Time
	if rest, err := asn1.Unmarshal(e.Raw, &t); err != nil || len(rest) != 0 {
		return time.Time{}, nil
	}
	return t.UTC(), nil
}

// readProtection reads SEQUENCE { digestAlgorithm, signatureAlgorithm [1] IMPLICIT } (RFC 6211 §2).
func readProtection(values *ber.Reader) (*protection, error) {
	in, err := values.Enter(ber.Sequence)
	if err != nil {
		return nil, err
	}
	var p protection
	if p.digest, err = readAlgorithm(in); err != nil {
		return nil, err
	}
	signature, err := in.Enter(ber.Context(1, true))
	if err != nil {
		return nil, err
	}
	p.signature.oid, err = signature.OID()
	return &p, err
}

// agree compares the attributes with the SignerInfo around them and with the digest of the content.
func (a attributes) agree(s *signerInfo, hash crypto.Hash, digest []byte) error {
	// RFC 5652 §11.1: the attribute equals eContentType, which is id-data (ParseSignedData saw to that).
	if !a.contentType.Equal(oidData) {
		return fmt.Errorf("%w: contentType is %s", ErrAttributes, a.contentType)
	}
	// RFC 6211 §3: the algorithms that were protected are those in use.
	if p := a.protected; p != nil && (!p.digest.oid.Equal(s.digest.oid) || !p.signature.oid.Equal(s.signature.oid)) {
		return fmt.Errorf("%w: CMSAlgorithmProtection names other algorithms", ErrAttributes)
	}
	// RFC 5652 §5.6: the digest computed by the recipient equals messageDigest.
	if !bytes.Equal(a.messageDigest, digest) {
		return fmt.Errorf("%w (%s)", ErrDigest, hash)
	}
	return nil
}
