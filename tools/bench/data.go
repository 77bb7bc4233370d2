package main

import (
	"bufio"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dataSet is the zone that all servers serve.
type dataSet struct {
	names    int
	pool     *pool
	poolPath string // where the pool stands
	zoneText string // for the peers: RFC 1035 §5
	cache    string // the folder that keeps what takes long to make
	edited   bool   // a server that is changed by way of its zone text gets a copy of its own
}

// head is the zone without its certificates. The serial number has ten digits,
// so that a change in place keeps every line where it is.
const head = `$ORIGIN ` + zoneName + `.
$TTL 3600
@ IN SOA ns1 hostmaster 1000000001 3600 600 86400 300
@ IN NS ns1
@ IN MX 10 mail
ns1 IN A 127.0.0.1
mail IN A 127.0.0.1
`

// cacheFolder is where made data stays: DIRECTNODE_BENCH_CACHE, or a folder of
// the user's caches.
func cacheFolder() (string, error) {
	dir := os.Getenv("DIRECTNODE_BENCH_CACHE")
	if dir == "" {
		caches, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("%w; name a folder in DIRECTNODE_BENCH_CACHE", err)
		}
		dir = filepath.Join(caches, "directnode", "bench")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// lockCache waits until no other run uses the folder: two at once would measure
// each other.
func lockCache(dir string, say func(format string, args ...any)) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		say("another run is at work; waiting for it")
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

// makeData makes or finds a zone of so many names with certificates of size
// octets.
func makeData(cache string, names, size int, at time.Time) (*dataSet, error) {
	if names < spotChecks || names > maxNames {
		return nil, fmt.Errorf("%d names: give %d to %d", names, spotChecks, maxNames)
	}
	poolPath := filepath.Join(cache, fmt.Sprintf("pool-%d.der", size))
	p, err := loadPool(poolPath, size, at)
	if err != nil {
		return nil, err
	}
	d := &dataSet{names: names, pool: p, poolPath: poolPath, cache: cache, zoneText: filepath.Join(cache, fmt.Sprintf("zone-%d-%d.text", names, size))}
	made, err := os.Stat(poolPath)
	if err != nil {
		return nil, err
	}
	if text, err := os.Stat(d.zoneText); err == nil && text.ModTime().After(made.ModTime()) && text.Size() == d.offset(names) {
		return d, nil
	}
	return d, whole(d.zoneText, func(w io.Writer) error { return d.writeZone(w, 0, names) })
}

// whole writes a file under another name first: what was cut short is not
// taken for whole.
func whole(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // directd opens no store that others may read
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// writeZone writes the zone with the certificates from..to.
func (d *dataSet) writeZone(w io.Writer, from, to int) error {
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		if _, err := w.Write(d.line(i, 0)); err != nil {
			return err
		}
	}
	return nil
}

// line is the record of certificate i (RFC 4398 §2.2). All have one length.
func (d *dataSet) line(i, version int) []byte {
	b := fmt.Appendf(nil, "%s IN CERT PKIX 0 0 ", localPart(i))
	b = base64.StdEncoding.AppendEncode(b, d.pool.certificate(i, version))
	return append(b, '\n')
}

// offset is where line i stands in the zone text.
func (d *dataSet) offset(i int) int64 {
	return int64(len(head)) + int64(i)*int64(len(d.line(0, 0)))
}

// ownText is the zone text for a server that reads it.
func (d *dataSet) ownText(dir string) (string, error) {
	if !d.edited {
		return d.zoneText, nil
	}
	path := filepath.Join(dir, "zone.text")
	return path, copyFile(path, d.zoneText)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return whole(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// perBundle is how many certificates stand in one PEM file: directctl reads
// files of up to 64 MiB.
const perBundle = 25_000

// writeBundles writes the certificates from..to as PEM files into dir.
func (d *dataSet) writeBundles(dir string, from, to int) ([]string, error) {
	var paths []string
	for first := from; first < to; first += perBundle {
		path := filepath.Join(dir, fmt.Sprintf("certificates-%07d.pem", first))
		err := whole(path, func(w io.Writer) error {
			for i := first; i < min(first+perBundle, to); i++ {
				if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: d.pool.certificate(i, 0)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
