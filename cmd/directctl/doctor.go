package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor [DOMAIN]", Short: "look at the node's domains as strangers see them", Args: cobra.MaximumNArgs(1),
		Long: `doctor lets the daemon look at one of its domains, or at all: at the zone, at what its
own DNS and LDAP listeners answer, at how LDAP is found, at a published certificate as
a sender asks for it, and at certificates that expire. Every check says what was looked
at, what was found, and what to do.

Nobody but the node itself is asked: neither public resolvers nor the parent zone nor
other servers. What lies with them is "skipped" and says so.

The exit code is 0 if all is well, 3 if there are warnings, 1 if a check failed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var req admin.DomainRequest
			if len(args) > 0 {
				req.Domain = args[0]
			}
			d, err := do(t, cmd.Context(), "doctor", req, showDiagnosis)
			if err != nil {
				return err
			}
			return withCode(d.Code)
		},
	}
}

func showDiagnosis(w io.Writer, d admin.Diagnosis) {
	for i, c := range d.Checks {
		if c.Domain != "" && (i == 0 || d.Checks[i-1].Domain != c.Domain) {
			fmt.Fprintf(w, "%s\n", c.Domain)
		}
		showChecks(w, []admin.DoctorCheck{c})
	}
	fmt.Fprintf(w, "%d ok, %d warnings, %d failed, %d skipped\n", d.OK, d.Warnings, d.Failed, d.Skipped)
}

// showChecks prints checks with their remedies.
func showChecks(w io.Writer, checks []admin.DoctorCheck) {
	for _, c := range checks {
		fmt.Fprintf(w, "  %s\t%s\t%s: %s\n", c.Verdict, c.ID, c.Looked, c.What)
		if c.Do != "" {
			fmt.Fprintf(w, "  \t\twhat to do: %s\n", c.Do)
		}
	}
}
