package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) cert() *cobra.Command {
	list := &cobra.Command{
		Use: "list [OWNER]", Short: "list certificates", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "cert.list", certificateQuery(args), func(w io.Writer, list []admin.Certificate) {
				fmt.Fprintln(w, "OWNER\tSHA-256\tEXPIRES\tPUBLISHED\tKEY")
				for _, c := range list {
					fmt.Fprintf(w, "%s\t%.16s\t%s\t%s\t%s\n", c.Owner, c.SHA256, c.NotAfter.Format(time.DateOnly), strings.Join(c.Publish, ","), yesNo(c.HasKey))
				}
			})
			return err
		},
	}
	show := &cobra.Command{
		Use: "show OWNER|SHA256", Short: "show certificates of an owner, or one by fingerprint", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "cert.show", certificateQuery(args), func(w io.Writer, list []admin.Certificate) {
				for _, c := range list {
					fmt.Fprintf(w, "owner\t%s\nsha-256\t%s\nsubject\t%s\nissuer\t%s\nvalid\t%s to %s\npublished\t%s\nkey\t%s\nbinds its owner\t%s\n%s\n", c.Owner, c.SHA256, c.Subject, c.Issuer,
						c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), strings.Join(c.Publish, ","), yesNo(c.HasKey), yesNo(c.Bound), c.PEM)
				}
			})
			return err
		},
	}
	export := &cobra.Command{
		Use: "export OWNER|SHA256", Short: "print certificates as PEM", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "cert.show", certificateQuery(args), func(w io.Writer, list []admin.Certificate) {
				for _, c := range list {
					fmt.Fprint(w, c.PEM)
				}
			})
			return err
		},
	}
	remove := &cobra.Command{
		Use: "remove SHA256", Short: "remove a certificate with its key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "cert.remove", admin.CertificateQuery{SHA256: args[0]}, done)
			return err
		},
	}
	return group("cert", "certificates: import, publish, list, export", t.certImport(), list, show, remove, export)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// certificateQuery takes an owner (it has a dot or an @) or a fingerprint.
func certificateQuery(args []string) admin.CertificateQuery {
	switch {
	case len(args) == 0:
		return admin.CertificateQuery{}
	case strings.ContainsAny(args[0], "@."):
		return admin.CertificateQuery{Owner: args[0]}
	}
	return admin.CertificateQuery{SHA256: args[0]}
}

func (t *tool) certImport() *cobra.Command {
	var req admin.ImportRequest
	var passphraseFile string
	cmd := &cobra.Command{
		Use: "import PATH…", Short: "import certificates and keys from files and folders", Args: cobra.MinimumNArgs(1),
		Long: `import reads PEM, DER, PKCS#12 and PKCS#7 files, and folders of them, says what
each holds, and publishes the certificates under the owner that their
subjectAltName names. A private key found beside its certificate becomes the
owner's key, sealed. What belongs to no domain of the node is refused and named;
the rest is taken.

A certificate is published beside those that its owner has: peers may still hold the
old one. With --replace the old ones are no longer published where the new one is, if
they are of the same kind of key, for no other use (signing, encryption), and not valid
for longer. They stay here with their keys, which open mail that is under way, until
"directctl cert remove".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if passphraseFile != "" {
				f, err := readFile(passphraseFile)
				if err != nil {
					return err
				}
				req.Passphrase = strings.TrimRight(string(f.Data), "\r\n")
			}
			files, err := uploads(args)
			if err != nil {
				return err
			}
			return t.imported(cmd.Context(), "cert.import", req, files)
		},
	}
	cmd.Flags().StringSliceVar(&req.Publish, "publish", nil, "where to publish: dns,ldap (both, unless told otherwise) or none")
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "publish them in the place of the owners' older certificates")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would be done and change nothing")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`FILE` with the passphrase of PKCS#12 files")
	return cmd
}
