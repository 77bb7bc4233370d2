package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
)

func (t *tool) message() *cobra.Command {
	var limit int
	list := &cobra.Command{
		Use: "list", Short: "list the newest messages", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "message.list", admin.MessageQuery{Limit: limit}, func(w io.Writer, list []admin.Message) {
				fmt.Fprintln(w, "AT\tWAY\tFROM\tTO\tSTATE\tMESSAGE-ID")
				for _, m := range list {
					for _, r := range m.Recipients {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.At.Format(time.RFC3339), m.Direction, m.From, r.Address, r.State, m.MessageID)
					}
				}
			})
			return err
		},
	}
	list.Flags().IntVar(&limit, "limit", 50, "how many")
	show := &cobra.Command{
		Use: "show MESSAGE-ID", Short: "tell the story of one message", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := do(t, cmd.Context(), "message.show", admin.MessageQuery{ID: args[0]}, showMessage)
			return err
		},
	}
	return group("message", "the mail's story", list, show)
}

func showMessage(w io.Writer, m admin.Message) {
	fmt.Fprintf(w, "message\t%s\nway\t%s\nfrom\t%s\nat\t%s\n", m.MessageID, m.Direction, m.From, m.At.Format(time.RFC3339))
	for _, r := range m.Recipients {
		fmt.Fprintf(w, "to\t%s\t%s\t%s\n", r.Address, r.State, r.Reason)
		for _, n := range r.Notifications {
			counted := "counted"
			if !n.Counted {
				counted = "not counted: " + n.Reason
			}
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\n", n.Disposition, n.At.Format(time.RFC3339), n.MessageID, counted)
		}
	}
}

func (t *tool) queue() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "list what waits", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := do(t, cmd.Context(), "queue.list", struct{}{}, func(w io.Writer, list []admin.QueueItem) {
				fmt.Fprintln(w, "ID\tKIND\tSTATE\tFROM\tTO\tATTEMPTS\tNEXT\tLAST ERROR")
				for _, q := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", q.ID, q.Kind, q.State, q.From, strings.Join(q.To, ","), q.Attempts, q.Next.Format(time.RFC3339), q.LastError)
				}
			})
			return err
		},
	}
	verb := func(name, short string) *cobra.Command {
		return &cobra.Command{
			Use: name + " ID", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := do(t, cmd.Context(), "queue."+name, admin.QueueRequest{ID: args[0]}, done)
				return err
			},
		}
	}
	return group("queue", "what waits to be delivered", list, verb("retry", "make an item due now"), verb("drop", "give an item up; nobody is told"))
}
