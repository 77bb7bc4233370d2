package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/semaphore"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
	"directnode/sta"
	"directnode/sta/queue"
	"directnode/sta/smtpclient"
	"directnode/sta/smtpserver"
	"directnode/sta/track"
)

// This file fits rooms to the small interfaces that their users declare. It
// holds no decisions.

// finder is the resolver as the agent sees it.
type finder struct{ r *resolver.Resolver }

func (f finder) Find(ctx context.Context, a direct.Address) (sta.Found, error) {
	res, err := f.r.Discover(ctx, a)
	found := sta.Found{Address: a, Source: res.Source}
	if err != nil {
		return found, err
	}
	if res.Outcome == resolver.OutcomeTemporary {
		return found, res.Refusal()
	}
	found.Certificates = res.Certificates()
	return found, nil
}

// mxBackend takes mail from other agents: it is spooled as it came.
type mxBackend struct {
	agent  *sta.Agent
	queue  *queue.Queue
	counts *mailCounts
}

func (b mxBackend) Rcpt(_ context.Context, _ *smtpserver.Session, to direct.Address) error {
	return b.agent.Recipient(to)
}

func (b mxBackend) Data(ctx context.Context, env mail.Envelope, r io.Reader) (string, error) {
	id, err := b.queue.Receive(ctx, env, r, b.agent.Admit)
	b.counts.count(mailIn, err)
	if err != nil {
		return "", forPeer(err)
	}
	return "kept as " + id, nil
}

// forPeer lets the agent's replies stand for what the queue says of a limit.
func forPeer(err error) error {
	switch {
	case errors.Is(err, queue.ErrTooLarge), errors.Is(err, queue.ErrHeaderTooLarge):
		return sta.TooLarge(err)
	case errors.Is(err, queue.ErrNoSpace):
		return sta.NoSpace()
	}
	return err
}

// submissionBackend takes mail from our own users: it is sealed before it
// touches a disk.
type submissionBackend struct {
	agent  *sta.Agent
	counts *mailCounts
}

func (b submissionBackend) Rcpt(context.Context, *smtpserver.Session, direct.Address) error {
	return nil
}

func (b submissionBackend) Data(ctx context.Context, env mail.Envelope, r io.Reader) (string, error) {
	message, err := io.ReadAll(r) // bounded by the server
	if err != nil {
		return "", err
	}
	// The trace field of this hop tells where a user sits; the recipient gets
	// the message as it was submitted.
	h, _, err := mail.Split(message)
	if err == nil && len(h) > 0 && h[0].Name == "Received" {
		message = message[len(h[0].Raw):]
	}
	text, err := b.agent.Send(ctx, env, message, time.Now())
	b.counts.count(mailOut, err)
	return text, forPeer(err)
}

// handlers connects the queue's work to the agent and the client.
func handlers(agent *sta.Agent, q *queue.Queue, box sta.Mailbox, client *smtpclient.Client, story story, counts *mailCounts, log *slog.Logger) queue.Handlers {
	inbound := newBudget(inboundBudget)
	return queue.Handlers{
		Inbound: func(ctx context.Context, i queue.Item) error {
			release, err := inbound.take(ctx, i.Size)
			if err != nil {
				return err
			}
			defer release()
			raw, err := readItem(i)
			if err != nil {
				return err
			}
			return agent.Receive(ctx, i.ID, i.Envelope, raw, time.Now())
		},
		Publish: func(ctx context.Context, d mail.Delivery) error {
			err := box.Publish(ctx, d.Recipient, d.Staged)
			if err == nil {
				counts.published.Add(1)
			}
			return err
		},
		Outbound: func(ctx context.Context, a queue.Attempt) []error {
			var results []error
			if agent.Local(a.To[0].Domain()) {
				results = handOver(ctx, agent, q, a)
			} else {
				results = client.Deliver(ctx, a.From, a.To, a.Open)
				counts.attempts(results)
			}
			for i, err := range results {
				if err == nil && !a.Report {
					if err := story.t.Sent(ctx, a.MessageID, a.From, a.To[i], time.Now()); err != nil {
						log.Error("story", "id", a.ID, "err", err)
					}
				}
			}
			return results
		},
		Expired: func(ctx context.Context, a queue.Attempt, rcpt direct.Address, last error) error {
			counts.undelivered.Add(1)
			log.Warn("given up", "id", a.ID, "to", rcpt.String(), "report", a.Report, "err", last)
			if a.Report {
				return nil // AS 3.0-i
			}
			return agent.Undelivered(ctx, a.ID, a.MessageID, a.From, rcpt, last, time.Now())
		},
	}
}

// handOver takes a sealed message for a domain of our own into the inbound
// spool, as the MX side would: an agent does not connect to itself.
func handOver(ctx context.Context, agent *sta.Agent, q *queue.Queue, a queue.Attempt) []error {
	results := make([]error, len(a.To))
	for i, rcpt := range a.To {
		if results[i] = agent.Recipient(rcpt); results[i] != nil {
			continue
		}
		r, err := a.Open()
		if err != nil {
			results[i] = err
			continue
		}
		_, results[i] = q.Receive(ctx, mail.Envelope{From: a.From, To: []direct.Address{rcpt}, At: time.Now()}, r, agent.Admit)
		r.Close()
	}
	return results
}

// readItem reads a spooled message, whose size was bounded when it was spooled.
// A file of another size is damaged, and nothing is concluded from it.
func readItem(i queue.Item) ([]byte, error) {
	r, err := i.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw := make([]byte, i.Size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("message %s: %w", i.ID, err)
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return nil, fmt.Errorf("message %s: its file has more than %d octets: %w", i.ID, i.Size, err)
	}
	return raw, nil
}

// inboundBudget bounds the octets of inbound messages that are being opened at
// the same time. A message is held about four times over (as it came, decoded,
// decrypted, unwrapped), and who sends large ones at the same time needs no
// key: without a bound sixteen of them take gigabytes, and DNS and LDAP would
// go down with the mail.
const inboundBudget = 128 << 20

// budget is memory that is shared out; who gets none waits.
type budget struct {
	all  int64
	free *semaphore.Weighted
}

func newBudget(octets int64) budget { return budget{octets, semaphore.NewWeighted(octets)} }

// take waits for its share; what is larger than the whole gets the whole.
func (b budget) take(ctx context.Context, octets int64) (release func(), err error) {
	n := min(octets, b.all)
	if err := b.free.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { b.free.Release(n) }, nil
}

// story is the mail's story as the agent sees it.
type story struct{ t *track.Track }

func (s story) Sent(ctx context.Context, env mail.Envelope, messageID string, verdicts []sta.Verdict) error {
	m := track.Message{Direction: track.Out, MessageID: messageID, From: env.From.String(), At: env.At, Submission: env.ID}
	for _, v := range verdicts {
		r := track.Recipient{Address: v.Address.String(), State: track.State(v.State())}
		if v.Refusal != nil {
			r.Reason = v.Refusal.Error()
		}
		m.Recipients = append(m.Recipients, r)
	}
	return s.t.Expect(ctx, m)
}

func (s story) Withdrawn(ctx context.Context, env mail.Envelope, messageID, reason string) error {
	return s.t.Withdraw(ctx, track.Message{MessageID: messageID, From: env.From.String(), Submission: env.ID}, reason)
}

func (s story) Failed(ctx context.Context, messageID string, from, rcpt direct.Address, reason string, at time.Time) (bool, error) {
	return s.t.Failed(ctx, messageID, from, rcpt, reason, at)
}

func (s story) Received(ctx context.Context, env mail.Envelope, messageID string, outcomes []sta.Outcome) error {
	if messageID == "" {
		messageID = env.ID // nothing of the message could be read: our own name for it
	}
	m := track.Message{Direction: track.In, MessageID: messageID, From: env.From.String(), At: env.At}
	for _, o := range outcomes {
		m.Recipients = append(m.Recipients, track.Recipient{Address: o.Address.String(), State: track.State(o.State), Reason: o.Reason})
	}
	return s.t.Delivered(ctx, m)
}

func (s story) Notified(ctx context.Context, n sta.Notice) (bool, error) {
	return s.t.Record(ctx, track.Notification{
		MessageID: n.MessageID, Original: n.Original, Recipient: n.Recipient, To: n.To, Signer: n.Signer,
		Disposition: n.Disposition, Reason: n.Reason, At: n.At,
	})
}

// mailOrders is the mail's side as the administrator's orders see it.
type mailOrders struct {
	t *track.Track
	q *queue.Queue
}

func (m mailOrders) Messages(limit int) ([]admin.Message, error) {
	list, err := m.t.List(context.Background(), limit)
	out := make([]admin.Message, 0, len(list))
	for _, x := range list {
		out = append(out, adminMessage(x))
	}
	return out, err
}

func (m mailOrders) Message(id string) (admin.Message, bool, error) {
	x, ok, err := m.t.Show(context.Background(), id)
	return adminMessage(x), ok, err
}

func adminMessage(x track.Message) admin.Message {
	m := admin.Message{Direction: string(x.Direction), MessageID: x.MessageID, From: x.From, At: x.At, Recipients: []admin.Recipient{}}
	for _, n := range x.Notifications {
		m.Notifications = append(m.Notifications, adminNotification(n))
	}
	for _, r := range x.Recipients {
		out := admin.Recipient{Address: r.Address, State: string(r.State), Reason: r.Reason}
		for _, n := range r.Notifications {
			out.Notifications = append(out.Notifications, adminNotification(n))
		}
		m.Recipients = append(m.Recipients, out)
	}
	return m
}

func adminNotification(n track.Note) admin.Notification {
	return admin.Notification{MessageID: n.MessageID, Disposition: n.Disposition, At: n.At, Counted: n.Counted, Reason: n.Reason, Signer: n.Signer, Recipient: n.Recipient}
}

func (m mailOrders) Queue() admin.QueueOrders { return queueOrders{m.q} }

type queueOrders struct{ q *queue.Queue }

func (o queueOrders) List() ([]admin.QueueItem, error) {
	entries, err := o.q.List(context.Background())
	list := make([]admin.QueueItem, 0, len(entries))
	for _, e := range entries {
		list = append(list, admin.QueueItem{
			ID: e.ID, Kind: e.Kind, State: e.State, MessageID: e.MessageID, From: e.From, To: e.To,
			Attempts: e.Attempts, Created: e.Created, Next: e.Next, LastError: e.LastError,
		})
	}
	return list, err
}

func (o queueOrders) Retry(id string) error { return o.q.Retry(context.Background(), id) }
func (o queueOrders) Drop(id string) error  { return o.q.Drop(context.Background(), id) }

// discover answers the administrator's question with the node's own resolver
// and the outbound anchors of one of its domains, as the agent would judge. For
// a record everything is fetched through the door anew, so that it is complete.
func (n *node) discover(policy trust.Policy, domains map[direct.Domain]trust.Policy) admin.DiscoverFunc {
	return func(ctx context.Context, a direct.Address, as direct.Domain, record bool) (admin.DiscoverResponse, error) {
		j := resolver.Judging{
			Anchors: n.publisher.agentKeys().Anchors(as, sta.Out), AnchorsKnown: !as.IsZero(), Policy: policy, At: time.Now(),
			Issuers: revocation.Issuers{Fetch: n.door}, Revocation: n.revocation,
		}
		if p, ok := domains[as]; ok {
			j.Policy = p
		}
		if !record {
			res, err := n.resolver.Discover(ctx, a)
			if err != nil {
				return admin.DiscoverResponse{}, err
			}
			return admin.DiscoverResponse{Report: resolver.Judge(ctx, res, j)}, nil
		}
		res, rec, err := n.resolver.DiscoverRecorded(ctx, a)
		if err != nil {
			return admin.DiscoverResponse{}, err
		}
		report, err := resolver.JudgeRecorded(ctx, res, rec, n.door, j)
		return admin.DiscoverResponse{Report: report, Record: rec}, err
	}
}
