package trust

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// row is one rule. The order of the table is the order in which reasons are given: what is wrong with the certificate itself before
// what is wrong above it, and revocation last, as it is asked only of certificates that are otherwise good.
type row struct {
	name     string
	level    string
	citation string
	kind     Kind // of the refusal if the row fails
	check    func(*view) (State, string)
}

// view is what a row may look at: one candidate and one of its paths.
type view struct {
	q      *Question
	index  int
	cert   *x509.Certificate // nil if it did not parse
	parsed string            // the parser's complaint
	search *search
	path   []*x509.Certificate // complete path, nil if there is none
}

const (
	must   = "MUST"
	may    = "MAY"
	policy = "POLICY"
)

// table is every rule there is. A new rule is a row here and a certificate in the tests that breaks just this row.
var table = []row{
	{"count", policy, "limit of candidates", Invalid, checkCount},
	{"parse", must, "RFC 5280 §4.1", Invalid, checkParse},
	{"validity", must, "AS 4.0 (1)", Invalid, checkValidity},
	{"binding", must, "AS 4.1", Invalid, checkBinding},
	{"key", policy, "AS 4.1.3; RSA of at least 2048 bits", Invalid, checkKey},
	{"key-usage", policy, "AS 4.1.3; RFC 5280 §4.2.1.3", Invalid, checkKeyUsage},
	{"extended-key-usage", may, "AS 4.1.3", Invalid, checkExtKeyUsage},
	{"signature-algorithm", must, "AS 4.0 (2)", Invalid, checkAlgorithm},
	{"signature", must, "AS 4.0 (2)", Invalid, checkSignatures},
	{"path", must, "AS 4.2.3", Untrusted, checkPath},
	{"path-validity", must, "AS 4.2.3 (3.1)", Invalid, checkPathValidity},
	{"path-keys", policy, "AS 4.1.3; RSA of at least 2048 bits", Untrusted, checkPathKeys},
	{"basic-constraints", must, "RFC 5280 §6.1.4 (k)", Untrusted, checkBasicConstraints},
	{"path-length", must, "RFC 5280 §6.1.4 (l, m)", Untrusted, checkPathLength},
	{"issuer-key-usage", must, "RFC 5280 §6.1.4 (n)", Untrusted, checkIssuerKeyUsage},
	{"name-constraints", must, "RFC 5280 §6.1.3 (b, c)", Untrusted, checkNameConstraints},
	{"policies", must, "RFC 5280 §6.1.5 (g)", Untrusted, checkPolicies},
	{"critical-extensions", must, "RFC 5280 §4.2", Untrusted, checkCritical},
	{"revocation", must, "AS 4.0 (3)", Revoked, checkRevocation},
}

// CheckNames lists the rows in the order in which they give reasons.
func CheckNames() []string {
	names := make([]string, len(table))
	for i, r := range table {
		names[i] = r.name
	}
	return names
}

// run applies the whole table. failure is the index of the first row that failed, len(table) if none did.
func run(v *view) (results []CheckResult, failure int) {
	failure = len(table)
	for i, r := range table {
		state, detail := Skipped, "the certificate was not read"
		if v.cert != nil || r.name == "parse" || r.name == "count" {
			state, detail = r.check(v)
		}
		detail = shorten(detail)
		results = append(results, CheckResult{Name: r.name, Level: r.level, Citation: r.citation, State: state, Detail: detail})
		if (state == Fail || state == Undetermined) && failure == len(table) {
			failure = i
		}
	}
	return results, failure
}

// shorten bounds a detail: most of it is what strangers wrote into certificates, and it goes to logs and reports.
func shorten(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	return strings.ToValidUTF8(s[:maxDetail], "") + "…"
}

func (v *view) parse(der []byte) {
	switch {
	case v.index >= maxCandidates:
		v.parsed = "not read"
	case len(der) > maxCertificate:
		v.parsed = fmt.Sprintf("%d octets, at most %d", len(der), maxCertificate)
	default:
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			v.parsed = err.Error()
			return
		}
		v.cert = cert
	}
}

func checkCount(v *view) (State, string) {
	if v.index >= maxCandidates {
		return Fail, fmt.Sprintf("certificate %d of one discovery; only the first %d are judged", v.index+1, maxCandidates)
	}
	return Pass, ""
}

func checkParse(v *view) (State, string) {
	if v.cert == nil {
		return Fail, v.parsed
	}
	return Pass, ""
}

func checkValidity(v *view) (State, string) { return valid(v.cert, v.q.At) }

// valid is RFC 5280 §4.1.2.5: both ends are inside.
func valid(c *x509.Certificate, at time.Time) (State, string) {
	switch {
	case at.Before(c.NotBefore):
		return Fail, "not valid before " + day(c.NotBefore)
	case at.After(c.NotAfter):
		return Fail, fmt.Sprintf("expired %s, %d days before", day(c.NotAfter), int(at.Sub(c.NotAfter).Hours()/24))
	}
	return Pass, day(c.NotBefore) + " to " + day(c.NotAfter)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func checkBinding(v *view) (State, string) {
	level, detail := boundTo(v.cert, v.q.Address)
	if level == "" {
		return Fail, detail
	}
	return Pass, detail
}

func (v *view) minRSABits() int {
	if v.q.Policy.MinRSABits > 0 {
		return v.q.Policy.MinRSABits
	}
	return 2048 // NIST SP 800-131A; practice of the network in both profiles
}

func checkKey(v *view) (State, string) {
	if _, ec := v.cert.PublicKey.(*ecdsa.PublicKey); ec && v.q.Purpose == Encrypt {
		// AS 2.7 knows key transport only, and an elliptic curve key cannot do it.
		return Fail, "an ECDSA key cannot be encrypted to"
	}
	return v.keyStrength(v.cert)
}

func (v *view) keyStrength(c *x509.Certificate) (State, string) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if bits < v.minRSABits() {
			return Fail, fmt.Sprintf("RSA key of %d bits, at least %d are wanted", bits, v.minRSABits())
		}
		if bits > maxRSABits {
			return Fail, fmt.Sprintf("RSA key of %d bits, at most %d", bits, maxRSABits)
		}
		// RFC 8017 §3.1: n is a product of odd primes and e is odd, 3 at least. More than 31 bits no RSA implementation here can use.
		if k.N.Bit(0) == 0 || k.E < 3 || k.E&1 == 0 || k.E > math.MaxInt32 {
			return Fail, fmt.Sprintf("RSA key with exponent %d and %s modulus, which is none", k.E, parity(k.N))
		}
		return Pass, fmt.Sprintf("RSA-%d", bits)
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return Fail, fmt.Sprintf("ECDSA key of %d bits, at least 256 are wanted", bits)
		}
		return Pass, "ECDSA " + k.Curve.Params().Name
	}
	return Fail, fmt.Sprintf("key algorithm %s is not supported", c.PublicKeyAlgorithm)
}

func parity(n *big.Int) string {
	if n.Bit(0) == 0 {
		return "even"
	}
	return "odd"
}

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
)

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) ([]byte, bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value, true
		}
	}
	return nil, false
}

// checkKeyUsage enforces what the certificate says about itself (AS 4.1.3 lets policy do so): the two halves of a single-use pair
// are told apart by nothing else. A certificate without the extension may be used for everything.
func checkKeyUsage(v *view) (State, string) {
	if _, present := extension(v.cert, oidKeyUsage); !present {
		return Pass, "no keyUsage: every use"
	}
	u := v.cert.KeyUsage
	switch {
	case v.q.Purpose == Encrypt && u&x509.KeyUsageKeyEncipherment == 0:
		return Fail, "keyUsage is " + usage(u) + ", without keyEncipherment"
	case v.q.Purpose == Verify && u&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return Fail, "keyUsage is " + usage(u) + ", without digitalSignature"
	case v.q.Purpose != Encrypt && v.q.Purpose != Verify:
		return Fail, "no purpose was asked for"
	}
	return Pass, usage(u)
}

func usage(u x509.KeyUsage) string {
	// In the order of the bits, RFC 5280 §4.2.1.3.
	names := []string{"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	var set []string
	for i, n := range names {
		if u&(1<<i) != 0 {
			set = append(set, n)
		}
	}
	if len(set) == 0 {
		return "empty"
	}
	return strings.Join(set, " ")
}

// checkExtKeyUsage reports and never fails: AS 4.1.3 says that an STA need not enforce it.
func checkExtKeyUsage(v *view) (State, string) {
	n := len(v.cert.ExtKeyUsage) + len(v.cert.UnknownExtKeyUsage)
	if n == 0 {
		return Pass, "no extKeyUsage"
	}
	for _, u := range v.cert.ExtKeyUsage {
		if u == x509.ExtKeyUsageEmailProtection {
			return Pass, "emailProtection"
		}
	}
	return Pass, "without emailProtection, which is not required"
}

// checkAlgorithm looks at every signature that the decision relies on: those of the path, less the anchor's own.
func checkAlgorithm(v *view) (State, string) {
	relied := []*x509.Certificate{v.cert}
	if len(v.path) > 2 {
		relied = v.path[:len(v.path)-1]
	}
	for _, c := range relied {
		if weak(c.SignatureAlgorithm) {
			return Fail, fmt.Sprintf("%s is signed with %s", label(c), c.SignatureAlgorithm)
		}
	}
	return Pass, v.cert.SignatureAlgorithm.String()
}

func weak(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return true
	}
	return false
}

func checkSignatures(v *view) (State, string) {
	switch {
	case len(v.path) == 1:
		return Pass, "the certificate is itself the trust anchor"
	case v.path != nil:
		return Pass, fmt.Sprintf("%d verified", len(v.path)-1)
	case v.search.forged:
		return Fail, v.search.incomplete
	case len(v.search.longest) > 1:
		return Pass, fmt.Sprintf("%d verified", len(v.search.longest)-1)
	}
	return Skipped, "the issuer's certificate is not known"
}

func checkPath(v *view) (State, string) {
	if v.path != nil {
		names := make([]string, len(v.path))
		for i, c := range v.path {
			names[i] = label(c)
		}
		return Pass, strings.Join(names, " → ")
	}
	if len(v.q.Anchors) == 0 {
		return Fail, "there are no trust anchors for this address; " + v.search.incomplete
	}
	// AS 4.2.3 steps 2 and 3.3: no chain, or a chain without an anchor.
	return Fail, v.search.incomplete
}

// above runs a check on every certificate above the leaf, the anchor included, or skips the row if there is no path.
func (v *view) above(check func(i int, c *x509.Certificate) string) (State, string) {
	if v.path == nil {
		return Skipped, "no path to a trust anchor"
	}
	for i, c := range v.path {
		if i == 0 {
			continue
		}
		if detail := check(i, c); detail != "" {
			return Fail, detail
		}
	}
	return Pass, ""
}

// checkPathValidity: AS 4.2.3 puts step 3.1 (is it invalid?) before step 3.2 (is it an anchor?), so an expired anchor trusts nobody.
func checkPathValidity(v *view) (State, string) {
	return v.above(func(_ int, c *x509.Certificate) string {
		if state, detail := valid(c, v.q.At); state != Pass {
			return label(c) + ": " + detail
		}
		return ""
	})
}

func checkPathKeys(v *view) (State, string) {
	return v.above(func(_ int, c *x509.Certificate) string {
		if state, detail := v.keyStrength(c); state != Pass {
			return label(c) + ": " + detail
		}
		return ""
	})
}

// checkBasicConstraints also holds anchors to it: a correspondent's self-signed certificate may be an anchor (AS 4.2.3), and must not
// thereby become an authority that vouches for others. An anchor of X.509 version 1 has no extensions; it was chosen by a person.
func checkBasicConstraints(v *view) (State, string) {
	return v.above(func(i int, c *x509.Certificate) string {
		if c.Version < 3 && i == len(v.path)-1 {
			return ""
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return label(c) + " is not a certification authority"
		}
		return ""
	})
}

func checkPathLength(v *view) (State, string) {
	below := 0 // intermediates between c and the leaf that are not self-issued
	return v.above(func(_ int, c *x509.Certificate) string {
		limit := c.MaxPathLen
		if limited := c.BasicConstraintsValid && (limit > 0 || limit == 0 && c.MaxPathLenZero); limited && below > limit {
			return fmt.Sprintf("%s allows %d authorities below itself, there are %d", label(c), limit, below)
		}
		if !selfIssued(c) {
			below++
		}
		return ""
	})
}

func checkIssuerKeyUsage(v *view) (State, string) {
	return v.above(func(_ int, c *x509.Certificate) string {
		if _, present := extension(c, oidKeyUsage); present && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return label(c) + " has keyUsage " + usage(c.KeyUsage) + ", without keyCertSign"
		}
		return ""
	})
}

// checkCritical: RFC 5280 §4.2: a certificate with a critical extension that is not understood is rejected. Name constraints
// are processed by a row of their own, also where the standard library knows only a part of them.
func checkCritical(v *view) (State, string) {
	chain := v.path
	if chain == nil {
		chain = []*x509.Certificate{v.cert}
	}
	for _, c := range chain {
		for _, oid := range c.UnhandledCriticalExtensions {
			if !oid.Equal(oidNameConstraints) {
				return Fail, fmt.Sprintf("%s has the critical extension %s, which is not understood", label(c), oid)
			}
		}
	}
	return Pass, ""
}

// checkRevocation keeps the place of AS 4.0 (3) and says so; it never passes for "not revoked".
func checkRevocation(*view) (State, string) {
	return Skipped, "revocation status is not evaluated in this version"
}
