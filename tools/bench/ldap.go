package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// maxLDAP bounds a message: an entry with a few certificates.
	maxLDAP = 64 << 10

	// maxMessages bounds an answer in messages.
	maxMessages = 16

	// certificateType is the attribute as it is asked for (RFC 4523 §2.1).
	certificateType = "userCertificate;binary"

	// directoryBase is the naming context of the zone (RFC 2247).
	directoryBase = "dc=bench,dc=test"
)

// Tags of RFC 4511 §4.1 to §4.5.
const (
	tagInteger       = 0x02
	tagOctets        = 0x04
	tagEnumerated    = 0x0a
	tagSequence      = 0x30
	tagSet           = 0x31
	tagBindRequest   = 0x60
	tagBindResponse  = 0x61
	tagUnbindRequest = 0x42
	tagSearchRequest = 0x63
	tagSearchEntry   = 0x64
	tagSearchDone    = 0x65
	tagSimple        = 0x80
	tagEquality      = 0xa3
)

// tlv is an element of BER with a definite length.
func tlv(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

func octets(s string) []byte { return tlv(tagOctets, []byte(s)) }

// ldapMessage is an LDAPMessage (RFC 4511 §4.1.1).
func ldapMessage(id []byte, operation []byte) []byte {
	return tlv(tagSequence, tlv(tagInteger, id), operation)
}

// bindRequest is the anonymous bind of version 3 (RFC 4511 §4.2).
func bindRequest(id []byte) []byte {
	return ldapMessage(id, tlv(tagBindRequest, tlv(tagInteger, []byte{3}), octets(""), tlv(tagSimple)))
}

func unbindRequest(id []byte) []byte { return ldapMessage(id, tlv(tagUnbindRequest)) }

// searchRequest asks for the certificates of an address (RFC 4511 §4.5.1).
func searchRequest(id []byte, address string) []byte {
	return ldapMessage(id, tlv(tagSearchRequest,
		octets(directoryBase),
		tlv(tagEnumerated, []byte{2}), // the whole subtree
		tlv(tagEnumerated, []byte{0}), // aliases as they are
		tlv(tagInteger, []byte{0}),    // no limit of ours to size
		tlv(tagInteger, []byte{0}),    // nor to time
		tlv(0x01, []byte{0}),          // values too
		tlv(tagEquality, octets("mail"), octets(address)),
		tlv(tagSequence, octets(certificateType))))
}

// mailOf is the address of owner i.
func mailOf(i int) string { return localPart(i) + "@" + zoneName }

// header reads the header of the element at the front of b: its own size, and
// that of the content; 0 if it is not whole. RFC 4511 §5.1: lengths are
// definite.
func header(b []byte) (head, content int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[1] < 0x80 {
		return 2, int(b[1]), nil
	}
	head = 2 + int(b[1]&0x7f)
	if head == 2 || head > 6 {
		return 0, 0, errEncoding
	}
	if len(b) < head {
		return 0, 0, nil
	}
	for _, c := range b[2:head] {
		content = content<<8 | int(c)
	}
	if content > maxLDAP {
		return 0, 0, errEncoding
	}
	return head, content, nil
}

// element takes an element with a tag off the front of b; false if there is
// none.
func element(b []byte, tag byte) (content, rest []byte, ok bool) {
	head, n, err := header(b)
	if err != nil || head == 0 || b[0] != tag || len(b) < head+n {
		return nil, b, false
	}
	return b[head : head+n], b[head+n:], true
}

// operation opens a message: its ID, and the operation with its tag.
func operation(msg []byte) (id int, op []byte, ok bool) {
	content, _, ok := element(msg, tagSequence)
	if !ok {
		return 0, nil, false
	}
	number, op, ok := element(content, tagInteger)
	if !ok || len(number) == 0 || len(number) > 4 || len(op) == 0 {
		return 0, nil, false
	}
	for _, c := range number {
		id = id<<8 | int(c)
	}
	return id, op, true
}

// resultOf looks for success in an operation that ends a request (RFC 4511
// §4.1.9).
func resultOf(op []byte, tag byte) error {
	content, _, ok := element(op, tag)
	if !ok {
		return errOperation
	}
	code, _, ok := element(content, tagEnumerated)
	if !ok || len(code) != 1 {
		return errEncoding
	}
	if code[0] != 0 {
		return errResult
	}
	return nil
}

// certificateOf is the one certificate of an entry that has nothing else
// (RFC 4511 §4.5.2).
func certificateOf(op []byte) ([]byte, error) {
	content, _, ok := element(op, tagSearchEntry)
	if !ok {
		return nil, errOperation
	}
	_, rest, ok := element(content, tagOctets)
	if !ok {
		return nil, errEncoding
	}
	attributes, _, ok := element(rest, tagSequence)
	if !ok {
		return nil, errEncoding
	}
	first, more, ok := element(attributes, tagSequence)
	if !ok || len(more) > 0 {
		return nil, errAttributes
	}
	name, rest, ok := element(first, tagOctets)
	if !ok || !strings.EqualFold(string(name), certificateType) {
		return nil, errAttributes
	}
	values, _, ok := element(rest, tagSet)
	if !ok {
		return nil, errEncoding
	}
	der, more, ok := element(values, tagOctets)
	if !ok || len(more) > 0 {
		return nil, errValues
	}
	return der, nil
}

// What can be wrong with an answer of a directory.
var (
	errEncoding   = errors.New("the message is no BER of an LDAP message")
	errOperation  = errors.New("the operation is another")
	errResult     = errors.New("the result is no success")
	errAttributes = errors.New("the entry has not the one attribute that was asked for")
	errValues     = errors.New("the entry has not one certificate")
	errSize       = errors.New("the certificate has another size")
	errOwner      = errors.New("the certificate is another owner's")
	errEntries    = errors.New("the answer has not one entry")
)

// directoryHas asks an LDAP server whether it shows a certificate, and no
// other.
func directoryHas(to netip.AddrPort, i int, der []byte) error {
	c, err := net.DialTimeout("tcp", to.String(), exchangeTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(searchRequest([]byte{1}, mailOf(i))); err != nil {
		return err
	}
	shown, err := readCertificates(c)
	switch {
	case err != nil:
		return err
	case len(shown) != 1:
		return fmt.Errorf("%w but %d", errEntries, len(shown))
	case !bytes.Equal(shown[0], der):
		return errors.New("the directory shows another certificate")
	}
	return nil
}

// readCertificates reads the answer to a search with message ID 1.
func readCertificates(r io.Reader) ([][]byte, error) {
	var shown [][]byte
	for range maxMessages {
		msg, err := readMessage(r)
		if err != nil {
			return nil, err
		}
		id, op, ok := operation(msg)
		switch {
		case !ok:
			return nil, errEncoding
		case id != 1:
			return nil, errForeign
		case op[0] == tagSearchDone:
			return shown, resultOf(op, tagSearchDone)
		}
		der, err := certificateOf(op)
		if err != nil {
			return nil, err
		}
		shown = append(shown, der)
	}
	return nil, errors.New("the directory sends too much")
}

// readMessage reads one element with its header.
func readMessage(r io.Reader) ([]byte, error) {
	var msg []byte
	for {
		head, content, err := header(msg)
		if err != nil {
			return nil, err
		}
		if head > 0 {
			msg = append(msg, make([]byte, content)...)
			_, err := io.ReadFull(r, msg[head:])
			return msg, err
		}
		msg = append(msg, 0)
		if _, err := io.ReadFull(r, msg[len(msg)-1:]); err != nil {
			return nil, err
		}
	}
}
