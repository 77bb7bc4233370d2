package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"directnode/dnsserver"
	"directnode/ldapserver"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/sta/queue"
	"directnode/store"
)

// nodeMetrics reads the counters that the rooms keep when somebody asks for
// them. Labels take a fixed few values: no label is an address, a name or a
// network of somebody.
type nodeMetrics struct {
	dns       *dnsserver.Server
	ldap      *ldapserver.Server
	web       *public
	view      func() *store.View
	queue     func(context.Context) ([]queue.Entry, error)
	publisher *publisher
	mail      *mailCounts
	now       func() time.Time

	door       *fetch.Door
	revocation *revocation.Service
}

// mailCounts counts messages at the door and at the mailbox.
type mailCounts struct {
	taken, refused         [2]atomic.Uint64 // by direction
	delivered, failed      atomic.Uint64    // deliveries to remote recipients, attempt by attempt
	published, undelivered atomic.Uint64    // into mailboxes; given up
}

// The directions of mailCounts.
const (
	mailIn = iota
	mailOut
)

var mailDirections = [2]string{"in", "out"}

// count notes what became of a message at one of the doors.
func (c *mailCounts) count(direction int, err error) {
	if err != nil {
		c.refused[direction].Add(1)
		return
	}
	c.taken[direction].Add(1)
}

// attempts notes the results of one attempt, recipient by recipient.
func (c *mailCounts) attempts(results []error) {
	for _, err := range results {
		if err != nil {
			c.failed.Add(1)
			continue
		}
		c.delivered.Add(1)
	}
}

// desc names a figure of the node.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("directnode_"+name, help, labels, nil)
}

// The figures, in the order of docs/OPERATING.md.
var (
	dnsQueries     = desc("dns_queries_total", "DNS queries answered, by transport.", "transport")
	dnsResults     = desc("dns_answers_total", "DNS answers by what they say; a truncated one counts as what it would have been.", "result")
	dnsTypes       = desc("dns_query_types_total", "DNS queries answered, by the type that was asked for.", "type")
	dnsConns       = desc("dns_tcp_connections", "DNS connections by TCP and TLS that are open.")
	dnsConnsEnded  = desc("dns_tcp_turned_away_total", "DNS connections that were refused for a limit, or evicted to make room.", "action")
	dnsSilent      = desc("dns_silent_total", "Packets that are no query and got no answer.")
	dnsTruncated   = desc("dns_truncated_total", "Answers with TC=1, by the reason: size, proof (the address must be proved first), rate.", "reason")
	dnsCookies     = desc("dns_cookie_total", "Queries by what their DNS cookie is worth: absent, client, foreign, stale, valid.", "state")
	dnsSuspects    = desc("dns_enumeration_suspects_total", "How often a network has come to ask for so many names that do not exist that it may be guessing at addresses.")
	dnsSuspectsNow = desc("dns_enumeration_suspects", "Networks that may be guessing at addresses now.")

	ldapResults  = desc("ldap_requests_total", "LDAP requests by result code (RFC 4511 appendix A).", "code")
	ldapSearches = desc("ldap_searches_total", "LDAP searches by what became of them: found, absent, limited (by size or time), denied, failed.", "result")
	ldapDenied   = desc("ldap_denied_total", "What LDAP clients were denied, by the reason: rate, misses, per_address and connections (limits), listing, complexity (a search beyond what one may ask).", "reason")
	ldapConns    = desc("ldap_connections", "LDAP connections that are open.")
	ldapAccepted = desc("ldap_connections_total", "LDAP connections that were accepted.")

	httpRequests = desc("http_requests_total", "Requests at the public HTTP listener: served, absent (404), refused (405).", "result")

	fetches     = desc("fetch_total", "What was fetched by HTTP: issuers (aia), revocation lists (crl), answers of responders (ocsp), certificates by URL (ipkix), trust bundles (bundle), by what came of it.", "kind", "result")
	statuses    = desc("revocation_total", "Certificates whose revocation status was asked for, by the answer.", "status")
	listAge     = desc("crl_age_seconds", "Age of the oldest revocation list that is kept, 0 without one.")
	listsKept   = desc("crl_kept", "Revocation lists that are kept: current, and those past their nextUpdate.", "state")
	answersKept = desc("ocsp_kept", "Answers of responders that are kept.")

	generationDesc   = desc("generation", "Generation of the store that is published; the serial of a zone is the one that last changed it.")
	commitsDesc      = desc("store_commits_total", "Changes of the store that were published since the start.")
	publishDesc      = desc("publish_seconds_total", "Seconds spent building generations.")
	zonesDesc        = desc("zones", "Domains that the node is authoritative for.")
	recordsDesc      = desc("zone_records", "Records of all zones, without certificates.")
	certificatesDesc = desc("certificates", "Certificates in the store.")

	mailMessages    = desc("smtp_messages_total", "Messages at the node's doors: in from other agents, out from our own users.", "direction", "result")
	mailDeliveries  = desc("smtp_delivery_attempts_total", "Attempts to hand a sealed message to a remote recipient's server.", "result")
	mailPublished   = desc("mail_delivered_total", "Messages put into a mailbox.")
	mailUndelivered = desc("mail_given_up_total", "Recipients who could not be reached within the lifetime of a message.")
	queueMessages   = desc("queue_messages", "What waits in the queue.", "kind", "state")
	queueOldest     = desc("queue_oldest_seconds", "Age of the oldest item that is due, 0 without one.")
)

// Describe implements prometheus.Collector.
func (m *nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		dnsQueries, dnsTypes, dnsConns, dnsConnsEnded, dnsResults, dnsSilent, dnsTruncated, dnsCookies, dnsSuspects, dnsSuspectsNow,
		ldapResults, ldapSearches, ldapDenied, ldapConns, ldapAccepted, httpRequests,
		fetches, statuses, listAge, listsKept, answersKept,
		generationDesc, commitsDesc, publishDesc, zonesDesc, recordsDesc, certificatesDesc,
		mailMessages, mailDeliveries, mailPublished, mailUndelivered, queueMessages, queueOldest,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	out := samples{ch}
	m.collectDNS(out)
	m.collectLDAP(out)
	out.counter(httpRequests, m.web.served.Load(), "served")
	out.counter(httpRequests, m.web.absent.Load(), "absent")
	out.counter(httpRequests, m.web.refused.Load(), "refused")
	m.collectFetches(out)
	m.collectStore(out)
	m.collectMail(out)
}

func (m *nodeMetrics) collectFetches(out samples) {
	counts := m.door.Counts()
	for _, kind := range fetch.Kinds() {
		out.counter(fetches, counts[kind][fetch.OK], string(kind), string(fetch.OK))
		for outcome, n := range counts[kind] {
			if outcome != fetch.OK {
				out.counter(fetches, n, string(kind), string(outcome))
			}
		}
	}
	kept := m.revocation.Stats(m.now())
	out.counters(statuses, kept.Results)
	out.gauge(listAge, kept.Oldest.Seconds())
	out.gauge(listsKept, float64(kept.Lists-kept.Expired), "current")
	out.gauge(listsKept, float64(kept.Expired), "expired")
	out.gauge(answersKept, float64(kept.Answers))
}

func (m *nodeMetrics) collectDNS(out samples) {
	s := m.dns.Stats()
	out.counter(dnsQueries, s.UDP, "udp")
	out.counter(dnsQueries, s.TCP, "tcp")
	out.counter(dnsSilent, s.Silent)
	out.counters(dnsTypes, s.Types)
	out.gauge(dnsConns, float64(s.Open))
	out.counter(dnsConnsEnded, s.Refused, "refused")
	out.counter(dnsConnsEnded, s.Evicted, "evicted")
	out.counters(dnsResults, s.Results)
	out.counters(dnsTruncated, s.Truncated)
	out.counters(dnsCookies, s.Cookies)
	out.counter(dnsSuspects, s.SuspectsSeen)
	out.gauge(dnsSuspectsNow, float64(len(s.Suspects)))
}

func (m *nodeMetrics) collectLDAP(out samples) {
	s := m.ldap.Stats()
	for code, n := range s.Results {
		out.counter(ldapResults, n, strconv.Itoa(code))
	}
	out.counters(ldapSearches, s.Searches)
	out.counters(ldapDenied, s.Denied)
	out.gauge(ldapConns, float64(s.Open))
	out.counter(ldapAccepted, s.Accepted)
}

func (m *nodeMetrics) collectStore(out samples) {
	v := m.view()
	records, certificates := 0, 0
	for _, d := range v.Domains() {
		data := v.Domain(d)
		records += len(data.Records)
		certificates += data.Certificates.Len()
	}
	out.gauge(generationDesc, float64(v.Rev))
	out.counter(commitsDesc, m.publisher.published.Load())
	out.sum(publishDesc, time.Duration(m.publisher.spent.Load()).Seconds())
	out.gauge(zonesDesc, float64(len(v.Domains())))
	out.gauge(recordsDesc, float64(records))
	out.gauge(certificatesDesc, float64(certificates))
}

// queueTime bounds the look into the queue: figures that come late are worth
// less than the rest in time.
const queueTime = 5 * time.Second

func (m *nodeMetrics) collectMail(out samples) {
	for i, direction := range mailDirections {
		out.counter(mailMessages, m.mail.taken[i].Load(), direction, "taken")
		out.counter(mailMessages, m.mail.refused[i].Load(), direction, "refused")
	}
	out.counter(mailDeliveries, m.mail.delivered.Load(), "delivered")
	out.counter(mailDeliveries, m.mail.failed.Load(), "failed")
	out.counter(mailPublished, m.mail.published.Load())
	out.counter(mailUndelivered, m.mail.undelivered.Load())
	ctx, cancel := context.WithTimeout(context.Background(), queueTime)
	defer cancel()
	list, err := m.queue(ctx)
	if err != nil {
		out.broken(queueMessages, err)
		return
	}
	type kindState struct{ kind, state string }
	depth := map[kindState]int{{"inbound", "due"}: 0, {"outbound", "due"}: 0, {"inbound", "held"}: 0}
	oldest := time.Duration(0)
	for _, e := range list {
		depth[kindState{e.Kind, e.State}]++
		if e.State == "due" {
			oldest = max(oldest, m.now().Sub(e.Created))
		}
	}
	for k, n := range depth {
		out.gauge(queueMessages, float64(n), k.kind, k.state)
	}
	out.gauge(queueOldest, oldest.Seconds())
}

// samples takes figures for one answer.
type samples struct{ ch chan<- prometheus.Metric }

func (s samples) counter(d *prometheus.Desc, n uint64, labels ...string) {
	s.sum(d, float64(n), labels...)
}

func (s samples) sum(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (s samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// counters takes a figure for each value of its only label.
func (s samples) counters(d *prometheus.Desc, by map[string]uint64) {
	for _, label := range slices.Sorted(maps.Keys(by)) {
		s.counter(d, by[label], label)
	}
}

func (s samples) broken(d *prometheus.Desc, err error) { s.ch <- prometheus.NewInvalidMetric(d, err) }
