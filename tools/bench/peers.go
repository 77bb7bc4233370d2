package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// versionWait bounds a program that is asked for its version.
const versionWait = 5 * time.Second

// find looks for a program where packages put daemons too.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// firstLine is how a program tells its version.
func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	path, err := find(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionWait)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // nsd -v ends with 1
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// write puts a configuration into place.
func write(dir, name, format string, args ...any) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600)
}

type nsd struct{}

func (nsd) name() string { return "NSD" }
func (nsd) settings() string {
	return "one server process, rate limit off, cookies as shipped, zone text"
}

func (nsd) version(ctx context.Context) (string, error) { return firstLine(ctx, "nsd", "-v") }

func (nsd) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	path, err := find("nsd")
	if err != nil {
		return nil, err
	}
	zone, err := d.ownText(dir)
	if err != nil {
		return nil, err
	}
	conf, err := write(dir, "nsd.conf", `server:
  server-count: 1
  ip-address: %[1]s@%[2]d
  username: ""
  chroot: ""
  zonesdir: "%[3]s"
  database: ""
  zonelistfile: "%[3]s/zone.list"
  pidfile: "%[3]s/nsd.pid"
  xfrdfile: "%[3]s/xfrd.state"
  xfrdir: "%[3]s"
  cookie-secret-file: "%[3]s/cookies"
  ipv4-edns-size: 4096
  tcp-count: 200
  rrl-ratelimit: 0
  zonefiles-write: 0
remote-control:
  control-enable: yes
  control-interface: "%[3]s/control"
zone:
  name: %[4]s
  zonefile: "%[5]s"
`, addr.Addr(), addr.Port(), dir, zoneName, zone)
	return exec.Command(path, "-d", "-c", conf), err
}

type knot struct{}

func (knot) name() string { return "Knot" }
func (knot) settings() string {
	return "one UDP, one TCP and one background worker, no modules (cookies and rate limit are modules), journal of changes, zone text"
}

func (knot) version(ctx context.Context) (string, error) { return firstLine(ctx, "knotd", "--version") }

func (knot) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	path, err := find("knotd")
	if err != nil {
		return nil, err
	}
	conf, err := write(dir, "knot.conf", `server:
  rundir: %[3]s
  listen: %[1]s@%[2]d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  udp-max-payload: 4096
  tcp-max-clients: 500
  tcp-idle-timeout: 60
database:
  storage: %[3]s
control:
  listen: %[3]s/control
log:
  - target: stderr
    any: warning
acl:
  - id: loopback
    address: 127.0.0.1
    action: update
zone:
  - domain: %[4]s
    file: %[5]s
    acl: loopback
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: changes
`, addr.Addr(), addr.Port(), dir, zoneName, d.zoneText)
	return exec.Command(path, "-c", conf), err
}

type bind struct{}

func (bind) name() string { return "BIND" }
func (bind) settings() string {
	return "one worker and one UDP listener, minimal responses, cookies as shipped, no query log, zone text"
}

func (bind) version(ctx context.Context) (string, error) { return firstLine(ctx, "named", "-v") }

func (bind) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	path, err := find("named")
	if err != nil {
		return nil, err
	}
	zone, err := d.ownText(dir) // the journal of updates stands beside it
	if err != nil {
		return nil, err
	}
	conf, err := write(dir, "named.conf", `options {
  directory "%[3]s";
  pid-file "%[3]s/named.pid";
  session-keyfile "%[3]s/session.key";
  managed-keys-directory "%[3]s";
  listen-on port %[2]d { %[1]s; };
  listen-on-v6 { none; };
  recursion no;
  minimal-responses yes;
  max-udp-size 4096;
  edns-udp-size 4096;
  tcp-clients 500;
  dnssec-validation no;
  notify no;
  querylog no;
};
controls { };
zone "%[4]s" { type primary; file "%[5]s"; allow-update { 127.0.0.1; }; };
`, addr.Addr(), addr.Port(), dir, zoneName, zone)
	return exec.Command(path, "-g", "-n", "1", "-U", "1", "-c", conf), err
}
