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

// maxLDAP bounds an answer: an entry with a few certificates.
const maxLDAP = 64 << 10

// Tags of RFC 4511 §4.5.
const (
	tagSearchRequest = 0x63
	tagSearchEntry   = 0x64
	tagSearchDone    = 0x65
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

func octets(s string) []byte { return tlv(0x04, []byte(s)) }

// searchRequest asks for the certificates of an address (RFC 4511 §4.5.1).
func searchRequest(address string) []byte {
	base := "dc=" + strings.ReplaceAll(zoneName, ".", ",dc=")
	search := tlv(tagSearchRequest,
		octets(base),
		tlv(0x0a, []byte{2}), // the whole subtree
		tlv(0x0a, []byte{0}), // aliases as they are
		tlv(0x02, []byte{0}), // no limit of ours to size
		tlv(0x02, []byte{0}), // nor to time
		tlv(0x01, []byte{0}), // values too
		tlv(tagEquality, octets("mail"), octets(address)),
		tlv(0x30, octets("userCertificate;binary")))
	return tlv(0x30, tlv(0x02, []byte{1}), search)
}

// directoryHas asks an LDAP server whether it shows a certificate.
func directoryHas(to netip.AddrPort, i int, der []byte) error {
	c, err := net.DialTimeout("tcp", to.String(), exchangeTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(searchRequest(localPart(i) + "@" + zoneName)); err != nil {
		return err
	}
	entries, err := readEntries(c)
	if err != nil {
		return err
	}
	if !bytes.Contains(entries, der) {
		return errors.New("the directory shows another certificate, or none")
	}
	return nil
}

// readEntries reads messages until the search is done.
func readEntries(r io.Reader) ([]byte, error) {
	var entries []byte
	for len(entries) < maxLDAP {
		msg, err := readMessage(r)
		if err != nil {
			return nil, err
		}
		// The operation follows the message ID, which is ours and short.
		if len(msg) < 4 {
			return nil, errors.New("an LDAP message is too short")
		}
		switch tag := msg[3]; tag {
		case tagSearchEntry:
			entries = append(entries, msg...)
		case tagSearchDone:
			return entries, nil
		default:
			return nil, fmt.Errorf("LDAP operation %#x", tag)
		}
	}
	return nil, errors.New("the directory sends too much")
}

// readMessage reads the content of one element.
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[1])
	if n >= 0x80 {
		long := make([]byte, min(n&0x7f, 4))
		if _, err := io.ReadFull(r, long); err != nil {
			return nil, err
		}
		n = 0
		for _, b := range long {
			n = n<<8 | int(b)
		}
	}
	if n > maxLDAP {
		return nil, fmt.Errorf("an LDAP message of %d octets", n)
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}
