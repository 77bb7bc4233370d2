package dit

// Attr names an attribute type that this directory knows.
type Attr uint8

// The attribute types. Those up to Organization are user attributes; the rest
// are operational and stand in the root DSE and the subschema only.
const (
	ObjectClass Attr = iota
	CommonName
	Surname
	UserID
	Mail
	UserCertificate
	DomainComponent
	Organization
	NamingContexts
	SubschemaSubentry
	SupportedLDAPVersion
	SupportedControl
	SupportedExtension
	SupportedFeatures
	VendorName
	VendorVersion
	LDAPSyntaxes
	MatchingRules
	AttributeTypes
	ObjectClasses
	attrCount
)

// Mask is a set of attribute types.
type Mask uint32

const (
	userAttributes        = 1<<(Organization+1) - 1
	operationalAttributes = 1<<attrCount - 1 - userAttributes
)

// Has tells whether a is in the set.
func (m Mask) Has(a Attr) bool { return m>>a&1 != 0 }

func bit(a Attr) Mask { return 1 << a }

// rule is the family of matching rules of an attribute type: how its values
// compare.
type rule uint8

const (
	caseIgnore    rule = iota // caseIgnoreMatch, caseIgnoreSubstringsMatch
	caseExact                 // caseExactMatch
	caseIgnoreIA5             // caseIgnoreIA5Match, caseIgnoreIA5SubstringsMatch
	objectID                  // objectIdentifierMatch
	distinguished             // distinguishedNameMatch
	integer                   // integerMatch
	unmatched                 // no equality rule that we evaluate
)

// attributeRow is one attribute type.
type attributeRow struct {
	attr       Attr
	oid        string
	names      []string // the first one is what answers carry
	rule       rule
	definition string // RFC 4512 §4.1.2, without the OID
}

// attributeTable is the whole schema of attributes: RFC 4519 (cn, sn, uid, o,
// dc), RFC 4524 §2.16 (mail), RFC 4523 §4.1 (userCertificate), RFC 4512 §4.2
// and §5.1, RFC 3045 (vendor), in the order of the constants.
//
// userCertificate has the equality rule certificateExactMatch. It is not
// evaluated: an assertion parser for certificates, open to anybody, has been
// the source of remote crashes in other directories and no Direct client asks.
var attributeTable = [attrCount]attributeRow{
	{ObjectClass, "2.5.4.0", []string{"objectClass"}, objectID, "EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38"},
	{CommonName, "2.5.4.3", []string{"cn", "commonName"}, caseIgnore, "SUP name"},
	{Surname, "2.5.4.4", []string{"sn", "surname"}, caseIgnore, "SUP name"},
	{UserID, "0.9.2342.19200300.100.1.1", []string{"uid", "userid"}, caseIgnore, "EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15"},
	{Mail, "0.9.2342.19200300.100.1.3", []string{"mail", "rfc822Mailbox"}, caseIgnoreIA5, "EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{256}"},
	{UserCertificate, "2.5.4.36", []string{"userCertificate"}, unmatched, "EQUALITY certificateExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.8"},
	{DomainComponent, "0.9.2342.19200300.100.1.25", []string{"dc", "domainComponent"}, caseIgnoreIA5, "EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE"},
	{Organization, "2.5.4.10", []string{"o", "organizationName"}, caseIgnore, "SUP name"},
	{NamingContexts, "1.3.6.1.4.1.1466.101.120.5", []string{"namingContexts"}, distinguished, "SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 USAGE dSAOperation"},
	{SubschemaSubentry, "2.5.18.10", []string{"subschemaSubentry"}, distinguished, "EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation"},
	{SupportedLDAPVersion, "1.3.6.1.4.1.1466.101.120.15", []string{"supportedLDAPVersion"}, integer, "SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 USAGE dSAOperation"},
	{SupportedControl, "1.3.6.1.4.1.1466.101.120.13", []string{"supportedControl"}, objectID, "SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 USAGE dSAOperation"},
	{SupportedExtension, "1.3.6.1.4.1.1466.101.120.7", []string{"supportedExtension"}, objectID, "SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 USAGE dSAOperation"},
	{SupportedFeatures, "1.3.6.1.4.1.4203.1.3.5", []string{"supportedFeatures"}, objectID, "EQUALITY objectIdentifierMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.38 USAGE dSAOperation"},
	{VendorName, "1.3.6.1.1.4", []string{"vendorName"}, caseExact, "EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE NO-USER-MODIFICATION USAGE dSAOperation"},
	{VendorVersion, "1.3.6.1.1.5", []string{"vendorVersion"}, caseExact, "EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE NO-USER-MODIFICATION USAGE dSAOperation"},
	{LDAPSyntaxes, "1.3.6.1.4.1.1466.101.120.16", []string{"ldapSyntaxes"}, unmatched, "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.54 USAGE directoryOperation"},
	{MatchingRules, "2.5.21.4", []string{"matchingRules"}, unmatched, "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.30 USAGE directoryOperation"},
	{AttributeTypes, "2.5.21.5", []string{"attributeTypes"}, unmatched, "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.3 USAGE directoryOperation"},
	{ObjectClasses, "2.5.21.6", []string{"objectClasses"}, unmatched, "EQUALITY objectIdentifierFirstComponentMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.37 USAGE directoryOperation"},
}

// nameDefinition is the supertype `name` (RFC 4519 §2.18). No entry holds it;
// asking for it asks for its subtypes (RFC 4512 §2.5.1).
const (
	nameOID        = "2.5.4.41"
	nameDefinition = "EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15"
)

// classRow is one object class.
type classRow struct {
	oid, name, definition string
}

// classTable holds the classes of the entries: RFC 4512 §2.4.1, §4.2, RFC 4519
// §3 and RFC 2798 §3, with the attributes that this directory has.
var classTable = []classRow{
	{"2.5.6.0", "top", "ABSTRACT MUST objectClass"},
	{"2.5.6.6", "person", "SUP top STRUCTURAL MUST ( sn $ cn )"},
	{"2.5.6.7", "organizationalPerson", "SUP person STRUCTURAL"},
	{"2.16.840.1.113730.3.2.2", "inetOrgPerson", "SUP organizationalPerson STRUCTURAL MAY ( mail $ o $ uid $ userCertificate )"},
	{"2.5.6.4", "organization", "SUP top STRUCTURAL MUST o"},
	{"1.3.6.1.4.1.1466.344", "dcObject", "SUP top AUXILIARY MUST dc"},
	{"2.5.17.0", "subentry", "SUP top STRUCTURAL MUST cn"},
	{"2.5.20.1", "subschema", "AUXILIARY MAY ( ldapSyntaxes $ matchingRules $ attributeTypes $ objectClasses )"},
}

// syntaxTable describes the syntaxes that the definitions above mention (RFC
// 4517 §3.3).
var syntaxTable = []string{
	"( 1.3.6.1.1.15.1 DESC 'X.509 Certificate Exact Assertion' )",
	"( 1.3.6.1.4.1.1466.115.121.1.3 DESC 'Attribute Type Description' )",
	"( 1.3.6.1.4.1.1466.115.121.1.8 DESC 'X.509 Certificate' )",
	"( 1.3.6.1.4.1.1466.115.121.1.12 DESC 'DN' )",
	"( 1.3.6.1.4.1.1466.115.121.1.15 DESC 'Directory String' )",
	"( 1.3.6.1.4.1.1466.115.121.1.26 DESC 'IA5 String' )",
	"( 1.3.6.1.4.1.1466.115.121.1.27 DESC 'INTEGER' )",
	"( 1.3.6.1.4.1.1466.115.121.1.30 DESC 'Matching Rule Description' )",
	"( 1.3.6.1.4.1.1466.115.121.1.37 DESC 'Object Class Description' )",
	"( 1.3.6.1.4.1.1466.115.121.1.38 DESC 'OID' )",
	"( 1.3.6.1.4.1.1466.115.121.1.54 DESC 'LDAP Syntax Description' )",
	"( 1.3.6.1.4.1.1466.115.121.1.58 DESC 'Substring Assertion' )",
}

// ruleRow is a matching rule that the definitions above mention (RFC 4517 §4.2,
// RFC 4523 §3).
type ruleRow struct {
	oid, name, syntax string
	family            rule // unmatched: described, not evaluated
	substrings        bool
}

var ruleTable = []ruleRow{
	{"2.5.13.0", "objectIdentifierMatch", "1.3.6.1.4.1.1466.115.121.1.38", objectID, false},
	{"2.5.13.1", "distinguishedNameMatch", "1.3.6.1.4.1.1466.115.121.1.12", distinguished, false},
	{"2.5.13.2", "caseIgnoreMatch", "1.3.6.1.4.1.1466.115.121.1.15", caseIgnore, false},
	{"2.5.13.4", "caseIgnoreSubstringsMatch", "1.3.6.1.4.1.1466.115.121.1.58", caseIgnore, true},
	{"2.5.13.5", "caseExactMatch", "1.3.6.1.4.1.1466.115.121.1.15", caseExact, false},
	{"2.5.13.30", "objectIdentifierFirstComponentMatch", "1.3.6.1.4.1.1466.115.121.1.38", unmatched, false},
	{"2.5.13.34", "certificateExactMatch", "1.3.6.1.1.15.1", unmatched, false},
	{"1.3.6.1.4.1.1466.109.114.2", "caseIgnoreIA5Match", "1.3.6.1.4.1.1466.115.121.1.26", caseIgnoreIA5, false},
	{"1.3.6.1.4.1.1466.109.114.3", "caseIgnoreIA5SubstringsMatch", "1.3.6.1.4.1.1466.115.121.1.58", caseIgnoreIA5, true},
}

// Rule is a matching rule that an extensible filter item names. The zero value
// names none.
type Rule struct {
	named      bool
	substrings bool
	family     rule
}

// Equality tells whether assertions under the rule, or without a rule, are whole
// values.
func (r Rule) Equality() bool { return !r.substrings }

// rules maps every spelling of a matching rule, in lower case, to the rule.
var rules = makeRules()

func makeRules() map[string]Rule {
	m := map[string]Rule{}
	for _, row := range ruleTable {
		r := Rule{named: true, substrings: row.substrings, family: row.family}
		m[row.oid], m[foldString(row.name)] = r, r
	}
	return m
}

// FindRule finds a matching rule by its name or object identifier. It fails for
// those that the schema does not hold or the directory does not evaluate; RFC
// 4511 §4.5.1.7.7 then wants a filter item to be Undefined.
func FindRule(text []byte) (Rule, bool) {
	var buf [maxDescription]byte
	if len(text) > len(buf) {
		return Rule{}, false
	}
	r, known := rules[string(fold(buf[:0], text))]
	return r, known && r.family != unmatched
}

// attributeSets maps every spelling of an attribute type, in lower case, to
// the types that it stands for.
var attributeSets = makeAttributeSets()

func makeAttributeSets() map[string]Mask {
	sets := map[string]Mask{
		"name":  bit(CommonName) | bit(Surname) | bit(Organization),
		nameOID: bit(CommonName) | bit(Surname) | bit(Organization),
	}
	for _, row := range attributeTable {
		sets[row.oid] = bit(row.attr)
		for _, name := range row.names {
			sets[foldString(name)] = bit(row.attr)
		}
	}
	return sets
}

// classNames maps every spelling of an object class, in lower case, to its
// name in lower case.
var classNames = makeClassNames()

func makeClassNames() map[string]string {
	names := map[string]string{}
	for _, row := range classTable {
		names[row.oid] = foldString(row.name)
		names[foldString(row.name)] = foldString(row.name)
	}
	return names
}

// Name is the attribute type's name as answers carry it.
func (a Attr) Name() string { return attributeTable[a].names[0] }

// Description is an attribute description (RFC 4512 §2.5): types, and whether
// the transfer option `binary` (RFC 4522) stands behind.
type Description struct {
	Attrs  Mask // several for a supertype
	Binary bool
}

// IsMail tells whether the description is that of the mail attribute alone.
func (d Description) IsMail() bool { return d.Attrs == bit(Mail) }

// maxDescription is longer than every spelling that attributeSets holds, the
// binary option included.
const maxDescription = 48

// Describe reads an attribute description. It fails for a type or an option
// that the directory does not recognize; RFC 4511 §4.5.1.7 then wants a filter
// item to be Undefined, and §4.5.1.8 wants the selection to be ignored.
func Describe(text []byte) (Description, bool) {
	var d Description
	if len(text) > maxDescription {
		return d, false
	}
	var buf [maxDescription]byte
	name := fold(buf[:0], text)
	for i, c := range name {
		if c != ';' {
			continue
		}
		// RFC 4522 §3: binary applies to userCertificate; no other option is known.
		if string(name[i:]) != ";binary" {
			return d, false
		}
		name, d.Binary = name[:i], true
		break
	}
	d.Attrs = attributeSets[string(name)]
	if d.Attrs == 0 || d.Binary && d.Attrs != bit(UserCertificate) {
		return Description{}, false
	}
	return d, true
}

// fold appends text in ASCII lower case.
func fold(dst, text []byte) []byte {
	for _, c := range text {
		dst = append(dst, lower(c))
	}
	return dst
}

func foldString(s string) string { return string(fold(nil, []byte(s))) }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// subschema builds the entry that describes the schema (RFC 4512 §4.2).
func subschema() *Entry {
	b := newEntryBuilder(SubschemaDN, kindSubschema)
	b.add(ObjectClass, "top", "subentry", "subschema")
	b.add(CommonName, "Subschema")
	b.add(LDAPSyntaxes, syntaxTable...)
	var matching []string
	for _, row := range ruleTable {
		matching = append(matching, "( "+row.oid+" NAME '"+row.name+"' SYNTAX "+row.syntax+" )")
	}
	b.add(MatchingRules, matching...)
	types := []string{"( " + nameOID + " NAME 'name' " + nameDefinition + " )"}
	for _, row := range attributeTable {
		names := "'" + row.names[0] + "'"
		if len(row.names) > 1 {
			names = "( '" + row.names[0] + "' '" + row.names[1] + "' )"
		}
		types = append(types, "( "+row.oid+" NAME "+names+" "+row.definition+" )")
	}
	b.add(AttributeTypes, types...)
	var classes []string
	for _, row := range classTable {
		classes = append(classes, "( "+row.oid+" NAME '"+row.name+"' "+row.definition+" )")
	}
	b.add(ObjectClasses, classes...)
	return b.entry()
}
