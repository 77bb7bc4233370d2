package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) domain() *cobra.Command {
	var addresses, servers []string
	add := &cobra.Command{
		Use: "add DOMAIN", Short: "make the node authoritative for a domain", Args: cobra.ExactArgs(1),
		Long: "add makes the node authoritative for a Health Domain Name, with SOA, NS, MX and\nLDAP SRV records that point to the node. What the parent zone needs is shown.\n\nA domain needs two name servers (RFC 1034 §4.1): give each secondary with --ns.",
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "domain.add", admin.DomainRequest{Domain: args[0], Addresses: addresses, Servers: servers}, showDomain)
			return err
		},
	}
	add.Flags().StringSliceVar(&addresses, "address", nil, "IP address of the node's host name, where it lies inside the domain (repeatable)")
	add.Flags().StringArrayVar(&servers, "ns", nil, "further name server: HOST, or HOST=ADDRESS,ADDRESS where it lies inside the domain (repeatable)")
	list := &cobra.Command{
		Use: "list", Short: "list the node's domains", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "domain.list", struct{}{}, func(w io.Writer, list []admin.Domain) {
				fmt.Fprintln(w, "DOMAIN\tCERTIFICATES\tKEYS\tANCHORS")
				for _, d := range list {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", d.Domain, d.Certificates, d.Keys, d.Anchors)
				}
			})
			return err
		},
	}
	show := &cobra.Command{
		Use: "show DOMAIN", Short: "show a domain's records and what to hand to the parent", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "domain.show", admin.DomainRequest{Domain: args[0]}, showDomain)
			return err
		},
	}
	remove := &cobra.Command{
		Use: "remove DOMAIN", Short: "remove a domain with its certificates, keys and anchors", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "domain.remove", admin.DomainRequest{Domain: args[0]}, done)
			return err
		},
	}
	return group("domain", "the domains that the node is authoritative for", add, list, show, remove, t.transfer(), t.primary())
}

func showDomain(w io.Writer, d admin.Domain) {
	fmt.Fprintf(w, "%s: %d certificates, %d keys, %d anchors\n", d.Domain, d.Certificates, d.Keys, d.Anchors)
	fmt.Fprintln(w, "\nrecords:")
	for _, r := range d.Records {
		fmt.Fprintln(w, "  "+r)
	}
	fmt.Fprintln(w, "\nto hand to the parent zone:")
	for _, r := range d.Delegation {
		fmt.Fprintln(w, "  "+r)
	}
	if len(d.LDAP) > 0 {
		fmt.Fprintln(w, "\nLDAP:")
		showChecks(w, d.LDAP)
	}
	for _, step := range d.DNSSEC {
		fmt.Fprintf(w, "\nDNSSEC: %s\n", step)
	}
	if d.Transfer != nil {
		showTransfer(w, d.Transfer)
	}
}
