package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	names      int
	cases      []string
	peers      []string
	rounds     int
	starts     int
	changes    int
	rate       int
	seconds    time.Duration
	slow       int
	ripen      time.Duration // how long slow connections are there before anything is measured among them
	certOctets int
	bin        string
	out        string
	quick      bool
	serverCore int
	clientCore int
}

// wants says whether a case was asked for.
func (o *options) wants(key string) bool {
	return slices.Contains(o.cases, key)
}

// helperModes are what this program does beside, in processes of their own.
var helperModes = map[string]func(args []string) error{
	echoMode:   serveEcho,
	gldapMode:  serveGldap,
	goLDAPMode: runGoLDAP,
}

func main() {
	if len(os.Args) > 1 && helperModes[os.Args[1]] != nil {
		fail(helperModes[os.Args[1]](os.Args[2:]))
		return
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseOptions(args []string) (options, error) {
	var o options
	var cases, peers string
	var seconds float64
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.names, "names", 100_000, "how many names with a certificate the zone has")
	f.StringVar(&cases, "cases", "auto", "comma-separated: cert,tc,nx,mx,tcp8,tcp1,connect for the figures of a query; signed,start,import,change; "+
		"ldap,ldap8,ldapconnect for the figures of a search; goldap,ldapslow,ldapmem; auto chooses by the number of names")
	f.StringVar(&peers, "peers", "knot,nsd,bind,slapd,gldap", "comma-separated: whom to compare with")
	f.IntVar(&o.rounds, "rounds", 5, "how often each server is measured in each case")
	f.IntVar(&o.starts, "starts", 3, "how often each server is started in the case start")
	f.IntVar(&o.changes, "changes", 100, "how many certificates are replaced at most in the case change")
	f.IntVar(&o.rate, "rate", 20_000, "queries a second while certificates are replaced")
	f.IntVar(&o.slow, "slow", 4000, "how many idle and dripping connections there are in the case ldapslow")
	f.Float64Var(&seconds, "seconds", 2, "how long one measurement takes")
	f.IntVar(&o.certOctets, "cert-octets", 1199, "the size of a certificate")
	f.StringVar(&o.bin, "bin", "bin", "the folder with directd and directctl")
	f.StringVar(&o.out, "o", "", "the Markdown file whose section for this number of names is written")
	f.BoolVar(&o.quick, "quick", false, "1,000 names, one short round: shows that everything works, measures nothing")
	f.IntVar(&o.serverCore, "server-core", 0, "the core of the servers")
	f.IntVar(&o.clientCore, "client-core", 1, "the core of the generator")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.ripen = crowdRipens
	o.cases, o.peers, o.seconds = strings.Split(cases, ","), strings.Split(peers, ","), time.Duration(seconds*float64(time.Second))
	if o.quick {
		o.names, o.rounds, o.seconds, o.starts, o.changes, o.rate, o.slow = 1000, 1, 300*time.Millisecond, 1, 3, 2000, 200
		o.ripen = 0
		if cases == "auto" {
			o.cases = allCases()
		}
	}
	if slices.Equal(o.cases, []string{"auto"}) {
		o.cases = autoCases(o.names)
	}
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	known := allCases()
	for _, c := range o.cases {
		if !slices.Contains(known, c) {
			return fmt.Errorf("-cases %s: there is %s", c, strings.Join(known, ", "))
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%s: no arguments are taken", rest[0])
	case o.rounds < 1 || o.seconds <= 0 || o.starts < 1 || o.changes < 1 || o.rate < 1:
		return errors.New("-rounds, -seconds, -starts, -changes and -rate must be more than nothing")
	case o.slow < 2 || o.slow > maxSlow:
		return fmt.Errorf("-slow %d: give 2 to %d", o.slow, maxSlow)
	case o.quick && o.out != "":
		return errors.New("-quick measures nothing that may be published: leave -o out")
	case runtime.NumCPU() < 2:
		return errors.New("two cores are needed, one for the servers and one for the generator")
	}
	var err error
	o.bin, err = filepath.Abs(o.bin)
	return err
}

// part is what has a section of its own: servers and cases that go together.
type part struct {
	topic string // "" for DNS
	kinds []kind
	cases []string
}

// parts are DNS and LDAP, as far as cases of them were asked for.
func (o *options) parts(ours own) ([]part, error) {
	all := []part{{topic: "", kinds: []kind{ours}}, {topic: topicLDAP, kinds: []kind{ownDirectory{own: ours}}}}
	for n, cases := range [][]string{dnsCases(), directoryCases()} {
		for _, c := range o.cases {
			if slices.Contains(cases, c) {
				all[n].cases = append(all[n].cases, c)
			}
		}
	}
	for _, p := range o.peers {
		switch p {
		case "knot":
			all[0].kinds = append(all[0].kinds, knot{})
		case "nsd":
			all[0].kinds = append(all[0].kinds, nsd{})
		case "bind":
			all[0].kinds = append(all[0].kinds, bind{})
		case "slapd":
			all[1].kinds = append(all[1].kinds, slapd{})
		case "gldap":
			all[1].kinds = append(all[1].kinds, gldapServer{})
		case "":
		default:
			return nil, fmt.Errorf("-peers %s: there is knot, nsd, bind, slapd and gldap", p)
		}
	}
	return slices.DeleteFunc(all, func(p part) bool { return len(p.cases) == 0 }), nil
}

func run(ctx context.Context, o options) error {
	ldap, err := freePort()
	if err != nil {
		return err
	}
	b := &bench{o: o, own: own{bin: o.bin, ldap: ldap}, log: os.Stderr, gen: generator{core: o.clientCore}}
	parts, err := o.parts(b.own)
	if err != nil {
		return err
	}
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	lock, err := lockCache(cache, b.say)
	if err != nil {
		return err
	}
	defer lock.Close()
	if b.scratch, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.scratch)
	now := time.Now()
	b.say("making the data of %d names in %s, unless it is there", o.names, cache)
	if b.data, err = makeData(cache, o.names, o.certOctets, now); err != nil {
		return err
	}
	b.data.edited = o.wants(caseChange)
	if err := b.prepare(ctx, parts); err != nil {
		return err
	}
	for _, p := range parts {
		b.report = newReport(o.of(p), p.topic, now)
		if err := b.measure(ctx, p); err != nil {
			return err
		}
		if err := b.publish(); err != nil {
			return err
		}
	}
	return nil
}

// of are the options of one part alone.
func (o options) of(p part) options {
	o.cases = p.cases
	o.peers = nil
	for _, k := range p.kinds[1:] {
		o.peers = append(o.peers, strings.ToLower(k.name()))
	}
	return o
}

// prepare makes what the servers of the parts load.
func (b *bench) prepare(ctx context.Context, parts []part) error {
	took, err := b.own.prepare(ctx, b.data, filepath.Join(b.scratch, "import"))
	if err != nil {
		return err
	}
	if took > 0 {
		b.say("imported %d certificates in %.1f s, unbound and beside whatever else ran: %.0f a second", b.data.names, took.Seconds(), float64(b.data.names)/took.Seconds())
	}
	if err := os.RemoveAll(filepath.Join(b.scratch, "import")); err != nil {
		return err
	}
	for _, p := range parts {
		for _, k := range p.kinds {
			loads, ok := k.(interface {
				prepare(context.Context, *dataSet, func(string, ...any)) error
			})
			if !ok {
				continue
			}
			if err := loads.prepare(ctx, b.data, b.say); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				b.say("%s has no data: %v", k.name(), err)
			}
		}
	}
	return nil
}

// publish prints a report and writes it into its file.
func (b *bench) publish() error {
	text := b.report.markdown()
	fmt.Print(text)
	if b.o.out == "" {
		return nil
	}
	return replaceSection(b.o.out, b.report.section(), text)
}
