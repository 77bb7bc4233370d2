package resolver

import (
	"errors"
	"fmt"
	"io"
	"net"

	"directnode/internal/ber"
)

// guardedConn lets the LDAP library see nothing but whole messages of bounded size, depth and number. The library decodes whatever it
// reads without limits of its own: a megabyte of empty elements would cost it a hundred and fifty, nesting its stack.
type guardedConn struct {
	net.Conn

	pending  []byte // checked octets that were not read yet; owned by the reader
	received int
	messages int
}

func (c *guardedConn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		message, err := c.next()
		if err != nil {
			return 0, err
		}
		c.pending = message
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// sequence is the first octet of every LDAPMessage.
const sequence = 0x30

// next reads one LDAPMessage (RFC 4511 §5.1: definite lengths only).
func (c *guardedConn) next() ([]byte, error) {
	limits := ldapMessage()
	if c.messages++; c.messages > maxLDAPMessages {
		return nil, fmt.Errorf("more than %d messages", maxLDAPMessages)
	}
	var message []byte
	size, err := 0, ber.ErrShort
	for errors.Is(err, ber.ErrShort) {
		// One octet at a time up to the length: it is at most ten, and what follows is read in one go.
		if message, err = c.fill(message, len(message)+1); err != nil {
			return nil, err
		}
		if message[0] != sequence {
			return nil, errors.New("the server does not speak LDAP")
		}
		size, err = ber.FrameLength(message, limits.Size)
	}
	if err != nil {
		return nil, err
	}
	if message, err = c.fill(message, size); err != nil {
		return nil, err
	}
	if err := weigh(ber.NewReader(message, limits)); err != nil {
		return nil, err
	}
	return message, checkControls(message, limits)
}

// checkControls bounds what stands in a message after its operation (RFC 4511 §4.1.1).
func checkControls(message []byte, limits ber.Limits) error {
	fields, err := ber.NewReader(message, limits).Enter(ber.Sequence)
	if err != nil {
		return err
	}
	for range 2 { // messageID, protocolOp; the library complains if they are not there
		if !fields.Empty() {
			if _, err := fields.Next(); err != nil {
				return err
			}
		}
	}
	if n := len(fields.Rest()); n > maxControls {
		return fmt.Errorf("controls of %d octets, at most %d", n, maxControls)
	}
	return nil
}

// fill reads until b has size octets.
func (c *guardedConn) fill(b []byte, size int) ([]byte, error) {
	have := len(b)
	if c.received += size - have; c.received > maxLDAPBytes {
		return nil, fmt.Errorf("more than %d octets", maxLDAPBytes)
	}
	b = append(b, make([]byte, size-have)...)
	for have < size {
		n, err := c.Conn.Read(b[have:])
		have += n
		switch {
		case err == nil || have == size:
		case errors.Is(err, io.EOF) && have > 0:
			return nil, io.ErrUnexpectedEOF // in the middle of a message
		default:
			return nil, err
		}
	}
	return b, nil
}

// weigh walks all elements; the reader counts and measures depth as it goes.
func weigh(r *ber.Reader) error {
	for !r.Empty() {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if !e.Tag.Constructed {
			continue
		}
		inner, err := r.Into(e)
		if err != nil {
			return err
		}
		if err := weigh(inner); err != nil {
			return err
		}
	}
	return nil
}
