package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) zone() *cobra.Command {
	var req admin.ImportRequest
	imp := &cobra.Command{
		Use: "import FILE --origin NAME", Short: "take a zone file with its CERT records", Args: cobra.ExactArgs(1),
		Long: `import replaces the records of a domain by those of an RFC 1035 zone file and adds
its CERT records as certificates. What changes is printed before it is done; with
--dry-run nothing else happens. Certificates that do not bind to their owner are
counted as warnings (exit code 3), or left out with --strict. A file with an error,
or with more at a name than one answer can carry (20 certificates, 60,000 octets),
is not taken at all. --timeout is the longest time without progress.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := upload(args[0])
			if err != nil {
				return err
			}
			return t.imported(cmd.Context(), "zone.import", req, []admin.Upload{f})
		},
	}
	imp.Flags().StringVar(&req.Origin, "origin", "", "the zone's name")
	imp.Flags().BoolVar(&req.Strict, "strict", false, "refuse certificates that do not bind to their owner")
	imp.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would be done and change nothing")
	_ = imp.MarkFlagRequired("origin")

	var format string
	export := &cobra.Command{
		Use: "export NAME", Short: "print a domain as zone text", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.exported(cmd.Context(), "zone.export", admin.ExportRequest{Domain: args[0], Format: format})
		},
	}
	export.Flags().StringVar(&format, "format", "bind", "bind, rfc3597 (for servers that do not know CERT) or nsupdate")
	check := &cobra.Command{
		Use: "check NAME", Short: "look for what keeps mail or certificates from those who ask", Args: cobra.ExactArgs(1),
		Long: "check looks at a domain's zone as the DNS shows it, asks nobody, and says what is\nwrong (exit code 1) or odd (3) and what to do.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := do(t, cmd.Context(), "zone.check", admin.DomainRequest{Domain: args[0]}, showFindings)
			if err != nil {
				return err
			}
			return withCode(c.Code)
		},
	}
	return group("zone", "zone text in and out", imp, export, check)
}

func showFindings(w io.Writer, c admin.ZoneCheck) {
	for _, f := range c.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s (%s)\n\twhat to do\t%s\n", f.Level, f.Name, f.What, f.Citation, f.Do)
	}
	fmt.Fprintf(w, "%d findings\n", len(c.Findings))
}

// exported prints a text as it comes.
func (t *tool) exported(ctx context.Context, order string, req admin.ExportRequest) error {
	if t.format == "json" {
		_, err := do(t, ctx, order, req, func(io.Writer, admin.Text) {})
		return err
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return c.Export(ctx, order, req, asciiOnly{t.out})
}

// asciiOnly lets nothing through that a terminal would obey: exported texts
// have escapes and Base64 for all that is not plain.
type asciiOnly struct{ w io.Writer }

func (a asciiOnly) Write(p []byte) (int, error) {
	clean := p
	for i, c := range p {
		if c >= ' ' && c <= '~' || c == '\n' || c == '\t' {
			continue
		}
		if &clean[0] == &p[0] {
			clean = bytes.Clone(p)
		}
		clean[i] = '?'
	}
	return a.w.Write(clean)
}
