package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) dnssec() *cobra.Command {
	return group("dnssec", "sign domains, and lead their keys through their lives",
		t.dnssecEnable(), t.dnssecStatus(), t.dnssecRoll(), t.dnssecSeen(), t.dnssecDisable())
}

func (t *tool) signing(ctx context.Context, order string, req admin.DNSSECRequest) error {
	_, err := do(t, ctx, order, req, showDNSSEC)
	return err
}

func (t *tool) dnssecEnable() *cobra.Command {
	var req admin.DNSSECRequest
	cmd := &cobra.Command{
		Use: "enable DOMAIN", Short: "sign a domain", Args: cobra.ExactArgs(1),
		Long: "enable makes keys for a domain and signs it. The DS for the parent is shown when it\nis safe to hand it over: after a day or more, when caches have forgotten what they\nlearned without signatures. Given for a domain that is about to be unsigned, it\nkeeps it signed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Domain = args[0]
			return t.signing(cmd.Context(), "dnssec.enable", req)
		},
	}
	cmd.Flags().StringVar(&req.Algorithm, "algorithm", "", "ecdsap256sha256 (default) or ed25519")
	cmd.Flags().BoolVar(&req.Split, "split", false, "a key for the keys and one for the data, instead of one for both")
	cmd.Flags().StringVar(&req.Denial, "denial", "", "how to deny what is not there: compact (default, RFC 9824) or nsec3")
	return cmd
}

func (t *tool) dnssecStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status DOMAIN", Short: "show a domain's keys, its DS and what comes next", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.signing(cmd.Context(), "dnssec.status", admin.DNSSECRequest{Domain: args[0]})
		},
	}
}

func (t *tool) dnssecRoll() *cobra.Command {
	var req admin.DNSSECRequest
	cmd := &cobra.Command{
		Use: "roll DOMAIN", Short: "replace a key by a new one", Args: cobra.ExactArgs(1),
		Long: "roll publishes a new key and takes it into use step by step, each when every cache\nis ready for it. Where the parent's DS has to change, it waits for ds-seen.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Domain = args[0]
			return t.signing(cmd.Context(), "dnssec.roll", req)
		},
	}
	cmd.Flags().StringVar(&req.Role, "key", "", "csk, ksk or zsk; the csk or the zsk if not given")
	return cmd
}

func (t *tool) dnssecSeen() *cobra.Command {
	var req admin.DNSSECRequest
	cmd := &cobra.Command{
		Use: "ds-seen DOMAIN", Short: "say that all servers of the parent publish the new DS", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Domain = args[0]
			return t.signing(cmd.Context(), "dnssec.ds-seen", req)
		},
	}
	cmd.Flags().StringVar(&req.DSTTL, "ds-ttl", "", "the TTL of the DS in the parent zone; 24h if not given")
	return cmd
}

func (t *tool) dnssecDisable() *cobra.Command {
	var req admin.DNSSECRequest
	cmd := &cobra.Command{
		Use: "disable DOMAIN", Short: "lead a domain to being unsigned", Args: cobra.ExactArgs(1),
		Long: "disable asks the parent, by CDS, to remove the DS and goes on signing: a domain with\na DS at the parent and no signatures is unreachable for all who validate. When the\nDS is gone, disable --ds-gone removes the signatures as soon as caches have forgotten it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Domain = args[0]
			return t.signing(cmd.Context(), "dnssec.disable", req)
		},
	}
	cmd.Flags().BoolVar(&req.DSGone, "ds-gone", false, "no server of the parent publishes a DS any more")
	cmd.Flags().StringVar(&req.DSTTL, "ds-ttl", "", "the TTL that the DS had in the parent zone; 24h if not given")
	return cmd
}

func showDNSSEC(w io.Writer, d admin.DNSSEC) {
	if !d.Signed {
		fmt.Fprintf(w, "%s is not signed\n", d.Domain)
		return
	}
	fmt.Fprintf(w, "%s is signed since %s with %s, denial %s\n\n", d.Domain, d.Since.Format(time.RFC3339), d.Algorithm, d.Denial)
	fmt.Fprintln(w, "TAG\tROLE\tSTATE\tSINCE\tNEXT STEP\tSIGNS DATA")
	for _, k := range d.Keys {
		due := "-"
		if !k.Due.IsZero() {
			due = k.Due.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", k.Tag, k.Role, k.State, k.Since.Format(time.RFC3339), due, yesNo(k.Signs))
	}
	for _, line := range d.DS {
		fmt.Fprintf(w, "\nat the parent: %s\n", line)
	}
	for _, step := range d.Next {
		fmt.Fprintf(w, "\n%s\n", step)
	}
}
