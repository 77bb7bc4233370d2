package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"directnode/internal/admin"
	"directnode/internal/testnode"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testnode.Clean()
	os.Exit(code)
}

// TestScripts runs the whole-node scenarios of testdata/scripts with the real
// programs. Beside testscript's commands they have:
//
//	node NAME [MORE]       write NAME.toml with free ports, and the file MORE with $HTTP and
//	                       $MONITOR put in after it, and start directd on it
//	http METHOD URL FILE   ask, and put status, header and body into FILE
//	stop NAME      end it with SIGTERM; it must drain and exit with 0
//	exits N CMD…   run a command that must exit with N
//	der FILE PEM   write the DER of a PEM file
//	fill FILE PEM  put the Base64 of a PEM file where FILE says CERTIFICATE
func TestScripts(t *testing.T) {
	programs := filepath.Dir(testnode.Program(t, "directctl"))
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "scripts"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", programs+string(filepath.ListSeparator)+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node":  cmdNode,
			"stop":  cmdStop,
			"exits": cmdExits,
			"der":   cmdDER,
			"fill":  cmdFill,
			"http":  cmdHTTP,
		},
	})
}

func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: node NAME [MORE]")
	}
	name := args[0]
	addrs, err := freePorts(6)
	ts.Check(err)
	ts.Setenv("HTTP", addrs[4])
	ts.Setenv("MONITOR", addrs[5])
	more := ""
	if len(args) == 2 {
		more = os.Expand(ts.ReadFile(args[1]), ts.Getenv)
	}
	text := fmt.Sprintf(`data_dir = %q
[node]
hostname = "node.%s.direct.test"
[dns]
listen = [%q]
[ldap]
listen = [%q]
[smtp]
listen = [%q]
submission = [%q]
[resolver]
servers = [%q]
`, ts.MkAbs(name), name, addrs[0], addrs[1], addrs[2], addrs[3], addrs[0])
	ts.Check(os.WriteFile(ts.MkAbs(name+".toml"), []byte(text+more), 0o600))
	host, port, _ := net.SplitHostPort(addrs[0])
	ts.Setenv("DNS_HOST", host)
	ts.Setenv("DNS_PORT", port)
	ts.Setenv("DNS", addrs[0])
	ts.Setenv("LDAP", addrs[1])
	ts.Check(startNode(ts, name))
}

// startNode starts directd in the background of the script and waits for it.
func startNode(ts *testscript.TestScript, name string) error {
	path := ts.MkAbs(name + ".toml")
	n, err := launch(ts.Getenv("PATH"), path)
	if err != nil {
		return err
	}
	ts.Defer(func() { _ = n.end() })
	running.Store(path, n)
	client := admin.NewClient(filepath.Join(ts.MkAbs(name), "admin.sock"))
	deadline := time.Now().Add(testnode.Wait)
	for {
		var s admin.Status
		if err = client.Do(context.Background(), "status", struct{}{}, &s); err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func cmdStop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stop NAME")
	}
	n, ok := running.Load(ts.MkAbs(args[0] + ".toml"))
	if !ok {
		ts.Fatalf("node %s is not running", args[0])
	}
	ts.Check(n.(*scriptNode).end())
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s exits with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func cmdDER(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: der FILE PEM")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
	if block == nil {
		ts.Fatalf("%s is no PEM", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), block.Bytes, 0o600))
}

func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill FILE PEM")
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(args[1])))
	if block == nil {
		ts.Fatalf("%s is no PEM", args[1])
	}
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "CERTIFICATE", base64.StdEncoding.EncodeToString(block.Bytes))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: http METHOD URL FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), testnode.Wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, args[0], args[1], nil)
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	f, err := os.Create(ts.MkAbs(args[2]))
	ts.Check(err)
	defer f.Close()
	ts.Check(res.Write(f))
}
