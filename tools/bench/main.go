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

func main() {
	if len(os.Args) > 1 && os.Args[1] == echoMode {
		fail(serveEcho(os.Args[2:]))
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
	f.StringVar(&cases, "cases", "auto", "comma-separated: cert,tc,nx,mx,tcp8,tcp1,connect for the figures of a query; signed,start,import,change; auto chooses by the number of names")
	f.StringVar(&peers, "peers", "knot,nsd,bind", "comma-separated: whom to compare with")
	f.IntVar(&o.rounds, "rounds", 5, "how often each server is measured in each case")
	f.IntVar(&o.starts, "starts", 3, "how often each server is started in the case start")
	f.IntVar(&o.changes, "changes", 100, "how many certificates are replaced at most in the case change")
	f.IntVar(&o.rate, "rate", 20_000, "queries a second while certificates are replaced")
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
	o.cases, o.peers, o.seconds = strings.Split(cases, ","), strings.Split(peers, ","), time.Duration(seconds*float64(time.Second))
	if o.quick {
		o.names, o.rounds, o.seconds, o.starts, o.changes, o.rate = 1000, 1, 300*time.Millisecond, 1, 3, 2000
		o.cases = allCases()
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
	case o.quick && o.out != "":
		return errors.New("-quick measures nothing that may be published: leave -o out")
	case runtime.NumCPU() < 2:
		return errors.New("two cores are needed, one for the servers and one for the generator")
	}
	var err error
	o.bin, err = filepath.Abs(o.bin)
	return err
}

// kinds are the columns of the table.
func (o *options) kinds(ours own) ([]kind, error) {
	all := []kind{ours}
	for _, p := range o.peers {
		switch p {
		case "knot":
			all = append(all, knot{})
		case "nsd":
			all = append(all, nsd{})
		case "bind":
			all = append(all, bind{})
		case "":
		default:
			return nil, fmt.Errorf("-peers %s: there is knot, nsd and bind", p)
		}
	}
	return all, nil
}

func run(ctx context.Context, o options) error {
	ldap, err := freePort()
	if err != nil {
		return err
	}
	b := &bench{o: o, own: own{bin: o.bin, ldap: ldap}, log: os.Stderr, gen: generator{core: o.clientCore}}
	kinds, err := o.kinds(b.own)
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
	took, err := b.own.prepare(ctx, b.data, filepath.Join(b.scratch, "import"))
	if err != nil {
		return err
	}
	if took > 0 {
		b.say("imported %d certificates in %.1f s, unbound and beside whatever else ran: %.0f a second", o.names, took.Seconds(), float64(o.names)/took.Seconds())
	}
	if err := os.RemoveAll(filepath.Join(b.scratch, "import")); err != nil {
		return err
	}
	b.report = newReport(o, now)
	if err := b.measure(ctx, kinds); err != nil {
		return err
	}
	return b.publish()
}

// publish prints the report and writes it into its file.
func (b *bench) publish() error {
	text := b.report.markdown()
	fmt.Print(text)
	if b.o.out == "" {
		return nil
	}
	return replaceSection(b.o.out, b.report.section(), text)
}
