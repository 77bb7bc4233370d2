package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// monitor tells a service manager, a load balancer and a monitoring system how
// the node does: /livez, /readyz and /metrics on [admin] listen. It serves from
// before the store is read until everything has drained, so that both ends of
// a node's life can be seen.
type monitor struct {
	why      atomic.Pointer[string] // why the node is not ready; nil: it is
	registry *prometheus.Registry
}

func newMonitor(version, goVersion string) *monitor {
	m := &monitor{registry: prometheus.NewRegistry()}
	m.notReady("the store is being read")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "directnode_build_info", Help: "Always 1; the labels say which program runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": goVersion},
	})
	build.Set(1)
	m.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *monitor) notReady(why string) { m.why.Store(&why) }
func (m *monitor) ready()              { m.why.Store(nil) }

// handler serves the three paths and nothing else.
func (m *monitor) handler(log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plainAnswer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := m.why.Load(); why != nil {
			plainAnswer(w, http.StatusServiceUnavailable, "not ready: "+*why)
			return
		}
		plainAnswer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, // one for each of a pair of monitoring systems, and as many that were given up
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
	}))
	return mux
}

func plainAnswer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// openMonitor begins to serve monitoring, until everything else is closed.
func (n *node) openMonitor(ctx context.Context) error {
	n.monitor = newMonitor(version(), goVersion())
	if n.listeners.monitor == nil {
		return nil
	}
	if ap, err := netip.ParseAddrPort(n.cfg.Admin.Listen); err == nil && !ap.Addr().IsLoopback() {
		n.log.Warn("monitoring can be read from other machines; see that a firewall lets only yours to it", "admin.listen", n.cfg.Admin.Listen)
	}
	s := newHTTP(n.monitor.handler(n.log), n.log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := serveHTTP(ctx, s, newCapped(n.listeners.monitor, monitorConns, monitorConns, nil)); err != nil {
			n.log.Error("monitoring is no longer served", "err", err)
		}
	}()
	n.onClose(func() error {
		cancel()
		<-ended
		return nil
	})
	return nil
}
