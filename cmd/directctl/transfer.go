package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) transfer() *cobra.Command {
	var allow, notify []string
	var none bool
	cmd := &cobra.Command{
		Use: "transfer DOMAIN", Short: "say which name servers may have the zone and are told of changes", Args: cobra.ExactArgs(1),
		Long: "transfer sets who may have the zone by AXFR and IXFR, and who is told of changes\nby NOTIFY. Each list that is given replaces the one there is; --none empties both.\nNobody has the zone without a key: `directctl tsig add` makes one.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := admin.TransferRequest{Domain: args[0]}
			switch given := len(allow)+len(notify) > 0; {
			case none && given:
				return errors.New("--none goes alone")
			case none:
				req.Allow, req.Notify = &[]string{}, &[]string{} // not nil, which would leave them
			case !given:
				return errors.New("give --allow, --notify or --none")
			}
			if len(allow) > 0 {
				req.Allow = &allow
			}
			if len(notify) > 0 {
				req.Notify = &notify
			}
			return t.setTransfer(cmd, req)
		},
	}
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "`KEY[@NETWORK]`: who signs with the key may have the zone, from anywhere or that network (repeatable)")
	cmd.Flags().StringSliceVar(&notify, "notify", nil, "`ADDRESS[:PORT][=KEY]`: a server that is told of changes, signed with the key (repeatable)")
	cmd.Flags().BoolVar(&none, "none", false, "give the zone to nobody and tell nobody")
	return cmd
}

func (t *tool) primary() *cobra.Command {
	var none bool
	cmd := &cobra.Command{
		Use: "primary DOMAIN ADDRESS[:PORT]=KEY…", Short: "take a domain's records from another name server", Args: cobra.MinimumNArgs(1),
		Long: "primary makes the node a secondary: the domain's records come from the first of\nthese servers that answers, by IXFR and AXFR; certificates are still published\nfrom here. The serial that this node shows stays its own. --none ends it; the\nrecords stay and are edited here again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			servers := args[1:]
			if none == (len(servers) > 0) {
				return errors.New("give the primaries, or --none")
			}
			return t.setTransfer(cmd, admin.TransferRequest{Domain: args[0], Primaries: &servers})
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "the records are edited here")
	return cmd
}

func (t *tool) setTransfer(cmd *cobra.Command, req admin.TransferRequest) error {
	_, err := do(t, cmd.Context(), "domain.transfer", req, func(w io.Writer, d admin.Domain) {
		fmt.Fprintln(w, d.Domain)
		if d.Transfer == nil {
			fmt.Fprintln(w, "  no other name servers")
			return
		}
		showTransfer(w, d.Transfer)
	})
	return err
}

func showTransfer(w io.Writer, x *admin.Transfer) {
	fmt.Fprintln(w, "\nother name servers:")
	for _, l := range []struct {
		what string
		list []string
	}{{"may have the zone", x.Allow}, {"are told of changes", x.Notify}, {"primaries", x.Primaries}} {
		if len(l.list) > 0 {
			fmt.Fprintf(w, "  %s\t%s\n", l.what, strings.Join(l.list, " "))
		}
	}
	s := x.Secondary
	if s == nil {
		return
	}
	fmt.Fprintf(w, "  state\t%s\n", s.State)
	if s.Serial != nil {
		fmt.Fprintf(w, "  serial of the primary\t%d\n", *s.Serial)
	}
	for _, l := range []struct {
		what string
		at   *time.Time
	}{{"last checked", s.Checked}, {"next check", s.Next}, {"expires", s.Expires}} {
		if l.at != nil {
			fmt.Fprintf(w, "  %s\t%s\n", l.what, l.at.Format(time.RFC3339))
		}
	}
	if s.Error != "" {
		fmt.Fprintf(w, "  last error\t%s\n", s.Error)
	}
}
