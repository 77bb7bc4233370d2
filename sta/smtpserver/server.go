package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	smtp "github.com/emersion/go-smtp"
)

// Options are the operator's choices. The zero value is safe; a zero field
// stands for its default.
type Options struct {
	Hostname        string         // greeting, EHLO reply and Received; default "localhost"
	MaxMessageBytes int64          // DefaultMessageBytes; a message of exactly this size passes
	MaxRecipients   int            // DefaultRecipients
	Networks        []netip.Prefix // who may connect; nil: everybody
	Exempt          []netip.Prefix // whom no connection limit throttles; nil: loopback
	MaxConnections  int            // DefaultConnections
	MaxPerPeer      int            // DefaultPerPeer

	CommandTimeout time.Duration // DefaultCommandTimeout, for one command line
	DataTimeout    time.Duration // DefaultDataTimeout, for one block of a message
	WriteTimeout   time.Duration // DefaultWriteTimeout, for one reply
	SessionTimeout time.Duration // DefaultSessionTimeout, for everything
	MinRate        int           // DefaultMinRate, octets per second of a message
	Grace          time.Duration // DefaultGrace, for messages under way at a stop

	TLS *tls.Config  // STARTTLS is offered if set
	Log *slog.Logger // nil: no log
}

// Server receives mail on any number of listeners. Make one with New.
type Server struct {
	o       Options
	backend Backend
	limiter *limiter
	log     *slog.Logger
}

// New makes a server that hands what it receives to b.
func New(b Backend, o Options) *Server {
	setDefault(&o.Hostname, "localhost")
	setDefault(&o.MaxMessageBytes, DefaultMessageBytes)
	setDefault(&o.MaxRecipients, DefaultRecipients)
	setDefault(&o.MaxConnections, DefaultConnections)
	setDefault(&o.MaxPerPeer, DefaultPerPeer)
	setDefault(&o.CommandTimeout, DefaultCommandTimeout)
	setDefault(&o.DataTimeout, DefaultDataTimeout)
	setDefault(&o.WriteTimeout, DefaultWriteTimeout)
	setDefault(&o.SessionTimeout, DefaultSessionTimeout)
	setDefault(&o.MinRate, DefaultMinRate)
	setDefault(&o.Grace, DefaultGrace)
	if o.Exempt == nil {
		o.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		o: o, backend: b, log: o.Log,
		limiter: &limiter{total: o.MaxConnections, perPeer: o.MaxPerPeer, exempt: o.Exempt, peers: map[netip.Prefix]int{}},
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Serve accepts connections from l until ctx ends or l fails, and returns when
// the last connection is over. When ctx ends, idle clients are sent 421 at
// once; a message under way may end within Options.Grace. Serve closes l. It
// may run for several listeners at once. After a stop by ctx it returns nil
// unless a backend could not be brought to an end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d := &door{srv: s, l: l, work: work, gates: map[*gate]struct{}{}}
	unhook := context.AfterFunc(ctx, d.shut)
	defer unhook()

	engine := s.engine()
	// It returns when Accept fails, and Accept fails for ever once d is shut.
	err := engine.Serve(d)
	d.shut()
	hard := time.AfterFunc(s.o.Grace, func() {
		stop()
		d.cut()
	})
	defer hard.Stop()

	// From here on no connection is added, so that the engine's Shutdown waits
	// for exactly those that there are.
	patience, done := context.WithTimeout(context.Background(), s.o.Grace+stopSlack)
	defer done()
	if left := engine.Shutdown(patience); left != nil && errors.Is(left, context.DeadlineExceeded) {
		return fmt.Errorf("smtpserver %s: connections did not end in time", l.Addr())
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("smtpserver %s: accept: %w", l.Addr(), err)
}

// engine is go-smtp with everything switched off that the gate does better.
func (s *Server) engine() *smtp.Server {
	e := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		g, ok := c.Conn().(*gate)
		if !ok {
			return nil, errors.New("smtpserver: connection without a gate")
		}
		return engineSession{g}, nil
	}))
	e.Domain = s.o.Hostname
	e.MaxRecipients = s.o.MaxRecipients // RFC 5321 §4.5.3.1.10: 452 beyond it
	e.MaxMessageBytes = 0               // the engine refuses a message of exactly its limit
	e.MaxLineLength = 0                 // the gate bounds command lines
	e.ReadTimeout, e.WriteTimeout = 0, 0
	e.ErrorLog = engineLog{s.log}
	return e
}

// engineLog is where the engine reports what it did not expect.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Printf(format string, v ...any) {
	l.log.Error("smtp engine", "message", fmt.Sprintf(format, v...))
}

func (l engineLog) Println(v ...any) { l.log.Error("smtp engine", "message", fmt.Sprint(v...)) }

// refuse tells a client at the door why it cannot come in.
func refuse(c net.Conn, line string) {
	// The octets fit into an empty socket buffer, so this does not wait; if it
	// fails, the client is gone already.
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, line+"\r\n")
	_ = c.Close()
}
