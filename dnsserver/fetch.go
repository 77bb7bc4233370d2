package dnsserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// What fetching a zone may cost.
const (
	fetchDial    = 5 * time.Second
	fetchMessage = 30 * time.Second // until the next message is there whole
	fetchAll     = 10 * time.Minute
)

// Fetch asks a primary, by one TCP connection, whether a zone has changed and
// takes what did: by IXFR from the version that is held, nil for none, and by
// AXFR where there is none. It returns nil if the zone is as it is held. Every
// message must be signed with the primary's key.
func Fetch(ctx context.Context, apex zones.Name, from Primary, held *uint32) (*zones.Incoming, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchAll)
	defer cancel()
	conn, err := (&net.Dialer{Timeout: fetchDial}).DialContext(ctx, "tcp", from.Addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	f := &fetcher{conn: conn, apex: apex, key: from.Key, begin: func() error { return nil }}
	if from.Begin != nil {
		f.begin = func() error { return from.Begin(ctx) }
	}
	in, err := f.fetch(held)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return in, err
}

// fetcher is one connection to a primary.
type fetcher struct {
	conn  net.Conn
	apex  zones.Name
	key   *Key
	begin func() error

	id  uint16
	sig signatures
	buf []byte
}

func (f *fetcher) fetch(held *uint32) (*zones.Incoming, error) {
	if held != nil {
		serial, err := f.serial()
		if err != nil {
			return nil, fmt.Errorf("SOA: %w", err)
		}
		if serialAtLeast(*held, serial) {
			return nil, nil
		}
	}
	if err := f.begin(); err != nil {
		return nil, err
	}
	return f.transfer(held)
}

// serial asks for the version that the primary has (RFC 1034 §4.3.5).
func (f *fetcher) serial() (uint32, error) {
	if err := f.ask(dns.TypeSOA, nil); err != nil {
		return 0, err
	}
	m, err := f.read()
	if err != nil {
		return 0, err
	}
	if !m.Authoritative || len(m.Answer) != 1 {
		return 0, errors.New("the primary does not answer for the zone")
	}
	soa, ok := m.Answer[0].(*dns.SOA)
	if !ok {
		return 0, errors.New("the primary has no SOA")
	}
	return soa.Serial, nil
}

// transfer takes the zone. A primary that does not know IXFR is asked for all.
func (f *fetcher) transfer(held *uint32) (*zones.Incoming, error) {
	qtype := dns.TypeAXFR
	if held != nil {
		qtype = dns.TypeIXFR
	}
	if err := f.ask(qtype, held); err != nil {
		return nil, err
	}
	in := zones.NewIncoming(f.apex, held)
	for first := true; !in.Done(); first = false {
		m, err := f.read()
		var code rcodeError
		if first && held != nil && errors.As(err, &code) && (code == dns.RcodeFormatError || code == dns.RcodeNotImplemented) {
			return f.transfer(nil) // RFC 1995 §4
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dns.TypeToString[qtype], err)
		}
		for _, rr := range m.Answer {
			if err := in.Take(rr); err != nil {
				return nil, fmt.Errorf("%s: %w", dns.TypeToString[qtype], err)
			}
		}
		if first && in.UpToDate() {
			return nil, nil
		}
	}
	if !f.sig.whole() { // RFC 8945 §5.3.1: the last message is signed
		return nil, fmt.Errorf("%s: the end: %w", dns.TypeToString[qtype], errUnsigned)
	}
	return in, nil
}

// ask sends a signed question.
func (f *fetcher) ask(qtype uint16, held *uint32) error {
	var id [2]byte
	rand.Read(id[:])
	f.id = binary.BigEndian.Uint16(id[:])
	msg := append(id[:], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	msg = append(msg, f.apex...)
	msg = binary.BigEndian.AppendUint16(msg, qtype)
	msg = binary.BigEndian.AppendUint16(msg, dns.ClassINET)
	if held != nil { // RFC 1995 §3: of the SOA only the serial counts
		msg[9] = 1
		msg = append(msg, 0xC0, headerSize, 0, byte(dns.TypeSOA), 0, dns.ClassINET, 0, 0, 0, 0, 0, 2+soaNumbers, 0, 0)
		msg = binary.BigEndian.AppendUint32(msg, *held)
		msg = append(msg, make([]byte, soaNumbers-4)...)
	}
	f.sig = signatures{key: f.key}
	at := time.Now()
	msg = f.sig.request(msg, at)
	if err := f.conn.SetDeadline(at.Add(fetchMessage)); err != nil {
		return err
	}
	_, err := f.conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// rcodeError is a primary's refusal.
type rcodeError int

// Error is the word for the code.
func (e rcodeError) Error() string { return "the primary says " + rcodeName(int(e)) }

// read reads the next message of an answer and believes it if it is signed.
func (f *fetcher) read() (*dns.Msg, error) {
	at := time.Now()
	if err := f.conn.SetDeadline(at.Add(fetchMessage)); err != nil {
		return nil, err
	}
	var size [lengthSize]byte
	if _, err := io.ReadFull(f.conn, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	msg := f.buf[:n]
	if _, err := io.ReadFull(f.conn, msg); err != nil {
		return nil, err
	}
	if n < headerSize || binary.BigEndian.Uint16(msg) != f.id {
		return nil, errors.New("a message that answers nothing")
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	code := int(flags & 0xF)
	if err := f.sig.check(msg, time.Now()); err != nil {
		if code != dns.RcodeSuccess {
			return nil, fmt.Errorf("%w: %w", rcodeError(code), err)
		}
		return nil, err
	}
	switch {
	case flags&flagQR == 0 || flags&flagTC != 0:
		return nil, errors.New("a message that is no answer")
	case code != dns.RcodeSuccess:
		return nil, rcodeError(code)
	}
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		return nil, fmt.Errorf("the message does not parse: %w", err)
	}
	return m, nil
}
