package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"directnode/dnsserver"
	"directnode/internal/config"
)

// listeners are the node's sockets, all open before anything is served.
type listeners struct {
	dns        []dnsListener
	ldap       []net.Listener
	mx         []net.Listener
	submission []net.Listener
	public     []net.Listener // HTTP
	admin      net.Listener
	monitor    net.Listener // nil: off
}

// dnsListener is what one call of the DNS server's Serve serves; either may be nil.
type dnsListener struct {
	udp net.PacketConn
	tcp net.Listener
}

// listen opens every listener that the configuration names.
func (n *node) listen(ctx context.Context) error {
	var err error
	if n.tls, err = loadCertificates(n.cfg); err != nil {
		return err
	}
	if err := n.listenDNS(ctx); err != nil {
		return err
	}
	for _, group := range []struct {
		key   string
		addrs []string
		to    *[]net.Listener
		tls   *tls.Config
	}{
		{"ldap.listen", n.cfg.LDAP.Listen, &n.listeners.ldap, nil},
		{"ldap.listen_tls", n.cfg.LDAP.ListenTLS, &n.listeners.ldap, n.tls.config()},
		{"smtp.listen", n.cfg.SMTP.Listen, &n.listeners.mx, nil},
		{"smtp.submission", n.cfg.SMTP.Submission, &n.listeners.submission, nil},
		{"http.listen", n.cfg.HTTP.Listen, &n.listeners.public, nil},
	} {
		for _, addr := range group.addrs {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return n.listenError(group.key, addr, err)
			}
			n.onClose(closed(l.Close))
			if group.tls != nil {
				l = tls.NewListener(l, group.tls)
			}
			*group.to = append(*group.to, l)
		}
	}
	if addr := n.cfg.Admin.Listen; addr != "" {
		if n.listeners.monitor, err = net.Listen("tcp", addr); err != nil {
			return n.listenError("admin.listen", addr, err)
		}
		n.onClose(closed(n.listeners.monitor.Close))
	}
	return nil
}

// listenDNS opens the sockets of the DNS server.
func (n *node) listenDNS(ctx context.Context) error {
	for _, addr := range n.cfg.DNS.Listen {
		udp, err := dnsserver.ListenUDP(ctx, addr)
		if err != nil {
			return n.listenError("dns.listen", addr, err)
		}
		for _, pc := range udp {
			n.onClose(closed(pc.Close))
			n.listeners.dns = append(n.listeners.dns, dnsListener{udp: pc})
		}
		tcp, err := dnsserver.ListenTCP(ctx, addr)
		if err != nil {
			return n.listenError("dns.listen", addr, err)
		}
		n.onClose(closed(tcp.Close))
		n.listeners.dns = append(n.listeners.dns, dnsListener{tcp: tcp})
	}
	for _, addr := range n.cfg.DNS.ListenTLS {
		tcp, err := dnsserver.ListenTCP(ctx, addr)
		if err != nil {
			return n.listenError("dns.listen_tls", addr, err)
		}
		n.onClose(closed(tcp.Close))
		config := n.tls.config()
		config.NextProtos = []string{"dot"} // RFC 7858 clients need not name it
		n.listeners.dns = append(n.listeners.dns, dnsListener{tcp: tls.NewListener(tcp, config)})
	}
	return nil
}

// closed makes closing twice no error: the servers close what they serve.
func closed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (n *node) listenError(key, addr string, err error) error {
	what := "cannot be listened on: " + err.Error()
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = "is in use by another process; stop that one (`ss -lntup` shows it) or choose another port"
	case errors.Is(err, syscall.EACCES):
		what = "needs the right to low ports; give the service CAP_NET_BIND_SERVICE or choose a port above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		what = "is no address of this machine; correct it"
	}
	return configError(fmt.Errorf("%s: %s %s", n.cfg.At(key), addr, what))
}

// certificates holds the TLS certificate, which a reload replaces.
type certificates struct {
	cfg     config.Config
	current atomic.Pointer[tls.Certificate] // nil pointer: no TLS
}

func loadCertificates(cfg config.Config) (*certificates, error) {
	c := &certificates{cfg: cfg}
	return c, c.load()
}

func (c *certificates) load() error {
	if c.cfg.TLS.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cfg.Path(c.cfg.TLS.CertFile), c.cfg.Path(c.cfg.TLS.KeyFile))
	if err != nil {
		return configError(fmt.Errorf("%s: %w; give a PEM certificate and its key", c.cfg.At("tls.cert_file"), err))
	}
	c.current.Store(&pair)
	return nil
}

// config is nil where there is no certificate.
func (c *certificates) config() *tls.Config {
	if c.current.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// openAdmin makes the Unix socket of the orders. A socket that nobody answers on
// is left over and goes; anything else at its path is somebody's and stays.
// Nothing else runs yet that the process-wide umask could touch.
func (n *node) openAdmin(context.Context) error {
	path := n.cfg.Path(n.cfg.Admin.Socket)
	if err := removeStale(path); err != nil {
		return configError(fmt.Errorf("%s: %w; remove it, or name another", n.cfg.At("admin.socket"), err))
	}
	old := syscall.Umask(0o177) // mode 0600 from the first moment
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return configError(fmt.Errorf("%s: %w; a socket's path has at most 107 octets and its folder must be there", n.cfg.At("admin.socket"), err))
	}
	n.listeners.admin = l
	n.onClose(closed(l.Close))
	return nil
}

// removeStale removes a left-over socket.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fmt.Errorf("%s is in use by another process", path), c.Close())
	}
	return os.Remove(path)
}
