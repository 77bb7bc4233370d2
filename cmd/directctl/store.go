package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"directnode/internal/admin"
	"directnode/internal/durable"
)

func (t *tool) store() *cobra.Command {
	check := &cobra.Command{
		Use: "check", Short: "hold the store against every invariant", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := do(t, cmd.Context(), "store.check", struct{}{}, func(w io.Writer, c admin.Check) {
				for _, p := range c.Problems {
					fmt.Fprintln(w, p)
				}
				fmt.Fprintf(w, "%d problems\n", len(c.Problems))
			})
			if err != nil {
				return err
			}
			return withCode(c.Code)
		},
	}
	return group("store", "the store of what the administrator owns", check)
}

func (t *tool) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "write a backup of everything but the mail and the master key", Args: cobra.ExactArgs(1),
		Long: "backup writes domains, records, certificates, anchors and sealed private keys into\nFILE. The master key that opens the private keys is not in it: keep a copy of it\nelsewhere.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
			defer cancel()
			err = durable.WriteFile(durable.OS(), args[0], 0o600, func(w io.Writer) error { return c.Backup(ctx, w) })
			if err != nil {
				var e *admin.Error
				if errors.As(err, &e) {
					return e
				}
				return &admin.Error{ID: "DN-STORE-002", Code: admin.CodeStore, What: "no backup was written", Why: err.Error(), Do: "correct what it names and try again"}
			}
			return t.say(admin.Done{Done: "backup written to " + args[0]})
		},
	}
}

func (t *tool) restore() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "replace what the administrator owns by a backup", Args: cobra.ExactArgs(1),
		Long: "restore verifies a backup whole and then replaces domains, records, certificates,\nanchors and keys by it, in one change. The daemon must run with the master key that\nsealed the keys.",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return missing(args[0], err)
			}
			defer f.Close()
			c, err := t.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), t.timeout)
			defer cancel()
			ans, err := c.Restore(ctx, f)
			if err != nil {
				return err
			}
			return t.say(ans)
		},
	}
}

func (t *tool) say(d admin.Done) error {
	if t.format == "json" {
		return json.NewEncoder(t.out).Encode(d)
	}
	_, err := fmt.Fprintln(t.out, d.Done)
	return err
}
