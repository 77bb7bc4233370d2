package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
	"directnode/internal/config"
)

// defaultConfig is where packages put the daemon's configuration.
const defaultConfig = "/etc/directd/directd.toml"

// tool is one run of the program.
type tool struct {
	out, errOut io.Writer

	config  string
	socket  string
	format  string
	timeout time.Duration
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "directctl",
		Short:         "operate a Direct node; discover anybody's certificate",
		Long:          "directctl gives orders to a directd over its admin socket, discovers and judges\nthe certificate of any Direct Address, and starts two nodes to try it all out.",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if t.format != "text" && t.format != "json" {
				return fmt.Errorf("-o %s: write text or json", t.format)
			}
			if t.timeout <= 0 {
				return fmt.Errorf("--timeout %v: give more than nothing, such as 30s", t.timeout)
			}
			return nil
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&t.config, "config", "", "the daemon's configuration `FILE`, which names its socket")
	f.StringVar(&t.socket, "socket", "", "the daemon's admin socket `PATH`")
	f.StringVarP(&t.format, "output", "o", "text", "text or json")
	f.DurationVar(&t.timeout, "timeout", time.Minute, "give up after this long")
	root.AddCommand(t.quickstart(), t.discover(), t.domain(), t.cert(), t.anchor(), t.bundle(), t.tsig(), t.zone(), t.dnssec(), t.ldif(), t.doctor(), t.message(), t.queue(),
		t.store(), t.backup(), t.restore(), t.status(), t.version())
	addManual(t, root)
	return root
}

// client finds the daemon: --socket, else the socket of --config, else that of
// the packaged configuration.
func (t *tool) client() (*admin.Client, error) {
	if t.socket != "" {
		return admin.NewClient(t.socket), nil
	}
	path := t.config
	if path == "" {
		path = defaultConfig
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, configError(err)
	}
	return admin.NewClient(c.Path(c.Admin.Socket)), nil
}

func configError(err error) error {
	return &admin.Error{ID: "DN-CONFIG-001", Code: 30, What: "the configuration cannot be used", Why: err.Error(), Do: "correct it, or name the daemon's socket with --socket"}
}

// do gives one order and prints its answer: as JSON, or by text.
func do[Ans any](t *tool, ctx context.Context, order string, req any, text func(io.Writer, Ans)) (Ans, error) {
	var ans Ans
	c, err := t.client()
	if err != nil {
		return ans, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if err := c.Do(ctx, order, req, &ans); err != nil {
		return ans, err
	}
	if t.format == "json" {
		enc := json.NewEncoder(t.out)
		enc.SetIndent("", "  ")
		return ans, enc.Encode(ans)
	}
	return ans, showText(t.out, ans, text)
}

// done prints the answer of an order that only says that it is done.
func done(w io.Writer, d admin.Done) { fmt.Fprintln(w, d.Done) }

// group makes a noun with its verbs.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return fmt.Errorf("%s needs a verb; `directctl %s --help` shows them", use, use)
	}}
	cmd.AddCommand(verbs...)
	return cmd
}

func (t *tool) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "say which daemon answers and its generation", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "status", struct{}{}, func(w io.Writer, s admin.Status) {
				fmt.Fprintf(w, "host\t%s\nversion\t%s\nstarted\t%s\ngeneration\t%d\ndomains\t%d\n", s.Hostname, s.Version, s.Started.Format(time.RFC3339), s.Generation, s.Domains)
			})
			return err
		},
	}
}

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": buildVersion()}
			if info, ok := debug.ReadBuildInfo(); ok {
				v["go"] = info.GoVersion
			}
			if t.format == "json" {
				return json.NewEncoder(t.out).Encode(v)
			}
			fmt.Fprintf(t.out, "directctl %s (%s)\n", v["version"], v["go"])
			return nil
		},
	}
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}
