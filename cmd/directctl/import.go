package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"directnode/internal/admin"
)

// imported gives an import order and ends with its code. The plan of a zone is
// printed before the daemon carries it out; a bar shows how far it is.
func (t *tool) imported(ctx context.Context, order string, req admin.ImportRequest, files []admin.Upload) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(t.timeout, func() { cancel(t.noProgress(order)) })
	defer idle.Stop()
	bar := t.progress()
	planned := false
	res, err := c.Import(ctx, order, req, files, func(e admin.Event) {
		idle.Reset(t.timeout)
		switch {
		case e.Progress != nil:
			bar.show(time.Now(), *e.Progress)
		case e.Plan != nil && t.format != "json":
			bar.clear()
			planned = true
			_ = showText(t.out, *e.Plan, showPlan)
		}
	})
	bar.clear()
	if err != nil {
		return err
	}
	if t.format == "json" {
		enc := json.NewEncoder(t.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(res)
	} else {
		if !planned && res.Plan != nil {
			_ = showText(t.out, *res.Plan, showPlan)
		}
		res.Plan = nil
		err = showText(t.out, res, showImport)
	}
	if err != nil {
		return err
	}
	return withCode(res.Code)
}

// noProgress is why an import was given up. One that moves is not: how long it
// takes depends on the files.
func (t *tool) noProgress(order string) error {
	return &admin.Error{ID: "DN-ADMIN-005", Code: admin.CodeTemporary, What: "there is no answer to " + order + " within the time",
		Why: fmt.Sprintf("the daemon has told nothing for %v; it may still be at work", t.timeout), Do: "look at what is there, then give it again with a longer --timeout"}
}

func showImport(w io.Writer, res admin.ImportResult) {
	for _, i := range res.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.State, i.File, i.Kind, i.Owner, i.Reason)
	}
	if res.Omitted > 0 {
		fmt.Fprintf(w, "… and %d more\n", res.Omitted)
	}
	verb := "taken"
	if res.DryRun {
		verb = "would be taken"
	}
	replaced := ""
	if res.Replaced > 0 {
		replaced = fmt.Sprintf(", %d replaced", res.Replaced)
	}
	fmt.Fprintf(w, "%d %s, %d refused, %d warnings%s\n", res.Taken, verb, res.Refused, res.Warned, replaced)
}

// showPlan prints what an import changes: of a zone as a difference of records.
func showPlan(w io.Writer, p admin.ImportPlan) {
	fresh := ""
	if p.New {
		fresh = ", a new domain"
	}
	if p.Domain != "" {
		fmt.Fprintf(w, "plan for %s%s\n", p.Domain, fresh)
	}
	if p.Records != nil {
		showRecords(w, *p.Records)
	}
	if e := p.Entries; e != nil {
		fmt.Fprintf(w, "entries: %d read, %d with certificates that are taken, %d without certificates, %d refused\n", e.Read, e.Taken, e.Without, e.Refused)
	}
	c := p.Certificates
	fmt.Fprintf(w, "certificates: %d new, %d here already, %d left out, %d not bound to their owner, %d expired\n", c.New, c.Known, c.Left, c.Unbound, c.Expired)
	for _, o := range c.Owners {
		fmt.Fprintf(w, "  %s: %d new, %d here already", o.Owner, o.New, o.Known)
		if o.Left > 0 {
			fmt.Fprintf(w, ", %d left out", o.Left)
		}
		fmt.Fprintln(w)
	}
	if c.Omitted > 0 {
		fmt.Fprintf(w, "  … and %d certificates of others\n", c.Omitted)
	}
}

func showRecords(w io.Writer, r admin.RecordPlan) {
	fmt.Fprintf(w, "records: %d added, %d changed, %d removed, %d kept\n", r.Added, r.Changed, r.Removed, r.Kept)
	for _, c := range r.Changes {
		for _, line := range c.Before {
			fmt.Fprintf(w, "  - %s %s %s\n", c.Name, c.Type, line)
		}
		for _, line := range c.After {
			fmt.Fprintf(w, "  + %s %s %s\n", c.Name, c.Type, line)
		}
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "  … and %d more names and types\n", r.Omitted)
	}
}

// progress is a bar on standard error, where that is a terminal and text goes
// to people.
func (t *tool) progress() *bar {
	f, ok := t.errOut.(*os.File)
	if !ok || t.format == "json" || os.Getenv("TERM") == "dumb" {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return newBar(f, time.Now())
}
