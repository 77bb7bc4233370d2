package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// directory is embedded by kinds that are asked by LDAP alone.
type directory struct{}

func (directory) asksLDAP() {}

// ownDirectory is directd asked by LDAP. It is the same node as for DNS, which
// it answers too.
type ownDirectory struct {
	own
	directory
}

func (o ownDirectory) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	node := o.own
	dns := node.ldap // a free port, of which the node has no other use here
	node.ldap = addr
	return node.command(dir, dns, d)
}

func (ownDirectory) settings() string {
	return "as shipped, answering DNS too; `ldap.anonymous` is exact; loopback is exempt from limits but not from their look-ups; data directory"
}

// slapd is OpenLDAP's server.
type slapd struct{ directory }

const (
	// slapdThreads is the least that slapd takes.
	slapdThreads = 2

	// slapdRoom is the size of the map, of which only what is used takes disk.
	slapdRoom = 64 << 30

	// slapdIndexes: each search looks for referrals too, by their objectClass,
	// and without an index on that it walks through all entries.
	slapdIndexes = "index objectClass eq\nindex mail eq\n"
)

func (slapd) name() string { return "slapd" }
func (slapd) settings() string {
	return fmt.Sprintf("mdb, read-only, equality indexes on mail and objectClass, %d threads, no log; data by `slapadd -q`, entries as directd has them", slapdThreads)
}

func (slapd) version(ctx context.Context) (string, error) {
	line, err := firstLine(ctx, "slapd", "-VV")
	version, _, _ := strings.Cut(strings.TrimPrefix(line, "@(#) $"), "$")
	return strings.TrimPrefix(strings.TrimSpace(version), "OpenLDAP: "), err
}

func (s slapd) command(dir string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	path, err := find("slapd")
	if err != nil {
		return nil, err
	}
	stored, err := s.stored(d)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(stored); err != nil {
		return nil, fmt.Errorf("nothing was loaded: %w", err)
	}
	conf, err := s.configuration(dir, stored, true)
	return exec.Command(path, "-d", "0", "-f", conf, "-h", "ldap://"+addr.String()+"/"), err
}

// configuration writes slapd.conf for a database.
func (slapd) configuration(dir, database string, readOnly bool) (string, error) {
	schema, err := firstOf("/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema")
	if err != nil {
		return "", fmt.Errorf("slapd's schema: %w", err)
	}
	// The back end may be built in; then there is no module.
	module := ""
	if dir, err := firstOf("/usr/lib/ldap/back_mdb.la", "/usr/lib64/openldap/back_mdb.la", "/usr/lib/openldap/back_mdb.la"); err == nil {
		module = "modulepath " + filepath.Dir(dir) + "\nmoduleload back_mdb\n"
	}
	mode := "off"
	if readOnly {
		mode = "on"
	}
	return write(dir, "slapd.conf", `include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
pidfile %[2]s/slapd.pid
argsfile %[2]s/slapd.args
%[3]sthreads %[4]d
tool-threads 2
loglevel 0
access to * by * read
database mdb
maxsize %[5]d
suffix "%[6]s"
directory %[7]s
%[9]sreadonly %[8]s
`, schema, dir, module, slapdThreads, slapdRoom, directoryBase, database, mode, slapdIndexes)
}

func firstOf(paths ...string) (string, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: none of %s", fs.ErrNotExist, strings.Join(paths, ", "))
}

// stored is the folder with the database that this version of slapd has loaded.
func (s slapd) stored(d *dataSet) (string, error) {
	version, err := s.version(context.Background())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(version + slapdIndexes))
	return filepath.Join(d.cache, s.base(d)+hex.EncodeToString(sum[:6])), nil
}

func (slapd) base(d *dataSet) string {
	return "slapd-" + strings.TrimSuffix(filepath.Base(d.zoneText), ".text") + "-"
}

// prepare loads the database by slapadd, unless it was loaded before.
func (s slapd) prepare(ctx context.Context, d *dataSet, say func(format string, args ...any)) error {
	load, err := find("slapadd")
	if err != nil {
		return err
	}
	stored, err := s.stored(d)
	if err != nil {
		return err
	}
	text, err := os.Stat(d.zoneText)
	if err != nil {
		return err
	}
	if loaded, err := os.Stat(filepath.Join(stored, "data.mdb")); err == nil && loaded.ModTime().After(text.ModTime()) {
		return nil
	}
	old, err := filepath.Glob(filepath.Join(d.cache, s.base(d)+"*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	say("loading %d entries into slapd's database", d.names)
	half := stored + ".part"
	if err := os.MkdirAll(half, 0o700); err != nil {
		return err
	}
	conf, err := s.configuration(half, half, false)
	if err != nil {
		return err
	}
	if err := s.add(ctx, load, conf, d); err != nil {
		return err
	}
	return os.Rename(half, stored)
}

// add gives the entries to slapadd as they are made.
func (slapd) add(ctx context.Context, load, conf string, d *dataSet) error {
	r, w := io.Pipe()
	cmd := exec.CommandContext(ctx, load, "-q", "-f", conf)
	cmd.Stdin = r
	made := make(chan error, 1)
	go func() {
		err := d.writeLDIF(w)
		made <- errors.Join(err, w.CloseWithError(err))
	}()
	out, err := cmd.CombinedOutput()
	r.CloseWithError(errLoaded)
	if wrote := <-made; err == nil && wrote != nil {
		err = wrote
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %.*s", load, err, maxLog, out)
	}
	return nil
}

var errLoaded = errors.New("slapadd reads no more")

// writeLDIF writes the entries as directd shows them (RFC 2849).
func (d *dataSet) writeLDIF(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "dn: %s\nobjectClass: top\nobjectClass: organization\nobjectClass: dcObject\ndc: bench\no: %s\n\n", directoryBase, zoneName); err != nil {
		return err
	}
	for i := range d.names {
		if _, err := w.Write(d.entry(i)); err != nil {
			return err
		}
	}
	return nil
}

// entry is the LDIF of owner i.
func (d *dataSet) entry(i int) []byte {
	b := fmt.Appendf(nil, `dn: uid=%[1]s,%[3]s
objectClass: top
objectClass: person
objectClass: organizationalPerson
objectClass: inetOrgPerson
cn: %[2]s
sn: %[2]s
uid: %[1]s
mail: %[2]s
userCertificate;binary:: `, localPart(i), mailOf(i), directoryBase)
	b = base64.StdEncoding.AppendEncode(b, d.pool.certificate(i, 0))
	return append(b, '\n', '\n')
}

// gldapServer is what a programmer would write in Go with a library.
type gldapServer struct{ directory }

func (gldapServer) name() string { return "gldap" }
func (gldapServer) settings() string {
	return "a plain server with that library: a map of addresses, each answer built when it is asked for; GOMAXPROCS=1"
}

func (gldapServer) version(context.Context) (string, error) { return moduleVersion(gldapModule) }

func (gldapServer) command(_ string, addr netip.AddrPort, d *dataSet) (*exec.Cmd, error) {
	self, err := os.Executable()
	cmd := exec.Command(self, gldapMode, addr.String(), d.poolPath, strconv.Itoa(d.names))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	return cmd, err
}
