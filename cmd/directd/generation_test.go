package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/admin"
	"directnode/internal/spec"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/store/kv"
	"directnode/store/kv/memory"
)

// A certificate that an order has published by DNS and by LDAP is in both once
// the order has answered, one that it has removed is in neither, and nobody
// ever sees one without the other in between: both are one generation.

// subject is somebody with one certificate, and what orders did with it.
type subject struct {
	address string
	domain  bool // an organization: its address is a domain name
	file    []byte
	sha     string

	// turn is even while no order about the subject runs, and odd while one does.
	// present is what the last order that has ended left; a running one turns it
	// around.
	turn    atomic.Uint64
	present atomic.Bool
}

func newSubjects(t *testing.T, domain string, n int) (list []*subject) {
	t.Helper()
	ca := testpki.New(t).Root("Test CA")
	add := func(s *subject, o testpki.Option) {
		leaf := ca.Leaf(s.address, o)
		s.file, s.sha = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.DER}), store.Fingerprint(leaf.DER)
		list = append(list, s)
	}
	for i := range n {
		address := fmt.Sprintf("user%d@%s", i, domain)
		add(&subject{address: address}, testpki.Address(address))
	}
	add(&subject{address: domain, domain: true}, testpki.Domain(domain))
	return list
}

// questioner asks one node by DNS and by LDAP, on connections that it keeps.
type questioner struct {
	dns, ldap string
	dnsConn   *dns.Conn
	ldapConn  *ldap.Conn
}

func (q *questioner) close() {
	if q.dnsConn != nil {
		q.dnsConn.Close()
		q.dnsConn = nil
	}
	if q.ldapConn != nil {
		q.ldapConn.Close()
		q.ldapConn = nil
	}
}

// inDNS tells whether the subject's certificate is in the DNS.
func (q *questioner) inDNS(s *subject) (bool, error) {
	if q.dnsConn == nil {
		c, err := dns.DialTimeout("tcp", q.dns, testnode.Wait)
		if err != nil {
			return false, err
		}
		q.dnsConn = c
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(strings.ReplaceAll(s.address, "@", ".")), dns.TypeCERT)
	q.dnsConn.SetDeadline(time.Now().Add(testnode.Wait))
	err := q.dnsConn.WriteMsg(m)
	if err == nil {
		m, err = q.dnsConn.ReadMsg()
	}
	if err != nil {
		q.close()
		return false, err
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return false, fmt.Errorf("CERT of %s: %s", s.address, dns.RcodeToString[m.Rcode])
	}
	for _, rr := range m.Answer {
		cert, ok := rr.(*dns.CERT)
		if !ok {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(cert.Certificate)
		if err == nil && store.Fingerprint(der) == s.sha {
			return true, nil
		}
	}
	return false, nil
}

// inLDAP tells whether it is in the directory.
func (q *questioner) inLDAP(s *subject) (bool, error) {
	if q.ldapConn == nil {
		c, err := ldap.DialURL("ldap://" + q.ldap)
		if err != nil {
			return false, err
		}
		c.SetTimeout(testnode.Wait)
		q.ldapConn = c
	}
	r, err := q.ldapConn.Search(&ldap.SearchRequest{Scope: ldap.ScopeWholeSubtree, Filter: "(mail=" + s.address + ")", Attributes: []string{"userCertificate;binary"}})
	if err != nil {
		q.close()
		return false, err
	}
	for _, e := range r.Entries {
		for _, der := range e.GetRawAttributeValues("userCertificate;binary") {
			if store.Fingerprint(der) == s.sha {
				return true, nil
			}
		}
	}
	return false, nil
}

// both asks by the two ways, in either order.
func (q *questioner) both(s *subject, dnsFirst bool) (first, second bool, err error) {
	ways := []func(*subject) (bool, error){q.inDNS, q.inLDAP}
	if !dnsFirst {
		slices.Reverse(ways)
	}
	if first, err = ways[0](s); err == nil {
		second, err = ways[1](s)
	}
	return first, second, err
}

// judge holds two answers against what orders did, before and after them.
func judge(first, second bool, turn, turnAfter uint64, present bool) error {
	switch {
	case turn != turnAfter:
		return nil // orders came and went between the answers
	case turn%2 == 0 && (first != present || second != present):
		return fmt.Errorf("no order runs, the certificate is there: %v; answered %v, then %v", present, first, second)
	case turn%2 == 1 && first != present && second == present:
		// The order has turned it around for the one who asked first.
		return fmt.Errorf("one order runs, the certificate was there: %v; answered %v, then %v", present, first, second)
	}
	return nil
}

// watch asks about subjects by chance until ctx ends. A node that is being
// started answers nothing, and is asked again.
func watch(t *testing.T, ctx context.Context, q *questioner, subjects []*subject, r *rand.Rand) (asked, during int) {
	defer q.close()
	for ctx.Err() == nil {
		s := subjects[r.IntN(len(subjects))]
		turn, present := s.turn.Load(), s.present.Load()
		dnsFirst := r.IntN(2) == 0
		first, second, err := q.both(s, dnsFirst)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		if err := judge(first, second, turn, s.turn.Load(), present); err != nil {
			t.Errorf("%s, DNS first %v: %v", s.address, dnsFirst, err)
			return asked, during
		}
		asked++
		during += int(turn % 2)
	}
	return asked, during
}

// generations makes orders about subjects by chance, and asks after each.
func generations(t *testing.T, q *questioner, subjects []*subject, r *rand.Rand, order func(s *subject, wanted bool) error) {
	t.Helper()
	s := subjects[r.IntN(len(subjects))]
	wanted := !s.present.Load()
	s.turn.Add(1)
	if err := order(s, wanted); err != nil {
		t.Fatalf("%s: %v", s.address, err)
	}
	s.present.Store(wanted)
	s.turn.Add(1)
	first, second, err := q.both(s, r.IntN(2) == 0)
	if err != nil {
		t.Fatalf("%s: %v", s.address, err)
	}
	if first != wanted || second != wanted {
		t.Fatalf("%s: the order has answered and wants it there: %v; answered %v, then %v", s.address, wanted, first, second)
	}
}

// orders changes a subject by an administrator's orders.
func orders(ctx context.Context, do func(ctx context.Context, name string, req, ans any) error) func(s *subject, wanted bool) error {
	return func(s *subject, wanted bool) error {
		if !wanted {
			var done admin.Done
			return do(ctx, "cert.remove", admin.CertificateQuery{SHA256: s.sha}, &done)
		}
		var res admin.ImportResult
		err := do(ctx, "cert.import", admin.ImportRequest{Publish: []string{"dns", "ldap"}, Files: []admin.File{{Name: "c.pem", Data: s.file}}}, &res)
		if err == nil && res.Taken != 1 {
			err = fmt.Errorf("taken: %+v", res)
		}
		return err
	}
}

// stage is the part of a node that publishes: publisher, DNS and LDAP on
// loopback, over a store that outlives it.
type stage struct {
	t     *testing.T
	db    kv.Store
	dns   net.Listener
	udp   net.PacketConn
	ldap  net.Listener
	addrs [2]string
	admin *admin.Service
	stop  func()
}

func (g *stage) start() {
	g.t.Helper()
	p := &publisher{dit: dit.Options{Anonymous: dit.AnonymousExact}, log: slog.New(slog.DiscardHandler)}
	s, err := store.Open(g.t.Context(), g.db, store.Options{Prepare: p.prepare})
	if err != nil {
		g.t.Fatal(err)
	}
	g.admin = admin.New(s, nil, admin.Options{Hostname: "node.direct.example.org", Listen: nil, Log: slog.New(slog.DiscardHandler)})
	g.listen()
	ctx, cancel := context.WithCancel(context.Background())
	var servers sync.WaitGroup
	run := func(serve func() error) {
		servers.Go(func() {
			if err := serve(); err != nil {
				g.t.Error(err)
			}
		})
	}
	dnsServer, ldapServer := dnsserver.New(p.zoneSet, dnsserver.Options{}), ldapserver.New(p.ldapTree, ldapserver.Options{})
	run(func() error { return dnsServer.Serve(ctx, g.udp, g.dns) })
	run(func() error { return ldapServer.Serve(ctx, g.ldap) })
	g.stop = func() { cancel(); servers.Wait() }
}

// listen opens the addresses of the first start again.
func (g *stage) listen() {
	g.t.Helper()
	if g.addrs[0] == "" {
		g.udp, g.dns = listenBoth(g.t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			g.t.Fatal(err)
		}
		g.ldap, g.addrs = l, [2]string{g.dns.Addr().String(), l.Addr().String()}
		return
	}
	var errs [3]error
	g.udp, errs[0] = net.ListenPacket("udp", g.addrs[0])
	g.dns, errs[1] = net.Listen("tcp", g.addrs[0])
	g.ldap, errs[2] = net.Listen("tcp", g.addrs[1])
	if err := errors.Join(errs[:]...); err != nil {
		g.t.Fatal(err)
	}
}

// do carries an order out as the node's socket would.
func (g *stage) do(ctx context.Context, name string, req, ans any) error {
	switch r := req.(type) {
	case admin.ImportRequest:
		res, err := g.admin.ImportCertificates(ctx, r)
		*ans.(*admin.ImportResult) = res
		return err
	case admin.CertificateQuery:
		res, err := g.admin.RemoveCertificate(ctx, r)
		*ans.(*admin.Done) = res
		return err
	}
	return fmt.Errorf("no order %s", name)
}

// longer is how many orders a test gives; DIRECTNODE_GENERATIONS=N gives N.
func longer(t *testing.T, usual int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("DIRECTNODE_GENERATIONS")); err == nil {
		return n
	}
	return usual
}

// TestAnOrderIsPublishedByBothOrByNeither gives orders to a publisher with both
// servers, which now and then are started again, while others ask all the time.
func TestAnOrderIsPublishedByBothOrByNeither(t *testing.T) {
	spec.Covers(t, "AS-1.4-a", "AS-1.4-h")
	const domain = "direct.example.org"
	n := longer(t, 400)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	db := memory.New(memory.Options{})
	defer db.Close()
	g := &stage{t: t, db: db}
	g.start()
	if _, err := g.admin.AddDomain(t.Context(), admin.DomainRequest{Domain: domain, Addresses: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	subjects := newSubjects(t, domain, 12)
	ctx, cancel := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	var asked, during [3]int
	for i := range asked {
		watchers.Go(func() {
			asked[i], during[i] = watch(t, ctx, &questioner{dns: g.addrs[0], ldap: g.addrs[1]}, subjects, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
	q, r := &questioner{dns: g.addrs[0], ldap: g.addrs[1]}, rand.New(rand.NewPCG(seed, 99))
	restarts := 0
	for i := range n {
		if i%100 == 99 {
			q.close()
			g.stop()
			g.start()
			restarts++
		}
		generations(t, q, subjects, r, orders(t.Context(), func(ctx context.Context, name string, req, ans any) error { return g.do(ctx, name, req, ans) }))
		if t.Failed() {
			break
		}
	}
	cancel()
	watchers.Wait()
	q.close()
	g.stop()
	t.Logf("%d orders, %d restarts; others asked %v times, %v of them while an order about the same certificate ran", n, restarts, asked, during)
}

// TestAnOrderIsPublishedByBothInAWholeNode does so with the real daemon, its
// socket and its disk: orders, orderly restarts, and kills in the middle of an
// order, after which the certificate is in both or in neither.
func TestAnOrderIsPublishedByBothInAWholeNode(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	spec.Covers(t, "AS-1.4-a", "AS-1.4-h")
	w := testnode.Quickstart(t)
	n := longer(t, 40)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	subjects := newSubjects(t, w.Alice.Domain().String(), 8)
	connect := func() *questioner {
		return &questioner{dns: w.A.Config.DNS.Listen[0], ldap: w.A.Config.LDAP.Listen[0]}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	var asked, during [2]int
	for i := range asked {
		watchers.Go(func() {
			asked[i], during[i] = watch(t, ctx, connect(), subjects, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
	q, r := connect(), rand.New(rand.NewPCG(seed, 99))
	restarts, kills, both := 0, 0, 0
	for i := range n {
		switch i % 10 {
		case 4:
			q.close()
			w.A.Stop()
			w.A.Start()
			restarts++
		case 7, 9:
			q.close()
			if killed(t, w.A, q, subjects[r.IntN(len(subjects))], r) {
				both++
			}
			kills++
		}
		generations(t, q, subjects, r, orders(t.Context(), w.A.Client.Do))
		if t.Failed() {
			break
		}
	}
	cancel()
	watchers.Wait()
	q.close()
	t.Logf("%d orders, %d restarts, %d kills during an order, after which it was carried out %d times; others asked %v times, %v of them while an order about the same certificate ran", n, restarts, kills, both, asked, during)
}

// killed gives an order, kills the node in the middle of it and starts it
// again: the certificate is in both or in neither, and if the order has
// answered it is as that said. It tells whether the order was carried out.
func killed(t *testing.T, n *testnode.Node, q *questioner, s *subject, r *rand.Rand) bool {
	t.Helper()
	wanted := !s.present.Load()
	s.turn.Add(1)
	answer := make(chan error, 1)
	go func() { answer <- orders(context.Background(), n.Client.Do)(s, wanted) }()
	time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
	n.Kill()
	err := <-answer
	n.Launch()
	n.Ready()
	first, second, askErr := q.both(s, r.IntN(2) == 0)
	if askErr != nil {
		t.Fatal(askErr)
	}
	if first != second || err == nil && first != wanted {
		t.Fatalf("%s: killed during an order that wants it there: %v, and answered %v: now %v, then %v", s.address, wanted, err, first, second)
	}
	s.present.Store(first)
	s.turn.Add(1)
	return first == wanted
}
