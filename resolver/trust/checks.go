package trust

import (
	"context"
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
//
// A row has check, or above, or both. check looks at the whole. above looks at one certificate and at the path that it would be put
// on top of, and gives the reason why not: the search for paths (chain.go) does not climb where it gives one, and the table, without
// a check of the row's own, applies it to every certificate above the leaf.
type row struct {
	name     string
	level    string
	citation string
	kind     Kind // of the refusal if the row fails
	unclear  Kind // of the refusal if it could not be answered
	check    func(*view) (State, string)
	above    func(v *view, below []*node, up *node) string
	local    bool // above looks at up and at the certificate right below it, and at nothing else
}

// view is what a row may look at: one candidate and one of its paths.
type view struct {
	ctx    context.Context
	q      *Question
	pool   *pool
	index  int
	cert   *x509.Certificate // nil if it did not parse
	parsed string            // the parser's complaint
	search *search
	path   []*node // complete path, nil if there is none

	statuses    []CertificateStatus // asked for this path
	tolerated   bool                // the policy lets the undetermined status of this path pass
	final       bool                // the undetermined status of this path stays so
	comparisons int                 // pairs of names and name constraints compared for this candidate
	result      Candidate
}

const (
	must   = "MUST"
	may    = "MAY"
	policy = "POLICY"
)

// The citations of the two rows that the search for paths gives reasons by.
const (
	citeSignature = "AS 4.0 (2)"
	citePath      = "AS 4.2.3"
)

// table is every rule there is. A new rule is a row here and a certificate in the tests that breaks just this row.
var table = []row{
	{name: "count", level: policy, citation: "limit of candidates", kind: Invalid, check: checkCount},
	{name: "parse", level: must, citation: "RFC 5280 §4.1", kind: Invalid, check: checkParse},
	{name: "validity", level: must, citation: "AS 4.0 (1)", kind: Invalid, check: checkValidity},
	{name: "binding", level: must, citation: "AS 4.1", kind: Invalid, check: checkBinding},
	{name: "key", level: policy, citation: "AS 4.1.3; RSA of at least 2048 bits", kind: Invalid, check: checkKey},
	{name: "key-usage", level: policy, citation: "AS 4.1.3; RFC 5280 §4.2.1.3", kind: Invalid, check: checkKeyUsage},
	{name: "extended-key-usage", level: may, citation: "AS 4.1.3", kind: Invalid, check: checkExtKeyUsage},
	{name: "profile", level: must, citation: "ANSI/DS 2019-01-100-2021 §1.4", kind: Invalid, check: checkProfile},
	{name: "signature-algorithm", level: must, citation: citeSignature, kind: Invalid, check: checkAlgorithm, above: aboveAlgorithm, local: true},
	{name: "signature", level: must, citation: citeSignature, kind: Invalid, check: checkSignatures},
	{name: "path", level: must, citation: citePath, kind: Untrusted, unclear: TemporaryFault, check: checkPath},
	{name: "path-validity", level: must, citation: "AS 4.2.3 (3.1)", kind: Invalid, above: aboveValidity, local: true},
	{name: "path-keys", level: policy, citation: "AS 4.1.3; RSA of at least 2048 bits", kind: Untrusted, above: aboveKey, local: true},
	{name: "basic-constraints", level: must, citation: "RFC 5280 §6.1.4 (k)", kind: Untrusted, above: aboveBasicConstraints, local: true},
	{name: "path-length", level: must, citation: "RFC 5280 §6.1.4 (l, m)", kind: Untrusted, above: abovePathLength},
	{name: "issuer-key-usage", level: must, citation: "RFC 5280 §6.1.4 (n)", kind: Untrusted, above: aboveKeyUsage, local: true},
	{name: "name-constraints", level: must, citation: "RFC 5280 §6.1.3 (b, c)", kind: Untrusted, above: aboveNameConstraints},
	{name: "policies", level: must, citation: "RFC 5280 §6.1.5 (g)", kind: Untrusted, check: checkPolicies},
	{name: "critical-extensions", level: must, citation: "RFC 5280 §4.2", kind: Untrusted, check: checkCritical, above: aboveCritical, local: true},
	{name: "revocation", level: must, citation: "AS 4.0 (3)", kind: Revoked, unclear: Unknown, check: checkRevocation},
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
		state, detail := v.apply(r, failure == len(table))
		results = append(results, CheckResult{Name: r.name, Level: r.level, Citation: r.citation, State: state, Detail: shorten(detail)})
		if failure == len(table) && (state == Fail || state == Undetermined && !v.tolerated) {
			failure = i
		}
	}
	return results, failure
}

// apply gives the result of one row. good tells that no row before it failed.
func (v *view) apply(r row, good bool) (State, string) {
	switch {
	case v.cert == nil && r.name != "parse" && r.name != "count":
		return Skipped, "the certificate was not read"
	case r.name == "revocation" && !good:
		// Nobody is asked on behalf of a certificate that is refused anyway: the places to ask are of its own choosing.
		return Skipped, "not asked: the certificate is refused for another reason"
	case r.check != nil:
		return r.check(v)
	case v.path == nil:
		return Skipped, "no path to a trust anchor"
	}
	for i := 1; i < len(v.path); i++ {
		if detail := r.above(v, v.path[:i], v.path[i]); detail != "" {
			return Fail, detail
		}
	}
	return Pass, ""
}

// worthFetching tells whether more certificates might make this candidate usable: not if something is wrong with the candidate
// itself, and not if a path was refused for its revocation status alone.
func (v *view) worthFetching() bool {
	for _, check := range []func(*view) (State, string){checkCount, checkParse, checkValidity, checkBinding, checkKey, checkKeyUsage, checkProfile} {
		if state, _ := check(v); state == Fail {
			return false
		}
	}
	return !weak(v.cert.SignatureAlgorithm) && unknownCritical(v.cert) == "" && len(v.result.Statuses) == 0
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
	if weak(v.cert.SignatureAlgorithm) {
		return Fail, weakSignature(v.cert)
	}
	for i := 1; i < len(v.path); i++ {
		if detail := aboveAlgorithm(v, v.path[:i], v.path[i]); detail != "" {
			return Fail, detail
		}
	}
	return Pass, v.cert.SignatureAlgorithm.String()
}

// aboveAlgorithm looks at what up has signed.
func aboveAlgorithm(_ *view, below []*node, _ *node) string {
	if c := below[len(below)-1].cert; weak(c.SignatureAlgorithm) {
		return weakSignature(c)
	}
	return ""
}

func weakSignature(c *x509.Certificate) string {
	return fmt.Sprintf("%s is signed with %s", label(c), c.SignatureAlgorithm)
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
		for i, n := range v.path {
			names[i] = label(n.cert)
		}
		return Pass, strings.Join(names, " → ")
	}
	if len(v.q.Anchors) == 0 {
		return Fail, "there are no trust anchors for this address; " + v.search.incomplete
	}
	if v.search.failed != "" && !v.search.forged {
		return Undetermined, v.search.incomplete
	}
	// AS 4.2.3 steps 2 and 3.3: no chain, or a chain without an anchor.
	return Fail, v.search.incomplete
}

// aboveValidity: AS 4.2.3 puts step 3.1 (is it invalid?) before step 3.2 (is it an anchor?), so an expired anchor trusts nobody.
func aboveValidity(v *view, _ []*node, up *node) string {
	if state, detail := valid(up.cert, v.q.At); state != Pass {
		return label(up.cert) + ": " + detail
	}
	return ""
}

func aboveKey(v *view, _ []*node, up *node) string {
	if state, detail := v.keyStrength(up.cert); state != Pass {
		return label(up.cert) + ": " + detail
	}
	return ""
}

// aboveBasicConstraints also holds anchors to it: a correspondent's self-signed certificate may be an anchor (AS 4.2.3), and must not
// thereby become an authority that vouches for others. An anchor of X.509 version 1 has no extensions; it was chosen by a person.
func aboveBasicConstraints(_ *view, _ []*node, up *node) string {
	if up.anchor && up.cert.Version < 3 {
		return ""
	}
	if !up.cert.BasicConstraintsValid || !up.cert.IsCA {
		return label(up.cert) + " is not a certification authority"
	}
	return ""
}

func abovePathLength(_ *view, below []*node, up *node) string {
	limit := up.cert.MaxPathLen
	if limited := up.cert.BasicConstraintsValid && (limit > 0 || limit == 0 && up.cert.MaxPathLenZero); !limited {
		return ""
	}
	between := 0 // authorities between up and the leaf that are not self-issued
	for _, n := range below[1:] {
		if !n.selfIssued() {
			between++
		}
	}
	if between > limit {
		return fmt.Sprintf("%s allows %d authorities below itself, there are %d", label(up.cert), limit, between)
	}
	return ""
}

func aboveKeyUsage(_ *view, _ []*node, up *node) string {
	if _, present := extension(up.cert, oidKeyUsage); present && up.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return label(up.cert) + " has keyUsage " + usage(up.cert.KeyUsage) + ", without keyCertSign"
	}
	return ""
}

// checkCritical: RFC 5280 §4.2: a certificate with a critical extension that is not understood is rejected.
func checkCritical(v *view) (State, string) {
	if detail := unknownCritical(v.cert); detail != "" {
		return Fail, detail
	}
	for _, n := range v.path {
		if detail := unknownCritical(n.cert); detail != "" {
			return Fail, detail
		}
	}
	return Pass, ""
}

func aboveCritical(_ *view, _ []*node, up *node) string { return unknownCritical(up.cert) }

// unknownCritical passes over two extensions of which the standard library knows only a part: name constraints and alternative names
// of every kind are read by the row of the name constraints, and the binding looks at the kinds that bind.
func unknownCritical(c *x509.Certificate) string {
	for _, oid := range c.UnhandledCriticalExtensions {
		if !oid.Equal(oidNameConstraints) && !oid.Equal(oidSubjectAltName) {
			return fmt.Sprintf("%s has the critical extension %s, which is not understood", label(c), oid)
		}
	}
	return ""
}

// checkProfile holds what as-1.3 asks of a certificate beyond as-1.2: no legacy emailAddress in the subject, no wildcard among the
// dNSNames, and a place where its revocation can be learned.
func checkProfile(v *view) (State, string) {
	if v.q.Policy.Profile != AS13 {
		return Pass, "" // as-1.2 asks for nothing beyond the other rows
	}
	for _, atv := range v.cert.Subject.Names {
		if atv.Type.Equal(oidEmailAddress) {
			return Fail, "the subject holds an emailAddress"
		}
	}
	for _, name := range v.cert.DNSNames {
		if strings.Contains(name, "*") {
			return Fail, fmt.Sprintf("dNSName %q is a wildcard", name)
		}
	}
	known := v.pool.known[string(v.cert.Raw)]
	if itself := known != nil && known.anchor; !itself && len(v.cert.CRLDistributionPoints) == 0 {
		return Fail, "it names no CRL distribution point"
	}
	return Pass, AS13
}
