package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// The layout, version 1. d is a domain, owner an Owner.Key(), sha the SHA-256
// of a certificate in lower-case hexadecimal. A domain holds no '/', a type
// neither, and what may hold one (owner, name) stands where it can be cut out
// from both ends.
//
//	meta/schema              {"schema":1,"created":"…"}
//	meta/generation          {"generation":n}; every change is conditional on it
//	meta/master              {"check":"…"}: tells a wrong master key at once
//	domain/d                 {"created":"…"}
//	record/d/TYPE/name       one RRset: [{"ttl":n,"data":"…"}, …]
//	cert/d/owner/sha         certificate (record.go)
//	key/d/owner/sha          sealed private key (record.go)
//	anchor/d/sha             {"in":…,"out":…,"added":"…","der":"base64"}
//	bundle/d/name            {"url":"…","in":…,"out":…,"signer":"base64",…,"count":n}
//	bundleanchor/d/name/sha  DER of one anchor of a bundle
//	dnskey/d/signing         Signing: how the domain is signed, its keys sealed
//	tsig/name                {"algorithm":"…","created":"…","sealed":"base64"}
//	transfer/d               {"allow":[…],"notify":[…],"primaries":[…],"taken":…}
//
// A change to one record or certificate writes one key (and the generation).
// Certificates and keys are binary: a million of them are read at each start.
const schemaVersion = 1

const (
	keySchema     = "meta/schema"
	keyGeneration = "meta/generation"
	keyMaster     = "meta/master"

	prefixDomain = "domain/"
	prefixRecord = "record/"
	prefixCert   = "cert/"
	prefixKey    = "key/"
	prefixAnchor = "anchor/"
	prefixDNSKey = "dnskey/"
	prefixBundle = "bundle/"

	prefixBundleAnchor = "bundleanchor/"

	prefixTSIG     = "tsig/"
	prefixTransfer = "transfer/"
)

// prefixes in the order in which a load needs them: domains first, keys after
// the certificates they belong to, transfers after their keys. Other packages may keep other prefixes in
// the same kv store.
func prefixes() []string {
	return []string{prefixDomain, prefixRecord, prefixCert, prefixKey, prefixAnchor, prefixBundle, prefixBundleAnchor, prefixDNSKey, prefixTSIG, prefixTransfer}
}

type schemaValue struct {
	Schema  int       `json:"schema"`
	Created time.Time `json:"created"`
}

type generationValue struct {
	Generation int64 `json:"generation"`
}

type masterValue struct {
	Check string `json:"check"`
}

type domainValue struct {
	Created time.Time `json:"created"`
}

type recordValue struct {
	TTL  uint32 `json:"ttl"`
	Data string `json:"data"`
}

type anchorValue struct {
	In    bool      `json:"in"`
	Out   bool      `json:"out"`
	Added time.Time `json:"added"`
	DER   []byte    `json:"der"`
}

// marshal of our own plain types cannot fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: marshal %T: %v", v, err))
	}
	return b
}

func domainKey(d direct.Domain) string { return prefixDomain + d.String() }

func recordKey(d direct.Domain, typ, name string) string {
	return prefixRecord + d.String() + "/" + typ + "/" + name
}

// certKeys and keyKeys are what the keys of a domain's certificates and private
// keys begin with.
func certKeys(d direct.Domain) string { return prefixCert + d.String() + "/" }
func keyKeys(d direct.Domain) string  { return prefixKey + d.String() + "/" }

func certKey(d direct.Domain, id ident) string { return certKeys(d) + id.owner + "/" + id.sha }
func keyKey(d direct.Domain, id ident) string  { return keyKeys(d) + id.owner + "/" + id.sha }

func anchorKey(d direct.Domain, sha string) string {
	return prefixAnchor + d.String() + "/" + sha
}

// cutDomain splits "prefix/d/rest".
func cutDomain(key, prefix string) (d direct.Domain, rest string, err error) {
	name, rest, found := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	d, err = direct.ParseDomain(name)
	switch {
	case err != nil:
		return d, "", err
	case !found || rest == "" || d.String() != name:
		return d, "", fmt.Errorf("malformed key")
	}
	return d, rest, nil
}

// valueVersion is the version of certificates and keys before record.go: it is
// still read, and never written.
const valueVersion = 1

// identBytes is an ident that lies in somebody else's memory.
type identBytes struct{ owner, sha []byte }

// cutIdentBytes splits "owner/sha".
func cutIdentBytes(b []byte) (identBytes, error) {
	i := len(b) - 65
	if i < 1 || b[i] != '/' {
		return identBytes{}, fmt.Errorf("malformed key")
	}
	return identBytes{b[:i], b[i+1:]}, nil
}

// decodeRecord gives a stored certificate or key as a record: the value itself,
// unless it is of version 1. It does not parse the DER: a start with a million
// certificates has no time for it, and Check does.
func decodeRecord(value []byte, d direct.Domain, id identBytes, certificate bool) (record, error) {
	if len(value) > 0 && value[0] == valueVersion {
		return upgrade(value, d, id, certificate)
	}
	payload := 1
	if certificate {
		payload = certHead + 1
	}
	return record(value), checkRecord(value, d, id, payload)
}

// upgrade makes a record of a value of version 1. A certificate was: version,
// flags, seconds since 1970, length (a varint) of the owner as written and the
// owner, DER; a key was: version, length and owner, sealed key.
func upgrade(value []byte, d direct.Domain, id identBytes, certificate bool) (record, error) {
	head := 1
	if certificate {
		head = 10
	}
	if len(value) < head || certificate && value[1]&^flagsAll != 0 {
		return nil, fmt.Errorf("malformed value")
	}
	owner, rest, err := cutOwner(value[head:], d, ident{string(id.owner), string(id.sha)})
	if err != nil {
		return nil, err
	}
	if !certificate {
		return keyRecord(Key{CertSHA256: string(id.sha), Owner: owner, Sealed: rest}), nil
	}
	if Fingerprint(rest) != string(id.sha) {
		return nil, fmt.Errorf("the certificate is not the one that was stored")
	}
	flags := value[1]
	return newCertRecord(Certificate{
		Owner: owner, DER: rest, Added: time.Unix(int64(binary.BigEndian.Uint64(value[2:])), 0).UTC(),
		PublishDNS: flags&flagDNS != 0, PublishLDAP: flags&flagLDAP != 0, Bound: flags&flagBound != 0,
	}), nil
}

// cutOwner reads a length and an owner and holds it against the key it
// stands under.
func cutOwner(b []byte, d direct.Domain, id ident) (direct.Owner, []byte, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return direct.Owner{}, nil, fmt.Errorf("malformed value")
	}
	end := used + int(n)
	owner, err := direct.ParseOwner(string(b[used:end]))
	switch {
	case err != nil:
		return owner, nil, err
	case owner.Domain() != d || owner.Key() != id.owner:
		return owner, nil, fmt.Errorf("owner %s does not belong here", owner)
	}
	return owner, b[end:len(b):len(b)], nil
}

func encodeRRset(set []Record) []byte {
	values := make([]recordValue, len(set))
	for i, r := range set {
		values[i] = recordValue{r.TTL, r.Data}
	}
	return marshal(values)
}

func decodeRRset(e kv.KV) (direct.Domain, []Record, error) {
	d, rest, err := cutDomain(e.Key, prefixRecord)
	if err != nil {
		return d, nil, err
	}
	typ, name, _ := strings.Cut(rest, "/")
	var values []recordValue
	if err := unmarshal(e.Value, &values); err != nil {
		return d, nil, err
	}
	if len(values) == 0 {
		return d, nil, fmt.Errorf("an RRset without a record")
	}
	set := make([]Record, len(values))
	for i, v := range values {
		set[i] = Record{Name: name, Type: typ, TTL: v.TTL, Data: v.Data}
	}
	return d, set, nil
}

func encodeAnchor(a Anchor) []byte {
	return marshal(anchorValue{In: a.In, Out: a.Out, Added: a.Added, DER: a.DER})
}

func decodeAnchor(e kv.KV) (direct.Domain, Anchor, error) {
	d, sha, err := cutDomain(e.Key, prefixAnchor)
	if err != nil {
		return d, Anchor{}, err
	}
	var v anchorValue
	if err := unmarshal(e.Value, &v); err != nil {
		return d, Anchor{}, err
	}
	if Fingerprint(v.DER) != sha {
		return d, Anchor{}, fmt.Errorf("the anchor is not the one that was stored")
	}
	return d, Anchor{SHA256: sha, DER: v.DER, In: v.In, Out: v.Out, Added: v.Added}, nil
}

func decodeDomain(e kv.KV) (direct.Domain, time.Time, error) {
	name := strings.TrimPrefix(e.Key, prefixDomain)
	d, err := direct.ParseDomain(name)
	if err != nil {
		return d, time.Time{}, err
	}
	if d.String() != name {
		return d, time.Time{}, fmt.Errorf("malformed key")
	}
	var v domainValue
	err = unmarshal(e.Value, &v)
	return d, v.Created, err
}

// unmarshal reads a value exactly as marshal writes it. Anything else, unknown
// fields and repaired UTF-8 among it, would be lost with the next change.
func unmarshal[T any](b []byte, v *T) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	if !bytes.Equal(marshal(*v), b) {
		return fmt.Errorf("not as this version writes it")
	}
	return nil
}
