package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"directnode/dnsserver"
	"directnode/internal/config"
)

// catchReload keeps SIGHUP from ending the process, from the first moment to the
// last, and keeps one for reload.
func (n *node) catchReload() {
	n.hup = make(chan os.Signal, 1)
	signal.Notify(n.hup, syscall.SIGHUP)
}

// reload reads the configuration again at SIGHUP, and the TLS certificate. What
// can change while everything runs does: the level of the log and the query
// log. A file with a fault changes nothing.
func (n *node) reload(ctx context.Context, dns *dnsserver.Server) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.hup:
			n.reloadNow(dns)
		}
	}
}

func (n *node) reloadNow(dns *dnsserver.Server) {
	if err := n.tls.load(); err != nil {
		n.log.Error("reload: the TLS certificate in use stays", "err", err)
	} else {
		n.log.Info("reload: the TLS certificate was read again")
	}
	next, err := config.Load(n.path)
	if err != nil {
		n.log.Error("reload: the configuration in use stays", "err", err)
		return
	}
	n.level.Set(logLevel(next))
	dns.SetQueryLog(queryLog(next))
	n.log.Info("reload: the configuration was read again", "log.level", next.Log.Level, "dns.query_log", next.DNS.QueryLog, "dns.query_log_names", next.DNS.QueryLogNames)
	if needsRestart(n.cfg, next) {
		n.log.Warn("reload: the file has other changes too, and they need a restart")
	}
}

// needsRestart tells whether two configurations differ in something that a
// reload does not change.
func needsRestart(running, next config.Config) bool {
	next.Log, next.DNS.QueryLog, next.DNS.QueryLogNames = running.Log, running.DNS.QueryLog, running.DNS.QueryLogNames
	var a, b bytes.Buffer
	if config.Print(&a, running) != nil || config.Print(&b, next) != nil {
		return true
	}
	return !bytes.Equal(a.Bytes(), b.Bytes())
}

// logLevel is the level that a valid configuration names.
func logLevel(c config.Config) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(c.Log.Level)) != nil {
		return slog.LevelInfo
	}
	return l
}

// queryLog is what a valid configuration wants to be logged of queries.
func queryLog(c config.Config) dnsserver.QueryLog {
	every, err := c.DNS.QueryLogEvery()
	if err != nil {
		return dnsserver.QueryLog{}
	}
	return dnsserver.QueryLog{Every: every, Names: c.DNS.QueryLogNames}
}

// dnsOptions are the DNS server's, from the configuration.
func (n *node) dnsOptions() (dnsserver.Options, error) {
	exempt, err := config.Prefixes(n.cfg.Limits.Exempt)
	if err != nil {
		return dnsserver.Options{}, configError(err)
	}
	secret, err := n.cfg.CookieSecret()
	if err != nil {
		return dnsserver.Options{}, configError(fmt.Errorf("%s: %w", n.cfg.At("dns.cookie_secret_file"), err))
	}
	c := n.cfg.DNS
	return dnsserver.Options{
		UDPCert: c.UDPCert, UDPSize: c.UDPSize, CookieSecret: secret, QueryLog: queryLog(n.cfg),
		Limits: dnsserver.Limits{
			Rate: rate(c.Rate), Absences: rate(c.AbsenceRate), TCPTotal: c.TCPConnections, TCPPerAddress: c.TCPPerAddress,
			// A network has room for eight of its addresses, as with the default.
			TCPPerNetwork: min(8*c.TCPPerAddress, c.TCPConnections), Exempt: exempt,
		},
		Peers: n.publisher.dnsPeers, Notified: n.peering.notified, Log: n.log,
	}, nil
}

// rate is a figure of the configuration, in which 0 means none, as the server
// takes it.
func rate(perSecond int) int {
	if perSecond == 0 {
		return -1
	}
	return perSecond
}
