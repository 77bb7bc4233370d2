package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/resolver"
	"directnode/resolver/fetch"
	"directnode/resolver/trust"
)

// discovery is what `discover` was told.
type discovery struct {
	explain bool
	dns     []string
	anchors []string
	as      string
	save    string
	replay  string
	allow   []string
	direct  bool
	dropTag bool
}

func (t *tool) discover() *cobra.Command {
	var d discovery
	cmd := &cobra.Command{
		Use: "discover ADDRESS", Short: "find and judge the certificate of a Direct Address", Args: cobra.MaximumNArgs(1),
		Long: `discover looks for the certificates of an address as any agent does (CERT records
of the address, of its domain, then LDAP), judges what it finds, and says why.

With --dns or --anchor it asks by itself and needs no daemon; --dns may name a
recursive or an authoritative server, and without it the system's resolver is
used. Without both it asks the daemon, whose resolver and anchors decide.

--save keeps everything that was heard in a ZIP file: packets, entries,
certificates, revocation lists and the clock. --replay judges such a file again,
without asking anybody, and gives the same report.

Exit codes: 0 trusted, 10 not found, 11 not trusted, 12 invalid, 13 revoked,
14 revocation undetermined, 20 temporary.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.replay != "" {
				if len(args) > 0 {
					return replayError("an address and --replay were given", "give one of them: the file says which address it is about")
				}
				return t.replayDiscovery(cmd.Context(), d)
			}
			if len(args) == 0 {
				return &admin.Error{ID: "DN-DISCOVER-001", Code: admin.CodeUsage, What: "nothing was asked", Why: "no address was given", Do: "give an address such as bob@direct.example.org, or --replay FILE"}
			}
			a, err := direct.ParseAddress(args[0])
			if err != nil {
				return &admin.Error{ID: "DN-DISCOVER-001", Code: admin.CodeUsage, What: "nothing was asked", Why: err.Error(), Do: "give an address such as bob@direct.example.org"}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
			defer cancel()
			return t.runDiscovery(ctx, a, d)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.explain, "explain", false, "show every step, certificate and check")
	f.StringSliceVar(&d.dns, "dns", nil, "ask this DNS server, `HOST:PORT` (repeatable)")
	f.StringSliceVar(&d.anchors, "anchor", nil, "trust the certificates in `FILE` (repeatable)")
	f.StringVar(&d.as, "as", "", "the node's `DOMAIN` whose anchors decide")
	f.StringVar(&d.save, "save", "", "write everything that was heard into a `ZIP` file")
	f.StringVar(&d.replay, "replay", "", "judge a `ZIP` file of --save again, offline")
	f.StringSliceVar(&d.allow, "allow", nil, "LDAP servers and URLs may have addresses in this `CIDR` although not public (repeatable)")
	f.BoolVar(&d.direct, "direct", false, "ask the name servers of the domain itself where the given ones do not answer")
	f.BoolVar(&d.dropTag, "drop-tag", false, "look for bob@… where bob+tag@… has no certificate")
	return cmd
}

func (t *tool) runDiscovery(ctx context.Context, a direct.Address, d discovery) error {
	if t.asksDaemon(d) {
		c, err := t.client()
		if err != nil {
			return err
		}
		var r admin.DiscoverResponse
		if err := c.Do(ctx, "discover", admin.DiscoverRequest{Address: a.String(), As: d.as, Record: d.save != ""}, &r); err != nil {
			return err
		}
		return t.report(r.Report, r.Record, d)
	}
	o, policy, err := t.resolverOptions(d)
	if err != nil {
		return err
	}
	anchors, err := readAnchors(d.anchors)
	if err != nil {
		return err
	}
	// The door looks hosts up by the resolver, which fetches through the door.
	var r *resolver.Resolver
	door := fetch.New(fetch.Options{Allow: o.Allow, Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) { return r.Addrs(ctx, host) }})
	o.Fetch = door
	if r, err = resolver.New(o); err != nil {
		return &admin.Error{ID: "DN-DISCOVER-004", Code: admin.CodeUsage, What: "nothing was asked", Why: err.Error(), Do: "give servers as HOST:PORT"}
	}
	res, rec, err := r.DiscoverRecorded(ctx, a)
	if err != nil {
		return &admin.Error{ID: "DN-DISCOVER-005", Code: admin.CodeUsage, What: "nothing was asked", Why: err.Error(), Do: "give an address that has a domain name (AS 5.1)"}
	}
	report, err := resolver.JudgeRecorded(ctx, res, rec, door, resolver.Judging{Anchors: anchors, AnchorsKnown: len(anchors) > 0, Policy: policy, At: time.Now()})
	if err != nil {
		return err
	}
	return t.report(report, rec, d)
}

// asksDaemon tells whether the daemon's resolver and anchors are wanted: where
// it was named, and nothing was given to do without it.
func (t *tool) asksDaemon(d discovery) bool {
	if len(d.dns) > 0 || len(d.anchors) > 0 {
		return false
	}
	if t.socket != "" {
		return true
	}
	path := t.config
	if path == "" {
		path = defaultConfig
	}
	c, err := config.Load(path)
	if err != nil {
		return false
	}
	_, err = os.Stat(c.Path(c.Admin.Socket))
	return err == nil
}

// resolverOptions takes the tables [resolver] and [policy] from --config, and
// --dns before them.
func (t *tool) resolverOptions(d discovery) (resolver.Options, trust.Policy, error) {
	c := config.Default()
	if t.config != "" {
		var err error
		if c, err = config.Load(t.config); err != nil {
			return resolver.Options{}, trust.Policy{}, configError(err)
		}
	}
	o := resolver.Options{Servers: c.Resolver.Servers, Timeout: time.Duration(c.Resolver.Timeout), DropTag: d.dropTag}
	if d.direct {
		o.Direct = resolver.DirectOnFailure
	}
	for _, cidr := range append(d.allow, c.Resolver.Fetch.Allow...) {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return o, trust.Policy{}, &admin.Error{ID: "DN-DISCOVER-007", Code: admin.CodeUsage, What: "nothing was asked", Why: err.Error(), Do: "give networks as CIDR, such as 127.0.0.0/8"}
		}
		o.Allow = append(o.Allow, p)
	}
	if len(d.dns) > 0 {
		o.Servers = nil
		for _, s := range d.dns {
			if _, _, err := net.SplitHostPort(s); err != nil {
				s = net.JoinHostPort(s, "53")
			}
			o.Servers = append(o.Servers, s)
		}
		return o, trust.Policy{Profile: c.Policy.Profile}, nil
	}
	for _, s := range c.Resolver.Stub {
		domain, err := direct.ParseDomain(s.Domain)
		if err != nil {
			return o, trust.Policy{}, configError(err)
		}
		o.Stubs = append(o.Stubs, resolver.Stub{Domain: domain, Servers: s.Servers})
	}
	return o, trust.Policy{Profile: c.Policy.Profile}, nil
}

// readAnchors reads every certificate of the files, PEM or DER.
func readAnchors(paths []string) ([]*x509.Certificate, error) {
	var anchors []*x509.Certificate
	for _, p := range paths {
		f, err := readFile(p)
		if err != nil {
			return nil, err
		}
		before := len(anchors)
		if c, err := x509.ParseCertificate(f.Data); err == nil {
			anchors = append(anchors, c)
		}
		for block, rest := pem.Decode(f.Data); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, badAnchor(p, fmt.Sprintf("a PEM block of type %s does not parse as a certificate: %v", block.Type, err))
			}
			anchors = append(anchors, c)
		}
		if len(anchors) == before {
			return nil, badAnchor(p, "there is no certificate in it")
		}
	}
	return anchors, nil
}

func badAnchor(path, why string) error {
	return &admin.Error{ID: "DN-ANCHOR-002", Code: admin.CodeUsage, What: "nothing was asked", Why: path + ": " + why, Do: "give the anchor's certificate as PEM or DER"}
}

// report prints and saves the answer and ends with its code.
func (t *tool) report(r resolver.Report, rec *resolver.Record, d discovery) error {
	if d.save != "" {
		if err := saveEvidence(d.save, r, rec); err != nil {
			return &admin.Error{ID: "DN-DISCOVER-006", Code: admin.CodeFailed, What: "the evidence was not saved", Why: err.Error(), Do: "give a path that can be written"}
		}
	}
	if t.format == "json" {
		enc := json.NewEncoder(t.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return err
		}
	} else {
		var text strings.Builder
		if err := r.WriteText(&text, d.explain); err != nil {
			return err
		}
		if _, err := io.WriteString(t.out, printable(text.String(), "\n\t")); err != nil {
			return err
		}
	}
	return withCode(r.Code)
}

// replayDiscovery makes the report of a saved discovery again.
func (t *tool) replayDiscovery(ctx context.Context, d discovery) error {
	rec, err := readEvidence(d.replay)
	if err != nil {
		return replayError(err.Error(), "give a file that discover --save has written")
	}
	r, err := resolver.ReplayReport(ctx, rec)
	if err != nil {
		return replayError(d.replay+": "+err.Error(), "give a file that discover --save of this version has written")
	}
	return t.report(r, rec, d)
}

func replayError(why, do string) error {
	return &admin.Error{ID: "DN-DISCOVER-008", Code: admin.CodeUsage, What: "nothing was judged", Why: why, Do: do}
}
