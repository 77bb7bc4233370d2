// Package sta is the Security/Trust Agent: it decides what becomes of a
// message.
//
// Outbound (outbound.go): a submitted message and its envelope in; for every
// recipient a verdict; one signed and sealed message out to the queue, or a
// reply that says why not. Inbound (inbound.go, notify.go): an encrypted message as it
// crossed the wire in; for every recipient an acceptance or a refusal;
// deliveries to mailboxes and sealed notifications out, settled in one
// transaction.
//
// A step proves itself by the type it returns (stages.go): the queue takes
// nothing but a smime.Sealed, which only smime.Seal makes, from trust.Trusted
// values, which only trust.Evaluate makes; a mailbox gets nothing but what
// became Accepted. The package opens no socket and no file: discovery, keys,
// queue, mailbox and the mail's story come in through the interfaces below.
//
// Sources: the Applicability Statement for Secure Health Transport (AS) 2-4,
// RFC 5751 (S/MIME), RFC 3798 (MDN), RFC 3464 (DSN), RFC 5321 (replies).
package sta

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// Finder finds the certificates that somebody's domain publishes for an
// address (AS 2.3). Find may be called concurrently. Nothing published is a
// Found without certificates; an error says that it could not be determined
// now, which is never the same (AS 5, RFC 2308 §7).
type Finder interface {
	Find(ctx context.Context, a direct.Address) (Found, error)
}

// Keys is one immutable generation of what the administrator owns. The agent
// takes it once per message.
type Keys interface {
	// Local tells whether the domain is one of ours.
	Local(d direct.Domain) bool
	// Pairs gives the certificates with their private keys that act for the
	// address: its own first, then its organization's (AS 1.4), newest first.
	// Expired ones are among them: mail under way was encrypted to them.
	Pairs(a direct.Address) ([]Pair, error)
	// Anchors gives the trust anchors of a domain for one direction (AS 4.2.1).
	Anchors(d direct.Domain, way Way) []*x509.Certificate
}

// Pair is a certificate with its private key.
type Pair struct {
	Certificate *x509.Certificate
	Signer      cms.Signer
	Decrypter   cms.Decrypter // Key is nil where the key cannot decrypt
}

// Way tells the two directions of trust apart.
type Way int

// Mail that we send, mail that we receive.
const (
	Out Way = iota
	In
)

// Queue is the durable spool. What Put or Settle returned nil for survives a
// crash at any moment.
type Queue interface {
	// Put makes sealed messages due, each for each of its recipients: all of them
	// in one transaction, or none.
	Put(ctx context.Context, messages ...smime.Sealed) error
	// Settle ends an inbound item in one transaction: deliveries become due and
	// notices[i], unless zero, is queued with deliveries[i]. A delivery whose
	// message the recipient has had before is left out, its notice too; the
	// ones that are new are returned.
	Settle(ctx context.Context, item string, deliveries []mail.Delivery, notices []smime.Sealed) ([]mail.Delivery, error)
}

// Mailbox is where accepted messages go.
type Mailbox interface {
	// Stage writes a message durably where nobody reads it yet.
	Stage(ctx context.Context, rcpt direct.Address, name string, message io.Reader) (staged string, err error)
	// Publish makes a staged message visible; it may be called again.
	Publish(ctx context.Context, rcpt direct.Address, staged string) error
	// Discard removes a staged message that will not be published.
	Discard(staged string) error
}

// Story keeps what became of each message and recipient. Every method may be
// called again with the same arguments.
type Story interface {
	// Sent records a submitted message with one verdict per recipient.
	Sent(ctx context.Context, env mail.Envelope, messageID string, verdicts []Verdict) error
	// Withdrawn takes back what Sent recorded for this submission, because the
	// queue did not take it.
	Withdrawn(ctx context.Context, env mail.Envelope, messageID, reason string) error
	// Failed records that the queue has given a recipient up. applied is false
	// where the recipient's agent has said before that it has the message.
	Failed(ctx context.Context, messageID string, from, rcpt direct.Address, reason string, at time.Time) (applied bool, err error)
	// Received records an inbound message and what became of it.
	Received(ctx context.Context, env mail.Envelope, messageID string, outcomes []Outcome) error
	// Notified records a notification about a message of ours and tells whether
	// it counted.
	Notified(ctx context.Context, n Notice) (bool, error)
}

// Options are the agent's settings.
type Options struct {
	Hostname string       // in Reporting-UA, Reporting-MTA and Message-IDs
	Policy   trust.Policy // certificate rules and the profile

	// Domains are policies of single domains of ours, instead of Policy; the profile is Policy's for all.
	Domains map[direct.Domain]trust.Policy
	// Issuers and Revocation are asked about the certificates of others; see trust.Question. nil = nobody.
	Issuers    trust.Issuers
	Revocation trust.Revocation

	Transport cms.KeyTransport // how content keys travel to peers
	Log       *slog.Logger
}

// Agent decides. Its fields never change; its methods may be called
// concurrently.
type Agent struct {
	o      Options
	keys   func() Keys
	finder Finder
	queue  Queue
	box    Mailbox
	story  Story
}

// New makes an agent. keys gives the current generation.
func New(o Options, keys func() Keys, f Finder, q Queue, b Mailbox, s Story) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{o, keys, f, q, b, s}
}

// Local tells whether a domain is one of ours.
func (a *Agent) Local(d direct.Domain) bool { return a.keys().Local(d) }

// strict tells the stricter profile apart.
func (a *Agent) strict() bool { return a.o.Policy.Profile == "as-1.3" }

// audit writes the line that every trust decision leaves (AS 4.3, 3.2): who,
// for what, by which check. It holds no word of the message.
func (a *Agent) audit(id string, v Verdict, purpose string) {
	attrs := []any{"id", id, "address", v.Address.String(), "purpose", purpose, "source", v.Source, "state", v.State()}
	if v.Refusal != nil {
		attrs = append(attrs, "check", v.Refusal.Check, "citation", v.Refusal.Citation, "detail", v.Refusal.Detail)
	}
	for _, t := range v.Trusted {
		attrs = append(attrs, "certificate", fingerprint(t.Certificate()), "anchor", fingerprint(t.Anchor()))
	}
	a.o.Log.Info("trust decision", attrs...)
}

// policy is that of a domain of ours.
func (a *Agent) policy(d direct.Domain) trust.Policy {
	if p, ok := a.o.Domains[d]; ok {
		p.Profile = a.o.Policy.Profile
		return p
	}
	return a.o.Policy
}

// evaluate asks what is asked about every certificate of others: issuers that it points to, and whether it was revoked.
func (a *Agent) evaluate(ctx context.Context, own direct.Domain, q trust.Question) trust.Judgement {
	q.Policy, q.Issuers, q.Revocation = a.policy(own), a.o.Issuers, a.o.Revocation
	return trust.EvaluateContext(ctx, q)
}

// judge finds and evaluates the certificates of one correspondent for a domain of ours.
func (a *Agent) judge(ctx context.Context, f Finder, who direct.Address, own direct.Domain, anchors []*x509.Certificate, at time.Time) Verdict {
	found, err := f.Find(ctx, who)
	v := Verdict{Address: who, Source: found.Source}
	switch {
	case err != nil:
		v.Refusal = &trust.Refusal{Check: "discovery", Citation: "AS 2.3", Kind: trust.TemporaryFault, Detail: "the certificates could not be looked up: " + err.Error()}
	case len(found.Certificates) == 0:
		v.Refusal = &trust.Refusal{Check: "discovery", Citation: "AS 2.3", Kind: trust.NotFound, Detail: "no certificate is published for the address or its domain, neither in the DNS nor by LDAP"}
	default:
		j := a.evaluate(ctx, own, trust.Question{Address: who, Purpose: trust.Encrypt, Candidates: found.Certificates, Anchors: anchors, At: at})
		v.Trusted, v.Refusal = j.Trusted(), j.Refusal()
	}
	return v
}
