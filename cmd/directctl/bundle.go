package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) bundle() *cobra.Command {
	return group("bundle", "trust bundles: anchors that somebody else keeps", t.bundleAdd(), t.bundleList(), t.bundleRefresh(), t.bundleRemove())
}

func (t *tool) bundleAdd() *cobra.Command {
	var req admin.BundleRequest
	var file, signer string
	add := &cobra.Command{
		Use: "add --domain DOMAIN NAME [URL]", Short: "trust the anchors of a bundle", Args: cobra.RangeArgs(1, 2),
		Long: `add makes the certificates of a trust bundle anchors of a domain: for mail that
it receives (--in), for mail that it sends (--out), or for both, which is also
what neither means. A bundle is a .p7b, a signed .p7m, or certificates in PEM.

A bundle by URL is fetched again every day, or as --refresh says. Its anchors
are replaced all at once; whatever goes wrong leaves them as they are, and
bundle list shows it. With --signer the bundle must be signed by that very
certificate, which does not become an anchor itself. A bundle that is not signed
comes by https, unless --insecure says otherwise.

The answer lists the anchors that came; --dry-run shows them and adds nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			if len(args) > 1 {
				req.URL = args[1]
			}
			for _, f := range []struct {
				path string
				to   *admin.File
			}{{file, &req.File}, {signer, &req.Signer}} {
				if f.path == "" {
					continue
				}
				read, err := readFile(f.path)
				if err != nil {
					return err
				}
				*f.to = read
			}
			diff, err := do(t, cmd.Context(), "bundle.add", req, showDiff)
			if err != nil {
				return err
			}
			return withCode(diff.Code)
		},
	}
	f := add.Flags()
	f.StringVar(&req.Domain, "domain", "", "the domain that trusts")
	f.StringVar(&file, "file", "", "take the bundle from `FILE` instead of a URL; it is not refreshed then")
	f.StringVar(&signer, "signer", "", "`FILE` with the certificate that signs the bundle")
	f.StringVar(&req.Refresh, "refresh", "", "fetch it again after this `TIME`; 0: only when told to (default 24h)")
	f.BoolVar(&req.Insecure, "insecure", false, "take an unsigned bundle by http: anybody on the way can add anchors")
	f.BoolVar(&req.In, "in", false, "for mail that the domain receives")
	f.BoolVar(&req.Out, "out", false, "for mail that the domain sends")
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would come, and change nothing")
	_ = add.MarkFlagRequired("domain")
	return add
}

func (t *tool) bundleList() *cobra.Command {
	var domain string
	list := &cobra.Command{
		Use: "list", Short: "list trust bundles and when they were looked at", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "bundle.list", admin.BundleRequest{Domain: domain}, func(w io.Writer, list []admin.Bundle) {
				fmt.Fprintln(w, "DOMAIN\tBUNDLE\tANCHORS\tIN\tOUT\tREFRESH\tCHANGED\tCHECKED\tSOURCE")
				for _, b := range list {
					checked := "-"
					if !b.Checked.IsZero() {
						checked = b.Checked.Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", b.Domain, b.Name, b.Anchors, yesNo(b.In), yesNo(b.Out), cmp.Or(b.Refresh, "-"),
						b.Changed.Format(time.DateOnly), checked, cmp.Or(b.URL, "a file"))
					if b.Error != "" {
						fmt.Fprintf(w, "  %s\n", b.Error)
					}
				}
			})
			return err
		},
	}
	list.Flags().StringVar(&domain, "domain", "", "only of this domain")
	return list
}

func (t *tool) bundleRefresh() *cobra.Command {
	var req admin.BundleRequest
	refresh := &cobra.Command{
		Use: "refresh [NAME]", Short: "fetch trust bundles again now", Args: cobra.MaximumNArgs(1),
		Long: `refresh fetches the bundles that have a URL, or the one of a name, and shows what
came and went. --dry-run shows it and changes nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Name = args[0]
			}
			list, err := do(t, cmd.Context(), "bundle.refresh", req, func(w io.Writer, list []admin.BundleDiff) {
				for _, d := range list {
					showDiff(w, d)
				}
			})
			if err != nil {
				return err
			}
			code := 0
			for _, d := range list {
				// A failure weighs more than a warning, although its number is lower.
				if d.Code == admin.CodeFailed || code == 0 {
					code = d.Code
				}
			}
			return withCode(code)
		},
	}
	refresh.Flags().StringVar(&req.Domain, "domain", "", "only of this domain")
	refresh.Flags().BoolVar(&req.DryRun, "dry-run", false, "show what would change, and change nothing")
	return refresh
}

func (t *tool) bundleRemove() *cobra.Command {
	var domain string
	remove := &cobra.Command{
		Use: "remove --domain DOMAIN NAME", Short: "no longer trust the anchors of a bundle", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "bundle.remove", admin.BundleRequest{Domain: domain, Name: args[0]}, done)
			return err
		},
	}
	remove.Flags().StringVar(&domain, "domain", "", "the domain that trusted")
	_ = remove.MarkFlagRequired("domain")
	return remove
}

// showDiff prints what a bundle changes, a line for each anchor.
func showDiff(w io.Writer, d admin.BundleDiff) {
	if d.Error != "" {
		fmt.Fprintf(w, "%s %s: %s\n", d.Domain, d.Name, d.Error)
		return
	}
	would := ""
	if d.DryRun {
		would = ", nothing was changed"
	}
	fmt.Fprintf(w, "%s %s: %d anchors, %d added, %d removed%s\n", d.Domain, d.Name, d.Anchors, len(d.Added), len(d.Removed), would)
	for _, a := range d.Added {
		fmt.Fprintf(w, "  + %.16s  expires %s  %s\n", a.SHA256, a.NotAfter.Format(time.DateOnly), a.Subject)
	}
	for _, a := range d.Removed {
		fmt.Fprintf(w, "  - %.16s  expires %s  %s\n", a.SHA256, a.NotAfter.Format(time.DateOnly), a.Subject)
	}
	if d.Skipped > 0 {
		fmt.Fprintf(w, "  %d elements of the bundle are no certificates that can be read\n", d.Skipped)
	}
}
