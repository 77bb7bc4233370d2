package trust_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// TestNameConstraints holds RFC 5280 §4.2.1.10 against names that a Direct hierarchy carries.
func TestNameConstraints(t *testing.T) {
	org := pkix.Name{Organization: []string{"Clinic"}, CommonName: "bob"}
	for _, tc := range []struct {
		name  string
		limit testpki.Option
		leaf  []testpki.Option
		want  bool
	}{
		{"mailbox permitted", testpki.PermitEmail(bobAddress), nil, true},
		{"mailbox permitted in another case", testpki.PermitEmail("BOB@Direct.example.org"), nil, true},
		{"other mailbox permitted", testpki.PermitEmail("ann@direct.example.org"), nil, false},
		{"host permitted", testpki.PermitEmail("direct.example.org"), nil, true},
		{"host means the host exactly", testpki.PermitEmail("example.org"), nil, false},
		{"dot means hosts below", testpki.PermitEmail(".example.org"), nil, true},
		{"dot does not mean the host itself", testpki.PermitEmail(".direct.example.org"), nil, false},
		{"one of two permitted", testpki.PermitEmail("x.example", "direct.example.org"), nil, true},
		{"host excluded", testpki.ExcludeEmail("direct.example.org"), nil, false},
		{"parent host excluded", testpki.ExcludeEmail("example.org"), nil, true},
		{"hosts below excluded", testpki.ExcludeEmail(".example.org"), nil, false},
		{"every name must be permitted", testpki.PermitEmail("direct.example.org"), []testpki.Option{testpki.Address("eve@evil.example")}, false},
		{"mail constraint leaves domains alone", testpki.PermitEmail("direct.example.org"), []testpki.Option{testpki.Domain("evil.example")}, true},
		{"domain permitted", testpki.PermitDNS("direct.example.org"), []testpki.Option{testpki.Domain("direct.example.org")}, true},
		{"domain below permitted", testpki.PermitDNS("example.org"), []testpki.Option{testpki.Domain("direct.example.org")}, true},
		{"suffix is no label", testpki.PermitDNS("irect.example.org"), []testpki.Option{testpki.Domain("direct.example.org")}, false},
		{"domain excluded", testpki.ExcludeDNS("example.org"), []testpki.Option{testpki.Domain("direct.example.org")}, false},
		{"directory name permitted", directory(false, "Clinic"), []testpki.Option{testpki.Subject(org)}, true},
		{"directory name permitted in another case", directory(false, "CLINIC"), []testpki.Option{testpki.Subject(org)}, true},
		{"directory name outside", directory(false, "Hospital"), []testpki.Option{testpki.Subject(org)}, false},
		{"directory name excluded", directory(true, "Clinic"), []testpki.Option{testpki.Subject(org)}, false},
		{"network permitted", rawConstraint(7, []byte{192, 0, 2, 0, 255, 255, 255, 0}), []testpki.Option{otherName(7, []byte{192, 0, 2, 9})}, true},
		{"other network permitted", rawConstraint(7, []byte{192, 0, 2, 0, 255, 255, 255, 0}), []testpki.Option{otherName(7, []byte{198, 51, 100, 9})}, false},
		{"address of the other family", rawConstraint(7, []byte{192, 0, 2, 0, 255, 255, 255, 0}), []testpki.Option{otherName(7, make([]byte, 16))}, false},
		{"host of a URI permitted", rawConstraint(6, []byte("example.org")), []testpki.Option{otherName(6, []byte("https://example.org/x"))}, true},
		{"other host of a URI", rawConstraint(6, []byte("example.org")), []testpki.Option{otherName(6, []byte("https://x.example.org/x"))}, false},
		{"URI without a host", rawConstraint(6, []byte("example.org")), []testpki.Option{otherName(6, []byte("urn:x"))}, false},
		{"minimum is set", limited(0, 1), nil, false},
		{"maximum is set", limited(1, 5), nil, false},
		{"unknown kind that the leaf does not use", rawConstraint(8, []byte{0x2a, 3}), nil, true},
		{"unknown kind that the leaf uses", rawConstraint(8, []byte{0x2a, 3}), []testpki.Option{otherName(8, []byte{0x2a, 4})}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			ca := w.root.Intermediate("Limited CA", tc.limit)
			q := w.question(t, ca.Leaf("bob", append([]testpki.Option{testpki.Address(bobAddress)}, tc.leaf...)...))
			q.Intermediates = []*x509.Certificate{ca.Cert}
			c := trust.Evaluate(q).Candidates[0]
			if got := state(c, "name-constraints") == trust.Pass; got != tc.want {
				t.Errorf("allowed %v, want %v", got, tc.want)
			}
		})
	}
}

func mustMarshal(v any, params string) []byte {
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		panic(err)
	}
	return der
}

// constraint writes a nameConstraints extension with one subtree.
func constraint(excluded bool, base asn1.RawValue) testpki.Option {
	type subtree struct{ Base asn1.RawValue }
	tag := 0
	if excluded {
		tag = 1
	}
	list := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: mustMarshal(subtree{base}, "")}
	return testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 30}, true, mustMarshal(struct{ L asn1.RawValue }{list}, ""))
}

func directory(excluded bool, organization string) testpki.Option {
	name := mustMarshal(pkix.Name{Organization: []string{organization}}.ToRDNSequence(), "")
	return constraint(excluded, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name})
}

func rawConstraint(tag int, value []byte) testpki.Option {
	return constraint(false, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value})
}

// otherName writes a subjectAltName with Bob's address and one name of another kind.
func otherName(tag int, value []byte) testpki.Option {
	names := []asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(bobAddress)},
		{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value},
	}
	return testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 17}, false, mustMarshal(names, ""))
}

// limited permits Bob's host, with one of the distances (tag 0 minimum, tag 1 maximum) that nobody may use.
func limited(tag, distance int) testpki.Option {
	base := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte("direct.example.org")}
	number := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte{byte(distance)}}
	tree := mustMarshal(struct{ Base, Distance asn1.RawValue }{base, number}, "")
	list := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: tree}
	return testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 30}, true, mustMarshal(struct{ L asn1.RawValue }{list}, ""))
}
