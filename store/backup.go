package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"time"

	"directnode/store/kv"
)

// A backup, version 1: it does not depend on the driver of the kv store.
//
//	"directnode backup\n" | version (2 octets) | header
//	entries: 'E' | length of key (4) | length of value (4) | key | value
//	end:     'T' | number of entries (8) | SHA-256 of all octets before it (32)
//
// The header is an entry's value in JSON with a length (4) before it. Entries
// are those of schema.go but for the generation: domain by domain, then keys
// and transfers, each sorted by key. Private keys
// and TSIG secrets are in it as in the store, sealed: the master key is not.
const (
	backupMagic   = "directnode backup\n"
	backupVersion = 1
	// maxBackupHeader: it holds three small fields.
	maxBackupHeader = 4 << 10
)

type backupHeader struct {
	Created    time.Time `json:"created"`
	Schema     int       `json:"schema"`
	Generation int64     `json:"generation"`
}

// Backup writes the present generation. Changes go on meanwhile and are not
// in it.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	v := s.View()
	out := newBackupWriter(w)
	out.begin(backupHeader{time.Now().UTC().Truncate(time.Second), schemaVersion, v.Rev})
	if s.seal != nil {
		out.entry(keyMaster, s.seal.master())
	} else if s.anyKey() {
		e, err := s.db.Get(ctx, keyMaster)
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		out.entry(keyMaster, e.Value)
	}
	for _, d := range v.domains {
		out.domain(v.data[d])
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	peers := v.peers.entries()
	for _, key := range slices.Sorted(maps.Keys(peers)) {
		out.entry(key, peers[key])
	}
	if err := out.end(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// backupWriter keeps the first error, as bufio.Writer does.
type backupWriter struct {
	buf   *bufio.Writer
	hash  hash.Hash
	w     io.Writer // both of them
	count uint64
}

func newBackupWriter(w io.Writer) *backupWriter {
	b := &backupWriter{buf: bufio.NewWriterSize(w, 1<<16), hash: sha256.New()}
	b.w = io.MultiWriter(b.hash, b.buf)
	return b
}

func (b *backupWriter) begin(h backupHeader) {
	header := marshal(h)
	start := binary.BigEndian.AppendUint16([]byte(backupMagic), backupVersion)
	start = binary.BigEndian.AppendUint32(start, uint32(len(header)))
	b.w.Write(append(start, header...)) // end reports
}

func (b *backupWriter) entry(key string, value []byte) {
	e := make([]byte, 0, 9+len(key)+len(value))
	e = append(e, 'E')
	e = binary.BigEndian.AppendUint32(e, uint32(len(key)))
	e = binary.BigEndian.AppendUint32(e, uint32(len(value)))
	e = append(e, key...)
	b.w.Write(append(e, value...)) // end reports
	b.count++
}

// domain writes all entries of a domain, sorted by key.
func (b *backupWriter) domain(dd *DomainData) {
	entries := entriesOf(dd)
	keys := slices.Sorted(maps.Keys(entries))
	upTo := func(end string) {
		for len(keys) > 0 && keys[0] < end {
			b.entry(keys[0], entries[keys[0]])
			keys = keys[1:]
		}
	}
	records := func(prefix string, t *table) {
		upTo(prefix)
		t.sortedBy(compareStored, func(r record) bool {
			b.entry(recordKeyIn(prefix, r), r)
			return true
		})
	}
	records(certKeys(dd.Domain), dd.Certificates.certs)
	records(keyKeys(dd.Domain), dd.Keys.keys)
	upTo("\xff")
}

func (b *backupWriter) end() error {
	b.w.Write(binary.BigEndian.AppendUint64([]byte{'T'}, b.count)) // reported below
	if _, err := b.buf.Write(b.hash.Sum(nil)); err != nil {
		return err
	}
	return b.buf.Flush()
}

// parsedBackup is a backup whose form is right and whose sum is right.
type parsedBackup struct {
	header  backupHeader
	entries []kv.KV
	master  []byte // value of meta/master; nil if there was none
}

// backupReader reads a backup with a running hash.
type backupReader struct {
	r    *bufio.Reader
	hash hash.Hash
}

// take reads n octets. They are read in pieces, so that a length that lies
// costs no more memory than the octets that are there.
func (b *backupReader) take(n int) ([]byte, error) {
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, b.r, int64(n)); err != nil {
		return nil, damagedBackup("it is cut short")
	}
	b.hash.Write(buf.Bytes())
	return buf.Bytes(), nil
}

func damagedBackup(format string, args ...any) error {
	return refuse("the backup", ErrDamaged, format, args...)
}

// parseBackup reads all of a backup. Nothing in it is believed before the sum
// at its end is right.
func parseBackup(ctx context.Context, r io.Reader) (*parsedBackup, error) {
	b := &backupReader{bufio.NewReaderSize(r, 1<<16), sha256.New()}
	p := &parsedBackup{}
	if err := b.header(&p.header); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		mark, err := b.take(1)
		if err != nil {
			return nil, err
		}
		switch {
		case mark[0] == 'T':
			return p, b.trailer(uint64(len(p.entries)), p.master != nil)
		case mark[0] != 'E' || len(p.entries) == kv.MaxTxnOps:
			return nil, damagedBackup("malformed after %d entries", len(p.entries))
		}
		if err := b.entry(p); err != nil {
			return nil, err
		}
	}
}

func (b *backupReader) header(h *backupHeader) error {
	start, err := b.take(len(backupMagic) + 2 + 4)
	if err != nil {
		return err
	}
	if string(start[:len(backupMagic)]) != backupMagic {
		return refuse("the file", ErrMalformed, "it is no backup of a Direct Node")
	}
	numbers := start[len(backupMagic):]
	if v := binary.BigEndian.Uint16(numbers); v != backupVersion {
		return refuse("the backup", ErrSchema, "it has format %d, this version knows %d", v, backupVersion)
	}
	size := binary.BigEndian.Uint32(numbers[2:])
	if size > maxBackupHeader {
		return damagedBackup("a header of %d octets", size)
	}
	value, err := b.take(int(size))
	if err != nil {
		return err
	}
	if err := checkSchema("the backup", value); err != nil {
		return err
	}
	if err := unmarshal(value, h); err != nil || h.Generation < 1 {
		return damagedBackup("malformed header")
	}
	return nil
}

func (b *backupReader) entry(p *parsedBackup) error {
	sizes, err := b.take(8)
	if err != nil {
		return err
	}
	keySize, valueSize := binary.BigEndian.Uint32(sizes), binary.BigEndian.Uint32(sizes[4:])
	if keySize == 0 || keySize > kv.MaxKey || valueSize > kv.MaxValue {
		return damagedBackup("entry %d with a key of %d octets and a value of %d", len(p.entries), keySize, valueSize)
	}
	key, err := b.take(int(keySize))
	if err != nil {
		return err
	}
	value, err := b.take(int(valueSize))
	if err != nil {
		return err
	}
	switch {
	case string(key) == keyMaster && p.master == nil:
		p.master = value
	case string(key) == keyMaster:
		return damagedBackup("%s stands in it twice", keyMaster)
	default:
		p.entries = append(p.entries, kv.KV{Key: string(key), Value: value})
	}
	return nil
}

// trailer checks count and sum, and that nothing follows.
func (b *backupReader) trailer(count uint64, master bool) error {
	if master {
		count++
	}
	number, err := b.take(8)
	if err != nil {
		return err
	}
	want := b.hash.Sum(nil)
	sum, err := b.take(sha256.Size)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(number) != count || !bytes.Equal(sum, want) {
		return damagedBackup("count or check sum do not agree with its %d entries", count)
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return damagedBackup("something follows its end")
	}
	return nil
}
