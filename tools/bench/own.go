package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// perOrder is how many certificates one order imports.
	perOrder = 100_000

	orderTimeout = "30m"

	// maxZoneFile is below the 64 MiB that directctl reads of a file.
	maxZoneFile = 60 << 20
)

// own is directd, with everything on that a node on the internet has on.
type own struct {
	bin  string // the folder with directd and directctl
	ldap netip.AddrPort
}

func (own) name() string { return "directd" }
func (own) settings() string {
	return "as shipped (cookies, rate limit, statistics, LDAP; SMTP without listeners); udp_cert = \"always\" and udp_size = 4096, for the peers answer so; loopback is exempt from limits but not from their look-ups; data directory"
}

func (o own) version(ctx context.Context) (string, error) {
	return firstLine(ctx, filepath.Join(o.bin, "directd"), "--version")
}

func (o own) configuration(dir string, addr netip.AddrPort) (string, error) {
	return write(dir, "directd.toml", `data_dir = %[3]q
[node]
hostname = "ns1.%[4]s"
[dns]
listen = [%[1]q]
udp_cert = "always"
udp_size = 4096
[ldap]
listen = [%[2]q]
[smtp]
listen = []
submission = []
`, addr, o.ldap, filepath.Join(dir, "data"), zoneName)
}

func (o own) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	stored, err := o.stored(d)
	if err != nil {
		return nil, err
	}
	if err := o.copyStore(filepath.Join(dir, "data"), stored); err != nil {
		return nil, err
	}
	conf, err := o.configuration(dir, addr)
	return exec.Command(filepath.Join(o.bin, "directd"), "--config", conf), err
}

func (o own) copyStore(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"store.db", "master.key"} {
		if err := copyFile(filepath.Join(to, name), filepath.Join(from, name)); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(to, "master.key"), 0o400)
}

// stored is the folder with the imported data of this very program: what
// another version has stored may be another format.
func (o own) stored(d *dataSet) (string, error) {
	f, err := os.Open(filepath.Join(o.bin, "directd"))
	if err != nil {
		return "", fmt.Errorf("%w; run `make` first", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	base := strings.TrimSuffix(filepath.Base(d.zoneText), ".text")
	return filepath.Join(d.cache, fmt.Sprintf("store-%s-%s", base, hex.EncodeToString(h.Sum(nil)[:6]))), nil
}

// prepare makes the data directory by a real import, unless this program has
// made it before, and says how long the orders took; 0 if there were none.
func (o own) prepare(ctx context.Context, d *dataSet, scratch string) (time.Duration, error) {
	stored, err := o.stored(d)
	if err != nil {
		return 0, err
	}
	text, err := os.Stat(d.zoneText)
	if err != nil {
		return 0, err
	}
	if s, err := os.Stat(filepath.Join(stored, "store.db")); err == nil && s.ModTime().After(text.ModTime()) {
		return 0, nil
	}
	if err := o.dropStores(d); err != nil {
		return 0, err
	}
	took, err := o.importAll(ctx, d, scratch, o.certOrders, false)
	if err != nil {
		return 0, err
	}
	half := stored + ".part"
	if err := os.RemoveAll(half); err != nil {
		return 0, err
	}
	if err := o.copyStore(half, filepath.Join(scratch, "data")); err != nil {
		return 0, err
	}
	return took, os.Rename(half, stored)
}

// dropStores removes what other versions of the program have stored.
func (o own) dropStores(d *dataSet) error {
	base := strings.TrimSuffix(filepath.Base(d.zoneText), ".text")
	old, err := filepath.Glob(filepath.Join(d.cache, "store-"+base+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// orders fill a node that runs and say how long they took.
type orders func(ctx context.Context, d *dataSet, scratch, conf string) (time.Duration, error)

// importAll fills a new data directory below scratch. With crash the daemon is
// killed at once when the last order is done.
func (o own) importAll(ctx context.Context, d *dataSet, scratch string, give orders, crash bool) (time.Duration, error) {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return 0, err
	}
	addr, err := freePort()
	if err != nil {
		return 0, err
	}
	conf, err := o.configuration(scratch, addr)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(filepath.Join(o.bin, "directd"), "--config", conf)
	p, err := startOn(anyCore, cmd, filepath.Join(scratch, "output"))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	err = o.awaitSocket(ctx, conf)
	var took time.Duration
	if err == nil {
		took, err = give(ctx, d, scratch, conf)
	}
	if err != nil {
		return 0, fmt.Errorf("%w; directd said: %s", err, p.said())
	}
	if crash {
		err = p.cmd.Process.Kill()
	}
	return took, err
}

// certOrders give the records as a zone file and the certificates as PEM files.
func (o own) certOrders(ctx context.Context, d *dataSet, scratch, conf string) (time.Duration, error) {
	zone := filepath.Join(scratch, "records.zone")
	if err := os.WriteFile(zone, []byte(head), 0o600); err != nil {
		return 0, err
	}
	if err := o.ctl(ctx, conf, "zone", "import", zone, "--origin", zoneName); err != nil {
		return 0, err
	}
	var sum time.Duration
	for from := 0; from < d.names; from += perOrder {
		paths, err := d.writeBundles(scratch, from, min(from+perOrder, d.names))
		if err != nil {
			return 0, err
		}
		took, err := o.timed(ctx, conf, paths, append([]string{"cert", "import"}, paths...)...)
		if err != nil {
			return 0, err
		}
		sum += took
	}
	return sum, nil
}

// zoneOrders give everything as zone files of the size that directctl takes.
func (o own) zoneOrders(ctx context.Context, d *dataSet, scratch, conf string) (time.Duration, error) {
	perFile := maxZoneFile / len(d.line(0, 0))
	var sum time.Duration
	for from := 0; from < d.names; from += perFile {
		path := filepath.Join(scratch, "part.zone")
		err := whole(path, func(w io.Writer) error { return d.writeZone(w, from, min(from+perFile, d.names)) })
		if err != nil {
			return 0, err
		}
		took, err := o.timed(ctx, conf, []string{path}, "zone", "import", path, "--origin", zoneName)
		if err != nil {
			return 0, err
		}
		sum += took
	}
	return sum, nil
}

// timed gives an order about files and removes them.
func (o own) timed(ctx context.Context, conf string, paths []string, args ...string) (time.Duration, error) {
	began := time.Now()
	err := o.ctl(ctx, conf, args...)
	took := time.Since(began)
	for _, path := range paths {
		err = errOr(err, os.Remove(path))
	}
	return took, err
}

// awaitSocket waits until the daemon takes orders.
func (o own) awaitSocket(ctx context.Context, conf string) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := o.ctl(ctx, conf, "status")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ctl gives an order from any core.
func (o own) ctl(ctx context.Context, conf string, args ...string) error {
	args = append([]string{"--config", conf, "--timeout", orderTimeout}, args...)
	_, err := output(ctx, anyCore, filepath.Join(o.bin, "directctl"), args...)
	return err
}

// again is a node on a data directory that is there already.
type again struct{ own }

func (a again) command(dir string, addr netip.AddrPort, _ *dataSet) (*exec.Cmd, error) {
	conf, err := a.configuration(dir, addr)
	return exec.Command(filepath.Join(a.bin, "directd"), "--config", conf), err
}
