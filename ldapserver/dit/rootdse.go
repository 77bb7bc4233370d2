package dit

// SubschemaDN is the name of the entry that holds the schema.
const SubschemaDN = "cn=Subschema"

// The object identifiers that the root DSE lists and the server obeys.
const (
	OIDManageDsaIT   = "2.16.840.1.113730.3.4.2" // RFC 3296 §3
	OIDPagedResults  = "1.2.840.113556.1.4.319"  // RFC 2696
	OIDCancel        = "1.3.6.1.1.8"             // RFC 3909
	OIDStartTLS      = "1.3.6.1.4.1.1466.20037"  // RFC 4511 §4.14
	OIDWhoAmI        = "1.3.6.1.4.1.4203.1.11.3" // RFC 4532
	oidAllAttributes = "1.3.6.1.4.1.4203.1.5.1"  // RFC 3673: "+"
	oidTrueFalse     = "1.3.6.1.4.1.4203.1.5.3"  // RFC 4526: (&) and (|)
)

// rootDSE builds the entry with the empty name (RFC 4512 §5.1). Its attributes
// besides objectClass are operational: clients ask for them by name or by "+".
func rootDSE(contexts []*context, o Options) *Entry {
	b := newEntryBuilder("", kindRoot)
	b.add(ObjectClass, "top")
	if len(contexts) > 0 {
		names := make([]string, len(contexts))
		for i, c := range contexts {
			names[i] = c.suffix.dn
		}
		b.add(NamingContexts, names...)
	}
	b.add(SubschemaSubentry, SubschemaDN)
	b.add(SupportedLDAPVersion, "3")
	b.add(SupportedControl, OIDManageDsaIT, OIDPagedResults)
	extensions := []string{OIDCancel, OIDWhoAmI}
	if o.StartTLS {
		extensions = append(extensions, OIDStartTLS)
	}
	b.add(SupportedExtension, extensions...)
	b.add(SupportedFeatures, oidAllAttributes, oidTrueFalse)
	b.add(VendorName, "Direct Node")
	if o.Version != "" {
		b.add(VendorVersion, o.Version)
	}
	return b.entry()
}
