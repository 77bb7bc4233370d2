package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"directnode/dnsserver"
	"directnode/internal/admin"
	"directnode/internal/cms"
	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/internal/durable"
	"directnode/internal/probe"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/resolver"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/sta"
	"directnode/sta/maildir"
	"directnode/sta/queue"
	"directnode/sta/smtpclient"
	"directnode/sta/smtpserver"
	"directnode/sta/track"
	"directnode/store"
	"directnode/store/kv/bolt"
	"directnode/zones"
)

// serve runs the node until ctx ends and everything has drained.
func serve(ctx context.Context, path string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return configError(err)
	}
	n := &node{cfg: cfg, path: path, started: time.Now()}
	n.level.Set(logLevel(cfg))
	n.log = logger(&n.level)
	n.catchReload()
	defer n.close()
	// Listeners come first: a port in use must not leave half a data folder.
	for _, step := range []func(context.Context) error{n.listen, n.openMonitor, n.openData, n.openAdmin, n.openStore, n.openMail, n.openFetch, n.wire} {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil // told to stop before anything was served
		}
		if err != nil {
			return err
		}
	}
	return n.run(ctx)
}

// node is everything that one process holds. It is filled step by step before
// anything is served and does not change afterwards.
type node struct {
	cfg     config.Config
	path    string // of the file that cfg came from
	level   slog.LevelVar
	log     *slog.Logger
	started time.Time

	hup        chan os.Signal
	listeners  listeners
	monitor    *monitor
	mail       mailCounts
	tls        *certificates
	publisher  *publisher
	peering    *peering
	store      *store.Store
	queue      *queue.Queue
	track      *track.Track
	resolver   *resolver.Resolver
	door       *fetch.Door
	revocation *revocation.Service
	box        *maildir.Maildir
	agent      *sta.Agent
	client     *smtpclient.Client
	admin      *admin.Service

	closers []func() error // run in reverse order
}

func (n *node) onClose(f func() error) { n.closers = append(n.closers, f) }

func (n *node) close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		if err := n.closers[i](); err != nil {
			n.log.Error("close", "err", err)
		}
	}
}

// openData makes the data folder and makes sure that no other process uses it.
func (n *node) openData(context.Context) error {
	if err := durable.MkdirAll(durable.OS(), n.cfg.DataDir, 0o700); err != nil {
		return configError(fmt.Errorf("%s: %w; make the folder for this user, or name another", n.cfg.At("data_dir"), err))
	}
	lock, err := durable.Lock(filepath.Join(n.cfg.DataDir, "lock"))
	if err != nil {
		return configError(fmt.Errorf("%s: %w; stop the other directd, or give this one a folder of its own", n.cfg.At("data_dir"), err))
	}
	n.onClose(lock.Close)
	return nil
}

// openStore opens what the administrator owns and publishes its first
// generation.
func (n *node) openStore(ctx context.Context) error {
	key, err := n.masterKey()
	if err != nil {
		return err
	}
	path := filepath.Join(n.cfg.DataDir, "store.db")
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", path, err))
	}
	n.onClose(db.Close)
	sealer := store.NewSealer(key)
	n.publisher = &publisher{
		untidy:  make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		sealer:  sealer,
		zones:   zones.Options{Seal: sealer, Form: zones.Form(n.cfg.DNS.CertForm), URL: n.cfg.HTTP.BaseURL()},
		dit:     dit.Options{Anonymous: n.cfg.LDAP.Anonymous, StartTLS: n.tls.config() != nil, Version: version()},
		log:     n.log,
	}
	n.store, err = store.Open(ctx, db, store.Options{Seal: sealer, Prepare: n.publisher.prepare, Log: n.log})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", path, err))
	}
	return nil
}

// masterKey finds the key that seals private keys: a systemd credential, the
// file that the configuration names, or the one that the first start makes.
func (n *node) masterKey() ([32]byte, error) {
	name := n.cfg.Keys.MasterKeyFile
	if credential, ok := strings.CutPrefix(name, "credential:"); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return [32]byte{}, configError(fmt.Errorf("%s: systemd gave no credentials; add LoadCredentialEncrypted=%s:… to the unit", n.cfg.At("keys.master_key_file"), credential))
		}
		name = filepath.Join(dir, filepath.Base(credential))
	}
	path := n.cfg.Path(name)
	if path == "" {
		path = filepath.Join(n.cfg.DataDir, "master.key")
		if err := n.firstKey(path); err != nil {
			return [32]byte{}, err
		}
	}
	key, err := store.LoadMasterKey(path)
	if err != nil {
		return key, configError(fmt.Errorf("%s: %w", n.cfg.At("keys.master_key_file"), err))
	}
	return key, nil
}

// firstKey makes a master key for a node that has no store yet. Where there is
// a store, a missing key is a lost one, and a new one would not open it.
func (n *node) firstKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(n.cfg.DataDir, "store.db")); err == nil {
		return configError(fmt.Errorf("%s: %s is missing and the store's private keys are sealed under it; put it back from your copy", n.cfg.At("keys.master_key_file"), path))
	}
	if err := makeKey(path); err != nil {
		return configError(fmt.Errorf("%s: %w", n.cfg.At("keys.master_key_file"), err))
	}
	n.log.Info("made a master key; keep a copy of it elsewhere", "path", path)
	return nil
}

// traceBytes is more than the field that the MX side adds to a message: what
// was announced as taken is taken.
const traceBytes = 4 << 10

// wireBytes is the largest message from other agents: sealing adds a base64
// around what was submitted.
func (n *node) wireBytes() int64 { return n.cfg.SMTP.MaxMessageBytes * 3 / 2 }

// makeKey makes a master key under another name first: of a start that was cut
// short there is the whole key or none.
func makeKey(path string) error {
	half := path + ".new"
	if err := os.Remove(half); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := store.CreateMasterKey(half); err != nil {
		return err
	}
	if err := os.Rename(half, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// openMail opens the spool and the mail's story.
func (n *node) openMail(ctx context.Context) error {
	waits := make([]time.Duration, 0, len(n.cfg.Delivery.Retry))
	for _, w := range n.cfg.Delivery.Retry {
		waits = append(waits, time.Duration(w))
	}
	var err error
	dir := filepath.Join(n.cfg.DataDir, "queue")
	n.queue, err = queue.Open(dir, queue.Options{
		Retry:    queue.Schedule{Delays: waits, Lifetime: time.Duration(n.cfg.Delivery.Lifetime)},
		MaxBytes: n.wireBytes() + traceBytes,
		Archive:  n.cfg.Path(n.cfg.Delivery.Archive),
		Log:      n.log,
	})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", dir, err))
	}
	n.onClose(n.queue.Close)
	path := filepath.Join(n.cfg.DataDir, "track.db")
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", path, err))
	}
	n.onClose(db.Close)
	if n.track, err = track.Open(ctx, db, track.Options{Log: n.log}); err != nil {
		return storeError(fmt.Errorf("%s: %w", path, err))
	}
	_, mailbox, _ := strings.Cut(n.cfg.Delivery.Mailbox, ":")
	n.box = maildir.New(n.cfg.Path(mailbox))
	return nil
}

// wire builds resolver, agent, client and orders on what is open.
func (n *node) wire(context.Context) error {
	stubs, err := n.stubs()
	if err != nil {
		return err
	}
	allow, err := config.Prefixes(n.cfg.Resolver.Fetch.Allow)
	if err != nil {
		return configError(err)
	}
	n.resolver, err = resolver.New(resolver.Options{
		Servers: n.cfg.Resolver.Servers, Stubs: stubs, Timeout: time.Duration(n.cfg.Resolver.Timeout), Allow: allow, Fetch: n.door, Log: n.log,
	})
	if err != nil {
		return configError(fmt.Errorf("%s: %w", n.cfg.At("resolver"), err))
	}
	policy, domains, err := policies(n.cfg.Policy)
	if err != nil {
		return configError(fmt.Errorf("%s: %w", n.cfg.At("policy.domain"), err))
	}
	n.agent = sta.New(sta.Options{
		Hostname: n.cfg.Node.Hostname, Policy: policy, Domains: domains, Issuers: revocation.Issuers{Fetch: n.door}, Revocation: n.revocation,
		Transport: transport(n.cfg.Policy.KeyTransport), Log: n.log},
		n.publisher.agentKeys, finder{n.resolver}, n.queue, n.box, story{n.track})
	n.client = smtpclient.New(smtpclient.Options{Hostname: n.cfg.Node.Hostname, Port: uint16(n.cfg.Delivery.Port), Lookup: n.resolver, Self: []string{n.cfg.Node.Hostname}, Log: n.log})
	n.peering = newPeering(n)
	n.admin = admin.New(n.store, mailOrders{n.track, n.queue}, admin.Options{
		Hostname: n.cfg.Node.Hostname, Listen: n.publicAddresses(), LDAPPort: n.ldapPort(), Version: version(), Started: n.started.UTC(),
		Discover: n.discover(policy, domains), Secondary: n.peering.secondary, Fetch: n.fetchBundle, Log: n.log,
		MaxImport: n.cfg.Admin.MaxImport, TempDir: n.cfg.DataDir, Probe: probe.Prober{}, Listeners: n.ownListeners(),
	})
	return nil
}

func transport(name string) cms.KeyTransport {
	switch name {
	case "oaep-sha256":
		return cms.OAEPSHA256
	case "pkcs1-v1.5":
		return cms.PKCS1v15
	}
	return cms.OAEPSHA1
}

func (n *node) stubs() ([]resolver.Stub, error) {
	stubs := make([]resolver.Stub, 0, len(n.cfg.Resolver.Stub))
	for _, s := range n.cfg.Resolver.Stub {
		d, err := direct.ParseDomain(s.Domain)
		if err != nil {
			return nil, configError(fmt.Errorf("%s: %w", n.cfg.At("resolver.stub"), err))
		}
		stubs = append(stubs, resolver.Stub{Domain: d, Servers: s.Servers})
	}
	return stubs, nil
}

// publicAddresses are the addresses that the DNS server listens on, for the
// host name's own records.
func (n *node) publicAddresses() []netip.Addr {
	var addrs []netip.Addr
	for _, l := range n.cfg.DNS.Listen {
		if ap, err := netip.ParseAddrPort(l); err == nil && !ap.Addr().IsUnspecified() {
			addrs = append(addrs, ap.Addr())
		}
	}
	return addrs
}

// ownListeners are the addresses at which the node can be asked by itself.
func (n *node) ownListeners() admin.Listeners {
	addresses := func(list []string) (out []netip.AddrPort) {
		for _, l := range list {
			if ap, err := netip.ParseAddrPort(l); err == nil {
				out = append(out, ap)
			}
		}
		return out
	}
	return admin.Listeners{DNS: addresses(n.cfg.DNS.Listen), LDAP: addresses(n.cfg.LDAP.Listen), LDAPTLS: addresses(n.cfg.LDAP.ListenTLS)}
}

func (n *node) ldapPort() uint16 {
	for _, l := range n.cfg.LDAP.Listen {
		if ap, err := netip.ParseAddrPort(l); err == nil {
			return ap.Port()
		}
	}
	return 0
}

// run serves everything until ctx ends or one part fails, and returns when all
// have drained.
func (n *node) run(ctx context.Context) error {
	exempt, err := config.Prefixes(n.cfg.Limits.Exempt)
	if err != nil {
		return configError(err)
	}
	allow, err := config.Prefixes(n.cfg.SMTP.SubmissionAllow)
	if err != nil {
		return configError(err)
	}
	draining := context.AfterFunc(ctx, func() { n.monitor.notReady("the node is stopping") })
	defer draining()
	g, ctx := errgroup.WithContext(ctx)
	options, err := n.dnsOptions()
	if err != nil {
		return err
	}
	dns := dnsserver.New(n.publisher.zoneSet, options)
	for _, l := range n.listeners.dns {
		g.Go(func() error { return dns.Serve(ctx, l.udp, l.tcp) })
	}
	g.Go(func() error { return n.peering.run(ctx) })
	directory, err := n.ldapOptions(exempt)
	if err != nil {
		return err
	}
	ldap := ldapserver.New(n.publisher.ldapTree, directory)
	for _, l := range n.listeners.ldap {
		g.Go(func() error { return ldap.Serve(ctx, l) })
	}
	smtp := smtpserver.Options{Hostname: n.cfg.Node.Hostname, MaxMessageBytes: n.wireBytes(), Exempt: exempt, TLS: n.tls.config(), Log: n.log}
	mx := smtpserver.New(mxBackend{n.agent, n.queue, &n.mail}, smtp)
	for _, l := range n.listeners.mx {
		g.Go(func() error { return mx.Serve(ctx, l) })
	}
	smtp.MaxMessageBytes, smtp.Networks = n.cfg.SMTP.MaxMessageBytes, allow
	submission := smtpserver.New(submissionBackend{n.agent, &n.mail}, smtp)
	for _, l := range n.listeners.submission {
		g.Go(func() error { return submission.Serve(ctx, l) })
	}
	web := &public{view: n.store.View}
	for _, l := range n.listeners.public {
		g.Go(func() error { return n.servePublic(ctx, web, l, exempt) })
	}
	g.Go(func() error {
		return n.queue.Run(ctx, handlers(n.agent, n.queue, n.box, n.client, story{n.track}, &n.mail, n.log))
	})
	n.monitor.registry.MustRegister(&nodeMetrics{dns: dns, ldap: ldap, web: web, view: n.store.View, queue: n.queue.List, publisher: n.publisher, mail: &n.mail, now: time.Now, door: n.door, revocation: n.revocation})
	g.Go(func() error { return n.serveAdmin(ctx) })
	g.Go(func() error { return n.store.Settle(ctx) })
	g.Go(func() error { return n.publisher.tidy(ctx) })
	g.Go(func() error { return n.keepKeys(ctx) })
	g.Go(func() error { return n.keepFresh(ctx) })
	g.Go(func() error { return n.keepBundles(ctx) })
	g.Go(func() error { return n.reload(ctx, dns) })
	n.log.Info("serving", "host", n.cfg.Node.Hostname, "version", version(), "generation", n.store.View().Rev)
	n.monitor.ready()
	if ctx.Err() != nil {
		n.monitor.notReady("the node is stopping") // whichever came last
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // no service manager: nothing to tell
	err = g.Wait()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	n.log.Info("stopped", "err", err)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return &exitError{exitBug, err}
	}
	return nil
}

// ldapOptions are the operator's choices for the directory.
func (n *node) ldapOptions(exempt []netip.Prefix) (ldapserver.Options, error) {
	c := n.cfg.LDAP
	allow, err := config.Prefixes(c.ListAllow)
	if err != nil {
		return ldapserver.Options{}, configError(err)
	}
	return ldapserver.Options{
		TLS: n.tls.config(), Log: n.log, Exempt: exempt, ListAllow: allow,
		SearchRate: c.Rate, MissRate: c.MissRate, Connections: c.Connections, PerAddress: c.PerAddress,
	}, nil
}
