package dnsserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Target is a server that is told of changes.
type Target struct {
	Addr netip.AddrPort
	Key  *Key // nil = it is told without a signature
}

// NotifyOptions is what an operator may choose. The zero value is good.
type NotifyOptions struct {
	// Waits are how long the answer to each attempt is waited for; after the last
	// the server is given up until the next change. Nil = 2, 4, 8, 16, 32, 64 s:
	// RFC 1996 §3.6 leaves it open, and secondaries ask by themselves too.
	Waits []time.Duration
	// Pause is the least time between two messages for one zone to one server;
	// 0 = a second. What changes meanwhile is told together.
	Pause time.Duration
	// Sources are addresses of this server: who knows it by one of them believes
	// no other. Nil = the system chooses.
	Sources []netip.Addr
	Log     *slog.Logger // nil = silent
}

// notifySenders is how many servers are told at the same time.
const notifySenders = 64

// Notifier tells other servers of changes (RFC 1996).
type Notifier struct {
	o     NotifyOptions
	wake  chan struct{}
	slots chan struct{}

	mu     sync.Mutex // owns what follows
	due    map[notice]zoneVersion
	active map[notice]bool // somebody tells it, and looks into due afterwards
}

// notice is whom to tell of which zone.
type notice struct {
	apex   zones.Name
	target Target
}

// zoneVersion is what is told.
type zoneVersion struct {
	serial uint32
	soa    []byte // the record as it stands behind its owner
}

// NewNotifier makes a notifier; Run does its work.
func NewNotifier(o NotifyOptions) *Notifier {
	if o.Waits == nil {
		for w := 2 * time.Second; w <= 64*time.Second; w *= 2 {
			o.Waits = append(o.Waits, w)
		}
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Notifier{o: o, wake: make(chan struct{}, 1), slots: make(chan struct{}, notifySenders), due: make(map[notice]zoneVersion), active: make(map[notice]bool)}
}

// Changed tells the targets, soon, that a zone has a new version. It does not
// wait. Of several versions the last one is told.
func (n *Notifier) Changed(z *zones.Zone, targets []Target) {
	if len(targets) == 0 {
		return
	}
	v := zoneVersion{serial: z.Serial()}
	for record := range z.Apex().RRset(dns.TypeSOA).Records {
		v.soa = append([]byte(nil), record...)
	}
	n.mu.Lock()
	for _, t := range targets {
		n.due[notice{z.Apex().Name(), t}] = v
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Run tells until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.wake:
		}
		n.mu.Lock()
		for what := range n.due {
			if !n.active[what] {
				n.active[what] = true
				work.Go(func() { n.tellAll(ctx, what) })
			}
		}
		n.mu.Unlock()
	}
}

// take is what is to be told now; false ends the telling.
func (n *Notifier) take(what notice) (zoneVersion, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.due[what]
	delete(n.due, what)
	if !ok {
		delete(n.active, what)
	}
	return v, ok
}

// tellAll tells one server until there is nothing new.
func (n *Notifier) tellAll(ctx context.Context, what notice) {
	for {
		v, ok := n.take(what)
		if !ok || ctx.Err() != nil {
			return
		}
		select {
		case n.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		n.tell(ctx, what, v)
		<-n.slots
		rest(ctx, n.o.Pause)
	}
}

// rest waits, unless ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// tell tells one server of one version, again and again until it answers.
func (n *Notifier) tell(ctx context.Context, what notice, v zoneVersion) {
	log := n.o.Log.With("zone", what.apex, "serial", v.serial, "server", what.target.Addr)
	var err error
	for _, wait := range n.o.Waits {
		var rcode int
		start := time.Now()
		if rcode, err = n.attempt(ctx, what, v, wait); err == nil {
			if rcode == dns.RcodeSuccess {
				log.Info("dns: notified")
			} else {
				log.Warn("dns: the server does not want to be notified", "rcode", rcodeName(rcode))
			}
			return
		}
		rest(ctx, wait-time.Since(start)) // what failed at once
		if ctx.Err() != nil {
			return
		}
	}
	log.Warn("dns: notify given up until the next change", "err", err)
}

// attempt sends one message from a port of its own and waits for its answer.
func (n *Notifier) attempt(ctx context.Context, what notice, v zoneVersion, wait time.Duration) (rcode int, err error) {
	at := time.Now()
	msg := notifyMessage(what.apex, v)
	sig := signatures{key: what.target.Key}
	if sig.key != nil {
		msg = sig.request(msg, at)
	}
	dialer := net.Dialer{LocalAddr: n.source(what.target.Addr.Addr())}
	conn, err := dialer.DialContext(ctx, "udp", what.target.Addr.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(at.Add(wait)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(msg); err != nil {
		return 0, err
	}
	buf := make([]byte, DefaultUDPSize)
	for {
		k, err := conn.Read(buf)
		if err != nil {
			return 0, errors.Join(err, ctx.Err())
		}
		dialog := sig // a forged answer must not spoil it
		if rcode, err = notifyAnswer(msg, buf[:k], &dialog); err == nil {
			return rcode, nil
		}
		n.o.Log.Debug("dns: not an answer to our notify", "server", what.target.Addr, "err", err)
	}
}

// source is the address to tell a server from, with a port that the system
// draws.
func (n *Notifier) source(to netip.Addr) net.Addr {
	for _, a := range n.o.Sources {
		if a.Is4() == to.Is4() && a.IsLoopback() == to.IsLoopback() && !a.IsUnspecified() {
			return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
	}
	return nil
}

// notifyMessage is RFC 1996 §3.7: the zone as the question, its SOA as a hint.
func notifyMessage(apex zones.Name, v zoneVersion) []byte {
	var id [2]byte
	rand.Read(id[:]) // never fails; see crypto/rand
	msg := append(id[:], 0, 0, 0, 1, 0, 1, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(msg[2:], dns.OpcodeNotify<<opcodeShift|flagAA)
	msg = append(msg, apex...)
	msg = binary.BigEndian.AppendUint16(msg, dns.TypeSOA)
	msg = binary.BigEndian.AppendUint16(msg, dns.ClassINET)
	msg = binary.BigEndian.AppendUint16(msg, 0xC000|headerSize)
	return append(msg, v.soa...)
}

// notifyAnswer reads the answer to a message (RFC 1996 §4.7).
func notifyAnswer(msg, answer []byte, sig *signatures) (rcode int, err error) {
	if len(answer) < headerSize || answer[0] != msg[0] || answer[1] != msg[1] {
		return 0, errors.New("another ID")
	}
	flags := binary.BigEndian.Uint16(answer[2:])
	if flags&flagQR == 0 || flags&opcodeMask != dns.OpcodeNotify<<opcodeShift {
		return 0, errors.New("no answer to a NOTIFY")
	}
	if sig.key != nil {
		if err := sig.check(answer, time.Now()); err != nil {
			return 0, fmt.Errorf("the answer: %w", err)
		}
	}
	return int(flags & 0xF), nil
}
