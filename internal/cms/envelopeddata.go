package cms

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"

	"directnode/internal/ber"
)

// EnvelopedData is a parsed EnvelopedData (RFC 5652 §6.1). It keeps slices of the octets it was parsed from and does not
// change.
type EnvelopedData struct {
	recipients []recipientInfo
	algorithm  algorithm // of the content
	encrypted  []byte
}

// recipientInfo is one RecipientInfo (RFC 5652 §6.2); only those of kind "ktri" have more than a kind.
type recipientInfo struct {
	kind      string
	rid       identifier
	algorithm algorithm
	encrypted []byte // the content encryption key
}

// RecipientInfo describes for whom a message is encrypted, as far as the message says it in the clear.
type RecipientInfo struct {
	Kind         string   // "ktri", "kari", "kekri", "pwri", "ori"; "unknown" for one that cannot be read
	Issuer       []byte   // encoded Name, with Serial; nil when KeyID is used
	Serial       *big.Int // nil when KeyID is used
	KeyID        []byte   // subject key identifier; nil when Issuer and Serial are used
	KeyTransport string   // for logs, for instance "RSA-PKCS1-v1.5"
}

// String names the recipient for logs without the issuer's name.
func (r RecipientInfo) String() string {
	switch {
	case r.KeyID != nil:
		return fmt.Sprintf("%s key identifier %s", r.Kind, hex.EncodeToString(r.KeyID))
	case r.Serial != nil:
		return fmt.Sprintf("%s serial number %s", r.Kind, r.Serial)
	}
	return r.Kind
}

// kinds of RecipientInfo by their context-specific tag (RFC 5652 §6.2).
var kinds = [...]string{1: "kari", 2: "kekri", 3: "pwri", 4: "ori"}

// ParseEnvelopedData reads a ContentInfo that holds an EnvelopedData over id-data, in DER or BER. It does not judge the
// algorithms: a message that we refuse to decrypt still parses, so that its refusal cannot be told from any other.
//
// Errors: ErrMalformed, ErrLimit, ErrContentType.
func ParseEnvelopedData(b []byte, l Limits) (*EnvelopedData, error) {
	l = l.withDefaults()
	r, err := openContent(b, l, oidEnvelopedData, "EnvelopedData")
	if err != nil {
		return nil, err
	}
	if _, err := r.Int(ber.Integer); err != nil { // peers disagree about versions; nothing depends on it
		return nil, unread("version", err)
	}
	if err := skipContext(r, 0); err != nil { // originatorInfo serves key agreement
		return nil, unread("originatorInfo", err)
	}
	e := &EnvelopedData{}
	if err := e.readRecipients(r, l); err != nil {
		return nil, err
	}
	if err := e.readContent(r); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *EnvelopedData) readRecipients(r *ber.Reader, l Limits) error {
	set, err := r.Enter(ber.Set)
	if err != nil {
		return unread("recipientInfos", err)
	}
	for n := 0; !set.Empty(); n++ {
		if n == l.Recipients {
			return tooMany("recipients", l.Recipients)
		}
		el, err := set.Next()
		if err != nil {
			return unread("recipientInfos", err)
		}
		e.recipients = append(e.recipients, readRecipient(set, el))
	}
	return nil
}

// readRecipient reads one RecipientInfo. One that we cannot read is none of ours and does not spoil the others.
func readRecipient(set *ber.Reader, e ber.Element) recipientInfo {
	if e.Tag.Class == ber.ContextSpecific && e.Tag.Number > 0 && int(e.Tag.Number) < len(kinds) {
		return recipientInfo{kind: kinds[e.Tag.Number]}
	}
	if e.Tag == ber.Sequence {
		if info, err := readKeyTransport(set, e); err == nil {
			return info
		}
	}
	return recipientInfo{kind: "unknown"}
}

// readKeyTransport reads a KeyTransRecipientInfo (RFC 5652 §6.2.1).
func readKeyTransport(set *ber.Reader, e ber.Element) (info recipientInfo, err error) {
	r, err := set.Into(e)
	if err != nil {
		return info, err
	}
	if _, err := r.Int(ber.Integer); err != nil {
		return info, err
	}
	if info.rid, err = readIdentifier(r); err != nil {
		return info, err
	}
	if info.algorithm, err = readAlgorithm(r); err != nil {
		return info, err
	}
	info.kind = "ktri"
	info.encrypted, err = r.OctetString(ber.OctetString)
	return info, err
}

// readContent reads encryptedContentInfo (RFC 5652 §6.1). Unprotected attributes after it prove nothing and are not read.
func (e *EnvelopedData) readContent(r *ber.Reader) error {
	in, err := r.Enter(ber.Sequence)
	if err != nil {
		return unread("encryptedContentInfo", err)
	}
	typ, err := in.OID()
	if err != nil {
		return unread("type of the encrypted content", err)
	}
	if !typ.Equal(oidData) { // RFC 5751 §3.3: the content is a MIME entity
		return fmt.Errorf("%w: encrypted content of type %s where data must stand", ErrContentType, typ)
	}
	if e.algorithm, err = readAlgorithm(in); err != nil {
		return err
	}
	if in.Empty() { // the encrypted content may travel elsewhere (RFC 5652 §6.1); in mail it never does, and Decrypt fails
		return nil
	}
	if e.encrypted, err = in.OctetString(ber.Context(0, false)); err != nil {
		return unread("encryptedContent", err)
	}
	return nil
}

// contentCipher gives the cipher and its initialization vector. AS 2.7: nothing below AES; RFC 3565 §4.1: the parameter of
// AES-CBC is the vector of 16 octets.
func (e *EnvelopedData) contentCipher() (Cipher, []byte, error) {
	c, ok := cipherByOID(e.algorithm.oid)
	if !ok {
		return 0, nil, fmt.Errorf("%w: content encrypted with %s", ErrAlgorithm, nameOf(e.algorithm.oid))
	}
	iv, err := ber.NewReader(e.algorithm.params, ber.Limits{Depth: 2, Count: 8, Size: 256}).OctetString(ber.OctetString)
	if err != nil {
		return 0, nil, unread("initialization vector", err)
	}
	if len(iv) != aes.BlockSize {
		return 0, nil, fmt.Errorf("%w: initialization vector of %d octets", ErrMalformed, len(iv))
	}
	return c, iv, nil
}

// Recipients tells for whom the message is encrypted, in the order of the message.
func (e *EnvelopedData) Recipients() []RecipientInfo {
	out := make([]RecipientInfo, len(e.recipients))
	for i, r := range e.recipients {
		out[i] = RecipientInfo{Kind: r.kind, Issuer: bytes.Clone(r.rid.issuer), Serial: r.rid.serial, KeyID: slices.Clone(r.rid.keyID)}
		if r.kind != "ktri" {
			continue
		}
		if u, err := readTransport(r.algorithm); err == nil {
			out[i].KeyTransport = u.String()
		} else {
			out[i].KeyTransport = nameOf(r.algorithm.oid)
		}
	}
	return out
}
