package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"directnode/dnsserver"
	"directnode/internal/config"
	"directnode/zones"
)

// TestAReloadChangesWhatCanChange: the level of the log and the query log; it
// says where more was changed, and a file with a fault changes nothing.
func TestAReloadChangesWhatCanChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "directd.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("data_dir = \"d\"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n := &node{cfg: cfg, path: path}
	n.level.Set(logLevel(cfg))
	n.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &n.level}))
	if n.tls, err = loadCertificates(cfg); err != nil {
		t.Fatal(err)
	}
	dns := dnsserver.New(func() *zones.Set { return nil }, dnsserver.Options{})
	const restart = "need a restart"
	for _, step := range []struct {
		text  string
		level slog.Level
		want  string
		quiet string
	}{
		{"[dns]\nquery_log = \"1/100\"\n[log]\nlevel = \"debug\"\n", slog.LevelDebug, "dns.query_log=1/100", restart},
		{"[dns]\nquery_log = \"1/100\"\nudp_cert = \"never\"\n", slog.LevelInfo, restart, "stays"},
		{"[dns]\nquery_log = \"some\"\n[log]\nlevel = \"debug\"\n", slog.LevelInfo, ":3: dns.query_log: ", "read again\" log"},
		{"[dns]\nquery_lag = \"off\"\n", slog.LevelInfo, "did you mean dns.query_log?", restart},
		{"", slog.LevelInfo, "dns.query_log=off", restart},
	} {
		out.Reset()
		write(step.text)
		n.reloadNow(dns)
		if n.level.Level() != step.level || !strings.Contains(out.String(), step.want) || strings.Contains(out.String(), step.quiet) {
			t.Errorf("%q: level %v\n%s", step.text, n.level.Level(), out.String())
		}
	}
}

func TestOnlyTheLogsChangeWithoutARestart(t *testing.T) {
	a, b := config.Default(), config.Default()
	b.Log.Level, b.DNS.QueryLog, b.DNS.QueryLogNames = "warn", "1/7", true
	if needsRestart(a, b) {
		t.Error("the logs need a restart")
	}
	b.DNS.Rate++
	if !needsRestart(a, b) {
		t.Error("a rate needs none")
	}
}
