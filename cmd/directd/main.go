// Command directd publishes an organization's certificates by DNS and LDAP and
// runs its Security/Trust Agent.
//
// main.go reads flags and signals, run.go builds everything, wires it, serves
// and drains, publish.go turns a change of the store into the next generation
// that the servers read, adapt.go fits the rooms to the small interfaces of
// their users. `directd --help` and docs/OPERATING.md say the rest.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(realMain(os.Args[1:]))
}

func realMain(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cmd := command(func(path string) error { return serve(ctx, path) })
	cmd.SetArgs(args)
	err := cmd.Execute()
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, "directd: "+exit.Error())
		return exit.code
	default:
		fmt.Fprintln(os.Stderr, "directd: "+err.Error())
		return exitUsage
	}
}

// logger writes JSON lines to standard output, where a service manager keeps
// them.
func logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level}))
}
