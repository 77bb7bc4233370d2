package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"

	"directnode/internal/direct"

	"github.com/miekg/dns"
)

// outside is whom a discovery asks: the network with what is remembered of it, or the record of an earlier discovery.
type outside interface {
	// known gives an answer that needs nobody to be asked.
	known(q question) (heard, bool)
	// ask puts a question to the DNS. Any number may run at once.
	ask(ctx context.Context, q question) heard
	// directory looks for an address and its domain at one LDAP server. patience is how many parts of the time of ctx must be left when
	// the last host did not answer.
	directory(ctx context.Context, t target, hosts []host, a direct.Address, spare int) session
	// trustAnchors are the DS and DNSKEY records that our own validation begins at.
	trustAnchors() []dns.RR
	// fetch gets what a URL in a CERT record names.
	fetch(ctx context.Context, url string) fetched
}

// discovery is one run of Discover.
type discovery struct {
	rules   rules
	out     outside
	res     Result
	rec     *Record // nil: nobody wants it
	lottery *rand.Rand
	refused []string // servers that were not asked because of where they are
}

// rules are the options that decide how a discovery proceeds; they belong to its record.
type rules struct {
	Sequential bool          `json:"sequential,omitempty"`
	SRVRandom  bool          `json:"srv_random,omitempty"`
	DropTag    bool          `json:"drop_tag,omitempty"`
	Validate   bool          `json:"validate,omitempty"`
	Timeout    time.Duration `json:"timeout"`
	Budget     time.Duration `json:"budget"`
	Seed       uint64        `json:"seed,omitempty"` // of the lottery among LDAP servers

	Allow []netip.Prefix `json:"allow,omitempty"` // addresses inside that may be connected to
}

// Discover looks for the certificates of an address. A Result always comes back; its Outcome says whether there are certificates
// (Found), whether there are none, or whether that could not be learned now. The error is for a question that is none.
func (r *Resolver) Discover(ctx context.Context, a direct.Address) (Result, error) {
	res, _, err := r.discover(ctx, a, nil)
	return res, err
}

// DiscoverRecorded is Discover with a record of all that was heard, from which Replay makes the same Result again.
func (r *Resolver) DiscoverRecorded(ctx context.Context, a direct.Address) (Result, *Record, error) {
	return r.discover(ctx, a, &Record{Version: recordVersion})
}

func (r *Resolver) discover(ctx context.Context, a direct.Address, rec *Record) (Result, *Record, error) {
	if a.IsZero() {
		return Result{}, nil, errors.New("resolver: no address to discover")
	}
	d := &discovery{rules: r.rules, out: network{r}, rec: rec}
	if d.rules.SRVRandom {
		d.rules.Seed = rand.Uint64()
	}
	d.run(ctx, a, time.Now())
	d.res.Elapsed = time.Since(d.res.Began)
	if rec != nil {
		rec.Address, rec.Rules, rec.Began, rec.Elapsed = a.String(), d.rules, d.res.Began, d.res.Elapsed
		for _, rr := range r.anchors {
			rec.Anchors = append(rec.Anchors, rr.String())
		}
	}
	if r.log.Enabled(ctx, slog.LevelInfo) {
		r.log.InfoContext(ctx, "discover", "address", a.String(), "outcome", d.res.Outcome, "source", d.res.Source,
			"certificates", len(d.res.Found), "steps", len(d.res.Steps), "ms", d.res.Elapsed.Milliseconds(), "detail", d.res.Detail)
	}
	return d.res, rec, nil
}

// run searches for the address, and where policy drops tags and nothing was found, for the address without its tag (RFC 5233).
func (d *discovery) run(ctx context.Context, a direct.Address, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, d.rules.Budget)
	defer cancel()
	d.lottery = rand.New(rand.NewPCG(d.rules.Seed, 0))
	d.res = Result{Address: a, Subject: a, Began: began}
	d.search(ctx)
	if untagged, tagged := a.WithoutTag(); tagged && d.rules.DropTag && d.res.Outcome == OutcomeNotFound {
		d.res.Subject = untagged
		d.search(ctx)
	}
	if len(d.res.Found) > 0 {
		d.res.Source, d.res.Detail = d.res.Found[0].Source, ""
	}
	for _, s := range d.refused {
		d.res.Detail = shorten(join(d.res.Detail, s))
	}
}

// place is somewhere to look: what is asked there first, and what is made of the answer. judge gives "" if the place holds nothing,
// else the outcome that ends the search.
type place struct {
	kind     string
	question question
	judge    func(*discovery, context.Context, lookup) (outcome string)
	never    string // why it cannot be asked
}

// places is the order of the Implementation Guide; see the package comment for the rule that stops it.
func places(a direct.Address) []place {
	domain := a.Domain()
	first := place{kind: KindDNS, judge: (*discovery).dnsAddress}
	if name, err := a.DNSName(); err != nil {
		// AS 5.1 has no form for such an address, so nothing can be published under it: the domain is next.
		first.never, first.question = err.Error(), question{a.String(), dns.TypeCERT}
	} else {
		first.question = question{name, dns.TypeCERT}
	}
	return []place{
		first,
		{kind: KindDNS, question: question{domain.DNSName(), dns.TypeCERT}, judge: (*discovery).dnsDomain},
		{kind: KindLDAP, question: question{srvName(domain), dns.TypeSRV}, judge: (*discovery).directories},
	}
}

// search goes through the places in their order. All are asked at once, as far as nobody knows yet that an earlier one holds something;
// the order decides which answer counts, and what comes after that is not waited for.
func (d *discovery) search(ctx context.Context) {
	d.res.Outcome, d.res.Detail = OutcomeNotFound, "there is no certificate for this address"
	order := places(d.res.Subject)
	begun := make([]*pending, 0, len(order))
	ended := ""
	for i, p := range order {
		if ended != "" {
			d.passOver(p, i < len(begun) && begun[i].underway(), ended)
			continue
		}
		for n := len(begun); n <= i || n < len(order) && !d.rules.Sequential && begun[n-1].open(); n++ {
			begun = append(begun, d.begin(ctx, order[n]))
		}
		if p.never != "" {
			d.step(Step{Kind: p.kind, Question: p.question.String(), Outcome: "not_asked", Detail: p.never})
			continue
		}
		if outcome := p.judge(d, ctx, begun[i].wait(ctx, d)); outcome != "" {
			d.res.Outcome, ended = outcome, "the search ended before: "+outcome
		}
	}
}

// passOver records a place that did not matter any more.
func (d *discovery) passOver(p place, asked bool, why string) {
	outcome := "not_asked"
	if asked {
		outcome, why = "not_needed", "asked at the same time; "+why
	}
	d.step(Step{Kind: p.kind, Question: p.question.String(), Outcome: outcome, Detail: why})
}

// temporary ends the search without an answer.
func (d *discovery) temporary(detail string) string {
	d.res.Detail = shorten(detail)
	return OutcomeTemporary
}

// pending is a look-up that was begun.
type pending struct {
	question question
	known    bool // the first answer needs nobody to be asked
	first    heard
	done     chan struct{} // nil: not under way; it is made when it is waited for
	result   lookup
	fault    any  // a panic of the look-up
	kept     bool // it is in the record, and result is what it was waited for
}

// begin starts a look-up, unless its answer is known or one thing is to be asked after the other.
func (d *discovery) begin(ctx context.Context, p place) *pending {
	if p.never != "" {
		return &pending{question: p.question}
	}
	return d.beginLookup(ctx, p.question)
}

func (d *discovery) beginLookup(ctx context.Context, q question) *pending {
	p := &pending{question: q}
	if p.first, p.known = d.out.known(q); p.known || d.rules.Sequential {
		return p
	}
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		defer func() { p.fault = fault(recover()) }()
		p.result = chase(q, func(q question) heard { return d.out.ask(ctx, q) })
	}()
	return p
}

// fault gives a panic of a goroutine the stack that it came from, for the one who waits.
func fault(p any) any {
	if p == nil {
		return nil
	}
	return fmt.Sprintf("%v\n%s", p, debug.Stack())
}

// underway tells whether somebody was asked.
func (p *pending) underway() bool { return p.done != nil }

// open tells whether the answer is not known yet, so that others may be asked beside it.
func (p *pending) open() bool { return !p.known }

// wait gives the answer, or says that the time was up. What a discovery waited for belongs to its record.
func (p *pending) wait(ctx context.Context, d *discovery) lookup {
	if p.kept {
		return p.result
	}
	l := p.get(ctx, d)
	d.rec.lookup(l)
	if p.done == nil || l.err == nil || l.err.Detail != outOfTime {
		p.kept = true // else another server of the same host may wait for it again
	}
	return l
}

// get gives the answer.
func (p *pending) get(ctx context.Context, d *discovery) lookup {
	if p.done == nil {
		ask := func(q question) heard { return d.out.ask(ctx, q) }
		if p.known {
			ask = func(q question) heard {
				if sameQuestion(q, p.question) {
					return p.first
				}
				return d.out.ask(ctx, q)
			}
		}
		p.result = chase(p.question, ask)
		return p.result
	}
	select {
	case <-p.done:
		if p.fault != nil {
			panic(p.fault)
		}
	case <-ctx.Done():
		l := lookup{question: p.question, heard: []heard{{failure: outOfTime}}}
		l.err = &LookupError{Name: p.question.name, Type: dns.TypeToString[p.question.qtype], Detail: outOfTime}
		return l
	}
	return p.result
}

func (d *discovery) dnsAddress(ctx context.Context, l lookup) string {
	return d.certificates(ctx, l, SourceDNSAddress)
}

func (d *discovery) dnsDomain(ctx context.Context, l lookup) string {
	return d.certificates(ctx, l, SourceDNSDomain)
}

// certificates takes what CERT records hold.
func (d *discovery) certificates(ctx context.Context, l lookup, source string) string {
	step := d.take(l, 0)
	if l.err != nil {
		return d.temporary(l.err.Error())
	}
	d.validate(ctx, l, step)
	var urls []string
	for _, v := range valuesOf(l) {
		switch {
		case v.URL == "":
			d.keep(v.DER, source, step, v.Err)
		case len(urls) < maxURLs:
			urls = append(urls, v.URL)
		default:
			d.keep(nil, source, step, fmt.Errorf("more than %d URLs; the rest is left out", maxURLs))
		}
	}
	unknown := d.fetchAll(ctx, urls, source, step)
	switch {
	case len(d.res.Found) > 0:
		return OutcomeFound
	case unknown != "":
		// A certificate is published here, and nobody can tell now what it is.
		return d.temporary(unknown)
	}
	return ""
}

// keep files one value under certificates or under skipped ones, and says on its step why it was skipped.
func (d *discovery) keep(der []byte, source string, step int, err error) {
	if err == nil {
		err = notACertificate(der)
	}
	f := Found{DER: der, Source: source, Step: step, Err: err}
	if err != nil {
		if len(d.res.Skipped) < maxSkipped {
			f.DER = nil
			d.res.Skipped = append(d.res.Skipped, f)
			d.note(step, err.Error())
		}
		return
	}
	for _, have := range d.res.Found {
		if string(have.DER) == string(der) {
			return
		}
	}
	if len(d.res.Found) == maxFound {
		d.note(step, fmt.Sprintf("more than %d certificates; the rest is left out", maxFound))
		return
	}
	d.res.Found = append(d.res.Found, f)
}

// network is the outside itself.
type network struct{ r *Resolver }

func (n network) known(q question) (heard, bool) {
	h, age, ok := n.r.answers.get(q.key(), time.Now())
	if !ok {
		return heard{}, false
	}
	return h.remembered(age), true
}

func (n network) ask(ctx context.Context, q question) heard { return n.r.ask(ctx, q) }

func (n network) trustAnchors() []dns.RR { return n.r.anchors }
