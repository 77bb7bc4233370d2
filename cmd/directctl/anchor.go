package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) anchor() *cobra.Command {
	var req admin.AnchorRequest
	add := &cobra.Command{
		Use: "add --domain DOMAIN FILE", Short: "trust an issuer, or a certificate itself", Args: cobra.ExactArgs(1),
		Long: "add makes the certificates in FILE trust anchors of a domain: for mail that it\nreceives (--in), for mail that it sends (--out), or for both, which is also\nwhat neither means. Given again with other flags, it changes them. A trust\nbundle that somebody else keeps is for `directctl bundle add`.",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := readFile(args[0])
			if err != nil {
				return err
			}
			req.File = f
			res, err := do(t, cmd.Context(), "anchor.add", req, showImport)
			if err != nil {
				return err
			}
			return withCode(res.Code)
		},
	}
	add.Flags().StringVar(&req.Domain, "domain", "", "the domain that trusts")
	add.Flags().BoolVar(&req.In, "in", false, "for mail that the domain receives")
	add.Flags().BoolVar(&req.Out, "out", false, "for mail that the domain sends")
	_ = add.MarkFlagRequired("domain")

	var listOf string
	list := &cobra.Command{
		Use: "list", Short: "list trust anchors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "anchor.list", admin.AnchorRequest{Domain: listOf}, func(w io.Writer, list []admin.Anchor) {
				fmt.Fprintln(w, "DOMAIN\tSHA-256\tIN\tOUT\tBUNDLE\tEXPIRES\tSUBJECT")
				for _, a := range list {
					fmt.Fprintf(w, "%s\t%.16s\t%s\t%s\t%s\t%s\t%s\n", a.Domain, a.SHA256, yesNo(a.In), yesNo(a.Out), cmp.Or(a.Bundle, "-"), a.NotAfter.Format(time.DateOnly), a.Subject)
				}
			})
			return err
		},
	}
	list.Flags().StringVar(&listOf, "domain", "", "only of this domain")

	var removeFrom string
	remove := &cobra.Command{
		Use: "remove --domain DOMAIN SHA256", Short: "remove a trust anchor", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "anchor.remove", admin.AnchorRequest{Domain: removeFrom, SHA256: args[0]}, done)
			return err
		},
	}
	remove.Flags().StringVar(&removeFrom, "domain", "", "the domain that trusted")
	_ = remove.MarkFlagRequired("domain")
	return group("anchor", "trust anchors per domain", add, list, remove)
}
