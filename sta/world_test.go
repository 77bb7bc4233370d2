package sta_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta"
	"directnode/sta/smime"
)

// world is an agent on memory: what it sealed, delivered and told.
type world struct {
	t     *testing.T
	agent *sta.Agent

	pki        *testpki.PKI
	root       *testpki.CA
	pairs      map[string][]sta.Pair          // by address or domain key
	anchors    map[string][]*x509.Certificate // by domain
	found      map[string][][]byte            // by address key
	findErr    error
	outOnly    bool  // the anchors are for mail that we send
	putErr     error // what Put answers
	puts       int   // calls of Put
	sealed     []smime.Sealed
	settled    []string
	seen       map[string]bool
	notices    []smime.Sealed
	staged     map[string][]byte
	mailbox    map[string][]byte // recipient → last message published
	deliveries int
	verdicts   []sta.Verdict
	withdrawn  []string
	failed     []string
	arrived    bool // Failed does not apply
	outcomes   []sta.Outcome
	notified   []sta.Notice
	count      bool           // what Notified answers
	stranger   direct.Address // for whom nothing counts
	slow       time.Duration
	panics     bool         // Find does
	finds      atomic.Int64 // calls of Find
}

// newWorld is node b.direct.test with bob, who trusts root.
func newWorld(t *testing.T, profile string) *world {
	w := &world{
		t: t, pki: testpki.New(t), count: true,
		pairs: map[string][]sta.Pair{}, anchors: map[string][]*x509.Certificate{}, found: map[string][][]byte{},
		seen: map[string]bool{}, staged: map[string][]byte{}, mailbox: map[string][]byte{},
	}
	w.root = w.pki.Root("Test Root")
	for _, d := range []string{"a.direct.test", "b.direct.test"} {
		w.anchors[d] = []*x509.Certificate{w.root.Cert}
	}
	w.agent = sta.New(sta.Options{Hostname: "node-b.direct.test", Policy: trust.Policy{Profile: profile}},
		func() sta.Keys { return keys{w} }, finder{w}, queue{w}, mailbox{w}, story{w})
	return w
}

// user gives a user of the node a certificate with its key, published.
func (w *world) user(address string, options ...testpki.Option) sta.Pair {
	p := w.root.Leaf(address, append([]testpki.Option{testpki.Address(address)}, options...)...)
	pair := sta.Pair{Certificate: p.Cert, Signer: cms.Signer{Certificate: p.Cert, Key: p.Key}}
	if d, ok := p.Key.(crypto.Decrypter); ok {
		pair.Decrypter = cms.Decrypter{Certificate: p.Cert, Key: d}
	}
	w.pairs[address] = append(w.pairs[address], pair)
	w.found[address] = append(w.found[address], p.DER)
	return pair
}

type keys struct{ w *world }

func (k keys) Local(d direct.Domain) bool {
	return d.String() == "b.direct.test" || d.String() == "a.direct.test"
}
func (k keys) Pairs(a direct.Address) ([]sta.Pair, error) {
	return append(append([]sta.Pair{}, k.w.pairs[a.Key()]...), k.w.pairs[a.Domain().String()]...), nil
}
func (k keys) Anchors(d direct.Domain, way sta.Way) []*x509.Certificate {
	if way == sta.In && k.w.outOnly {
		return nil
	}
	return k.w.anchors[d.String()]
}

type finder struct{ w *world }

func (f finder) Find(_ context.Context, a direct.Address) (sta.Found, error) {
	f.w.finds.Add(1)
	time.Sleep(f.w.slow)
	if f.w.panics {
		panic("a bug in the resolver")
	}
	return sta.Found{Address: a, Certificates: f.w.found[a.Key()], Source: "dns-address"}, f.w.findErr
}

type queue struct{ w *world }

func (q queue) Put(_ context.Context, messages ...smime.Sealed) error {
	q.w.puts++
	if q.w.putErr != nil {
		return q.w.putErr
	}
	q.w.sealed = append(q.w.sealed, messages...)
	return nil
}

func (q queue) Settle(_ context.Context, item string, ds []mail.Delivery, notices []smime.Sealed) ([]mail.Delivery, error) {
	q.w.settled = append(q.w.settled, item)
	if len(ds) != len(notices) {
		return nil, errors.New("deliveries and notices do not belong together")
	}
	var fresh []mail.Delivery
	for i, d := range ds {
		key := d.Recipient.Key() + string(d.Digest[:])
		if q.w.seen[key] {
			continue
		}
		q.w.seen[key] = true
		fresh = append(fresh, d)
		if !notices[i].IsZero() {
			q.w.notices = append(q.w.notices, notices[i])
		}
		if err := mailbox(q).Publish(context.Background(), d.Recipient, d.Staged); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

type mailbox struct{ w *world }

func (m mailbox) Stage(_ context.Context, rcpt direct.Address, name string, message io.Reader) (string, error) {
	b, err := io.ReadAll(message)
	handle := rcpt.Key() + "/" + name
	m.w.staged[handle] = b
	return handle, err
}

func (m mailbox) Publish(_ context.Context, rcpt direct.Address, staged string) error {
	if b, ok := m.w.staged[staged]; ok {
		m.w.mailbox[rcpt.Key()] = b
		m.w.deliveries++
		delete(m.w.staged, staged)
	}
	return nil
}

func (m mailbox) Discard(staged string) error {
	delete(m.w.staged, staged)
	return nil
}

type story struct{ w *world }

func (s story) Sent(_ context.Context, _ mail.Envelope, _ string, v []sta.Verdict) error {
	s.w.verdicts = v
	return nil
}

func (s story) Withdrawn(_ context.Context, env mail.Envelope, messageID, reason string) error {
	s.w.withdrawn = append(s.w.withdrawn, env.ID+" "+messageID+" "+reason)
	return nil
}

func (s story) Failed(_ context.Context, messageID string, from, rcpt direct.Address, reason string, _ time.Time) (bool, error) {
	s.w.failed = append(s.w.failed, messageID+" "+from.Key()+" "+rcpt.Key()+" "+reason)
	return !s.w.arrived, nil
}

func (s story) Received(_ context.Context, _ mail.Envelope, _ string, o []sta.Outcome) error {
	s.w.outcomes = o
	return nil
}

func (s story) Notified(_ context.Context, n sta.Notice) (bool, error) {
	s.w.notified = append(s.w.notified, n)
	return s.w.count && !n.To.Equal(s.w.stranger), nil
}

func address(t *testing.T, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *world) envelope(from string, to ...string) mail.Envelope {
	w.t.Helper()
	e := mail.Envelope{ID: fmt.Sprintf("id%d", len(w.settled)+len(w.sealed)), At: testpki.Now()}
	if e.NullPath = from == ""; !e.NullPath {
		e.From = address(w.t, from)
	}
	for _, s := range to {
		e.To = append(e.To, address(w.t, s))
	}
	return e
}

// letter composes a message with a canary in subject and body.
func letter(from, to, extra string) []byte {
	return []byte("From: " + from + "\r\nTo: " + to + "\r\nSubject: canary-subject\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\nMessage-ID: <1@a.direct.test>\r\n" +
		extra + "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\ncanary-body\r\n")
}

// seal is a peer: it signs and seals like one, with any pair and for any
// certificates.
func (w *world) seal(message []byte, signer sta.Pair, from string, to ...string) []byte {
	w.t.Helper()
	signed, err := smime.Sign(message, []cms.Signer{signer.Signer}, testpki.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	var trusted []trust.Trusted
	for _, rcpt := range to {
		j := trust.Evaluate(trust.Question{Address: address(w.t, rcpt), Purpose: trust.Encrypt, Candidates: w.found[rcpt], Anchors: []*x509.Certificate{w.root.Cert}, At: testpki.Now()})
		trusted = append(trusted, j.Trusted()...)
	}
	sealed, err := smime.Seal(signed, address(w.t, from), trusted, smime.SealOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return octets(w.t, sealed)
}

func octets(t *testing.T, s smime.Sealed) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) receive(env mail.Envelope, raw []byte) error {
	return w.agent.Receive(context.Background(), env.ID, env, raw, testpki.Now())
}

func (w *world) send(env mail.Envelope, message []byte) (string, error) {
	return w.agent.Send(context.Background(), env, message, testpki.Now())
}

const (
	alice = "alice@a.direct.test"
	bob   = "bob@b.direct.test"
	carol = "carol@b.direct.test"
)
