package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// startWait bounds a server's start: BIND needs minutes for a million names.
	startWait = 5 * time.Minute

	// pollPause is how often a server that starts is asked.
	pollPause = 5 * time.Millisecond

	// spotChecks are the names whose certificate is compared octet by octet
	// before a server is measured.
	spotChecks = 64
)

// kind is a program that is measured.
type kind interface {
	name() string
	// version is what the program says of itself; an error means that it is
	// absent.
	version(ctx context.Context) (string, error)
	// command writes the configuration into dir and gives the command that
	// serves the data set at addr.
	command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error)
	// settings says in a sentence how it is configured.
	settings() string
}

// server is one that runs.
type server struct {
	kind
	addr    netip.AddrPort
	dir     string
	proc    *process
	started time.Time
	ready   time.Duration // from exec to the first right answer
}

// start starts a server on a core and waits for its first right answer.
func start(ctx context.Context, core int, k kind, dir string, d *dataSet) (*server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, err := k.command(dir, addr, d)
	if err != nil {
		return nil, err
	}
	s := &server{kind: k, addr: addr, dir: dir, started: time.Now()}
	if s.proc, err = startOn(core, cmd, filepath.Join(dir, "output")); err != nil {
		return nil, err
	}
	if err := s.await(ctx, d); err != nil {
		s.proc.stop()
		return nil, fmt.Errorf("%s: %w; it said: %s", k.name(), err, s.proc.said())
	}
	s.ready = time.Since(s.started)
	return s, nil
}

func (s *server) await(ctx context.Context, d *dataSet) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for !s.proc.ended() {
		err := s.probe(d)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no right answer within %v: %w", startWait, err)
		case <-time.After(pollPause):
		}
	}
	return errors.New("it ended")
}

// probe asks for what is read last: then everything is there.
func (s *server) probe(d *dataSet) error {
	if _, ok := s.kind.(echo); ok {
		return s.ping()
	}
	last := d.names - 1
	return s.has(last, d.pool.certificate(last, 0), 0)
}

// ping looks for any answer by UDP.
func (s *server) ping() error {
	c, err := net.Dial("udp", s.addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(pollPause)); err != nil {
		return err
	}
	if _, err := c.Write(appendQuery(nil, 0, zoneName, typeMX, 0)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, answerRoom))
	return err
}

// has asks by TCP, or by LDAP a directory, whether owner i has a certificate.
func (s *server) has(i int, der []byte, id uint16) error {
	if _, ok := s.kind.(interface{ asksLDAP() }); ok {
		return directoryHas(s.addr, i, der)
	}
	msg, err := exchangeTCP(s.addr, appendQuery(nil, id, localPart(i)+"."+zoneName, typeCERT, 4096))
	if err != nil {
		return err
	}
	w := want{answers: 1}
	if err := w.check(appendQuery(nil, id, localPart(i)+"."+zoneName, typeCERT, 4096), msg); err != nil {
		return err
	}
	if !bytes.Contains(msg, der) {
		return errors.New("the answer holds another certificate")
	}
	return nil
}

// verify compares certificates all over the zone.
func (s *server) verify(d *dataSet) error {
	for k := range spotChecks {
		i := k * (d.names - 1) / (spotChecks - 1)
		if err := s.has(i, d.pool.certificate(i, 0), uint16(i)); err != nil {
			return fmt.Errorf("%s: %s.%s: %w", s.name(), localPart(i), zoneName, err)
		}
	}
	return nil
}

// exchangeTimeout is for one query of ours outside of measurements.
const exchangeTimeout = 5 * time.Second

func exchangeTCP(to netip.AddrPort, query []byte) ([]byte, error) {
	c, err := net.DialTimeout("tcp", to.String(), exchangeTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return nil, err
	}
	return exchange(c, query)
}

// exchange sends a query on a connection and reads one answer (RFC 1035 §4.2.2).
func exchange(c io.ReadWriter, query []byte) ([]byte, error) {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	if _, err := c.Write(append(framed, query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}

// freePort finds a port of loopback that is free for UDP and TCP.
func freePort() (netip.AddrPort, error) {
	var last error
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenPacket("udp4", addr.String())
		l.Close()
		if err == nil {
			u.Close()
			return addr, nil
		}
		last = err
	}
	return netip.AddrPort{}, fmt.Errorf("no port is free for UDP and TCP: %w", last)
}
