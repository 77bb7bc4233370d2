package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"directnode/resolver/trust"
)

// pointName is DistributionPointName (RFC 5280 §4.2.1.13).
type pointName struct {
	Full     []asn1.RawValue `asn1:"optional,tag:0"`
	Relative asn1.RawValue   `asn1:"optional,tag:1"`
}

// point is DistributionPoint.
type point struct {
	Name    pointName      `asn1:"optional,tag:0"`
	Reasons asn1.BitString `asn1:"optional,tag:1"`
	Issuer  asn1.RawValue  `asn1:"optional,tag:2"`
}

// names gives the GeneralNames of a point; a relative name is completed by that of the issuer.
func (n pointName) names(issuer []byte) ([][]byte, error) {
	var out [][]byte
	for _, f := range n.Full {
		out = append(out, bytes.Clone(f.FullBytes))
	}
	if len(n.Relative.FullBytes) == 0 {
		return out, nil
	}
	var base asn1.RawValue
	if rest, err := asn1.Unmarshal(issuer, &base); err != nil || len(rest) > 0 {
		return nil, errors.New("the issuer's name does not parse")
	}
	rdn, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: n.Relative.Bytes})
	if err != nil {
		return nil, err
	}
	name, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(bytes.Clone(base.Bytes), rdn...)})
	if err != nil {
		return nil, err
	}
	general, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: directoryName, IsCompound: true, Bytes: name})
	return append(out, general), err
}

// directoryName is the number of this choice in GeneralName (RFC 5280 §4.2.1.6).
const directoryName = 4

// readScope reads issuingDistributionPoint (RFC 5280 §5.2.5).
func (c *CRL) readScope(value []byte) error {
	var p struct {
		Name      pointName      `asn1:"optional,tag:0"`
		User      bool           `asn1:"optional,tag:1"`
		CA        bool           `asn1:"optional,tag:2"`
		Reasons   asn1.BitString `asn1:"optional,tag:3"`
		Indirect  bool           `asn1:"optional,tag:4"`
		Attribute bool           `asn1:"optional,tag:5"`
	}
	if rest, err := asn1.Unmarshal(value, &p); err != nil || len(rest) > 0 {
		return errors.New("issuingDistributionPoint: it does not parse")
	}
	names, err := p.Name.names(c.issuer)
	if err != nil {
		return err
	}
	c.scope = scope{present: true, names: names, user: p.User, ca: p.CA, attribute: p.Attribute, someReasons: p.Reasons.BitLength > 0}
	if p.Indirect {
		c.fault("it is an indirect list (RFC 5280 §5.2.5), which is not supported")
	}
	return nil
}

// Covers says why the list does not speak about a certificate of its issuer (RFC 5280 §6.3.3 (b), (c)). partial tells that it speaks of
// some reasons only: an entry in it counts, and that there is none says nothing.
func (c *CRL) Covers(cert *x509.Certificate) (partial bool, err error) {
	if len(c.faults) > 0 {
		return false, errors.New("the list cannot be used: " + c.faults[0])
	}
	if !c.scope.present {
		return false, nil
	}
	ca := cert.BasicConstraintsValid && cert.IsCA
	switch {
	case c.scope.attribute:
		return false, errors.New("the list is one of attribute certificates")
	case c.scope.user && ca:
		return false, errors.New("the list is one of end entities, and the certificate is an authority's")
	case c.scope.ca && !ca:
		return false, errors.New("the list is one of authorities, and the certificate is none's")
	case len(c.scope.names) > 0 && !c.namesPoint(cert):
		return false, errors.New("the list is one of another distribution point than the certificate names")
	}
	return c.scope.someReasons, nil
}

// namesPoint is RFC 5280 §6.3.3 (b)(2)(i): one name of the list's point is one of a point of the certificate.
func (c *CRL) namesPoint(cert *x509.Certificate) bool {
	for _, p := range pointsOf(cert) {
		names, err := p.Name.names(cert.RawIssuer)
		if err != nil {
			continue
		}
		if len(names) == 0 && len(p.Issuer.FullBytes) > 0 {
			// §4.2.1.13: without a name of its own the point is where the issuer of the list is.
			var issuers []asn1.RawValue
			if _, err := asn1.UnmarshalWithParams(p.Issuer.FullBytes, &issuers, "tag:2"); err == nil {
				for _, i := range issuers {
					names = append(names, i.FullBytes)
				}
			}
		}
		for _, a := range names {
			for _, b := range c.scope.names {
				if sameGeneralName(a, b) {
					return true
				}
			}
		}
	}
	return false
}

// pointsOf gives the cRLDistributionPoints of a certificate.
func pointsOf(cert *x509.Certificate) []point {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidPoints) {
			continue
		}
		var list []point
		if rest, err := asn1.Unmarshal(e.Value, &list); err == nil && len(rest) == 0 {
			return list
		}
	}
	return nil
}

func sameGeneralName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y asn1.RawValue
	if _, err := asn1.Unmarshal(a, &x); err != nil {
		return false
	}
	if _, err := asn1.Unmarshal(b, &y); err != nil {
		return false
	}
	directory := func(v asn1.RawValue) bool { return v.Class == asn1.ClassContextSpecific && v.Tag == directoryName }
	return directory(x) && directory(y) && trust.SameName(x.Bytes, y.Bytes)
}

// nameText is a name as people read it.
func nameText(der []byte) string {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return "whose name does not parse"
	}
	var n pkix.Name
	n.FillFromRDNSequence(&seq)
	if s := n.String(); s != "" {
		return s
	}
	return "without a name"
}
