// Command directctl gives orders to a Direct node, and discovers certificates
// for anybody.
//
// One file per noun; every order goes to the daemon over its admin socket
// (internal/admin), whose files the tool never opens. `discover` needs no
// daemon, `quickstart` starts its own two. Text output is for people, -o json is
// stable; exit codes are those of docs/OPERATING.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"directnode/internal/admin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(realMain(ctx, os.Args[1:]))
}

// realMain runs one command and gives its exit code.
func realMain(ctx context.Context, args []string) int {
	return runWith(ctx, os.Stdout, os.Stderr, args)
}

func runWith(ctx context.Context, out, errOut io.Writer, args []string) int {
	t := &tool{out: out, errOut: errOut}
	cmd := t.root()
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if asksJSON(args) { // a flag before it may have ended the parsing
		t.format = "json"
	}
	return t.fail(err)
}

// asksJSON tells whether a command line asks for JSON, whatever else is wrong
// with it.
func asksJSON(args []string) bool {
	for i, a := range args {
		switch a {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// codeError ends the tool with a code after its output has said everything.
type codeError int

func (c codeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// withCode is nil for 0.
func withCode(code int) error {
	if code == 0 {
		return nil
	}
	return codeError(code)
}

// fail prints an error as the output format wants it and gives its code.
func (t *tool) fail(err error) int {
	var code codeError
	if errors.As(err, &code) {
		return int(code)
	}
	var e *admin.Error
	if !errors.As(err, &e) {
		e = &admin.Error{ID: "DN-USAGE-001", Code: admin.CodeUsage, What: "the command was not carried out", Why: err.Error(), Do: "`directctl help` shows the commands"}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			e = &admin.Error{ID: "DN-USAGE-002", Code: admin.CodeTemporary, What: "the command was ended", Why: "it was interrupted or took longer than --timeout", Do: "try again, with a longer --timeout where it was too short"}
		}
	}
	if t.format == "json" {
		_ = json.NewEncoder(t.out).Encode(map[string]*admin.Error{"error": e})
	} else {
		why := printable(e.Why, "\n") // errors of the configuration have a line for each key
		fmt.Fprintf(t.errOut, "directctl: %s: %s\n  what to do: %s (%s)\n", printable(e.What, ""), why, printable(e.Do, ""), e.ID)
	}
	return e.Code
}
