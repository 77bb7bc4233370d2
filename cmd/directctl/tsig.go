package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) tsig() *cobra.Command {
	var algorithm, secretFile string
	add := &cobra.Command{
		Use: "add NAME", Short: "keep a key that is shared with another name server", Args: cobra.ExactArgs(1),
		Long: "add makes a key (RFC 8945) for transfers and notifies, or takes the secret of one\nthat the other server has already: a file that holds the Base64 text alone. NAME\nis the key's name on both sides. `directctl tsig show NAME --secret` prints what\nthe other server's configuration needs.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := admin.TSIGRequest{Name: args[0], Algorithm: algorithm}
			if secretFile != "" {
				f, err := readFile(secretFile)
				if err != nil {
					return err
				}
				req.Secret = string(f.Data)
			}
			_, err := do(t, cmd.Context(), "tsig.add", req, showKey)
			return err
		},
	}
	add.Flags().StringVar(&algorithm, "algorithm", "hmac-sha256", "hmac-sha256 or hmac-sha512")
	add.Flags().StringVar(&secretFile, "secret-file", "", "`FILE` with the secret in Base64; without it a new one is made")
	list := &cobra.Command{
		Use: "list", Short: "list the keys and the domains that use them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "tsig.list", struct{}{}, func(w io.Writer, list []admin.TSIGKey) {
				fmt.Fprintln(w, "NAME\tALGORITHM\tCREATED\tDOMAINS")
				for _, k := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.Algorithm, k.Created.Format(time.DateOnly), strings.Join(k.Domains, " "))
				}
			})
			return err
		},
	}
	var secret bool
	show := &cobra.Command{
		Use: "show NAME", Short: "show a key, with --secret for the other server's configuration", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "tsig.show", admin.TSIGRequest{Name: args[0], Show: secret}, showKey)
			return err
		},
	}
	show.Flags().BoolVar(&secret, "secret", false, "print the secret as BIND, Knot and NSD want it")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "remove a key that no domain uses", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "tsig.remove", admin.TSIGRequest{Name: args[0]}, done)
			return err
		},
	}
	return group("tsig", "keys that are shared with other name servers", add, list, show, remove)
}

func showKey(w io.Writer, k admin.TSIGKey) {
	fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.Algorithm, strings.Join(k.Domains, " "))
	if k.Secret == "" {
		return
	}
	fmt.Fprintf(w, "\nBIND:\n  key %q { algorithm %s; secret %q; };\n", k.Name, k.Algorithm, k.Secret)
	fmt.Fprintf(w, "\nKnot:\n  key:\n    - id: %s\n      algorithm: %s\n      secret: %s\n", k.Name, k.Algorithm, k.Secret)
	fmt.Fprintf(w, "\nNSD:\n  key:\n      name: %q\n      algorithm: %s\n      secret: %q\n", k.Name, k.Algorithm, k.Secret)
}
