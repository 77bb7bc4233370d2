package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	bbolt "go.etcd.io/bbolt"

	"directnode/store/kv"
)

const (
	bucketState = "state"
	bucketData  = "data"
	bucketLog   = "log"
	keyState    = "s"

	// format is the version of this layout. A file of another one is refused.
	format = 1

	dataHeader = 8 + 4 // revision, CRC
	logHeader  = 1 + 4 // kind, CRC
	logKeySize = 8 + 4 // revision, number in it
	stateSize  = 7*8 + 4
)

// castagnoli is the CRC with hardware support.
func castagnoli(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// state is what the store knows about itself. The counts and the sum make a
// lost or doubled entry visible, which a check sum per entry cannot.
type state struct {
	rev       int64
	compacted int64 // the history begins after this revision
	logCount  int64
	logBytes  int64
	keys      int64
	sum       uint64 // sum over the data of their entry sums, modulo 2^64
}

func (s state) save(tx *bbolt.Tx) error {
	b := make([]byte, 0, stateSize)
	for _, v := range []uint64{format, uint64(s.rev), uint64(s.compacted), uint64(s.logCount), uint64(s.logBytes), uint64(s.keys), s.sum} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, castagnoli(b))
	return tx.Bucket([]byte(bucketState)).Put([]byte(keyState), b)
}

func loadState(tx *bbolt.Tx) (state, error) {
	bucket := tx.Bucket([]byte(bucketState))
	if bucket == nil || tx.Bucket([]byte(bucketData)) == nil || tx.Bucket([]byte(bucketLog)) == nil {
		return state{}, fmt.Errorf("a bucket is missing: %w", ErrDamaged)
	}
	b := bucket.Get([]byte(keyState))
	// Every format begins with its number and ends with the check sum.
	end := len(b) - 4
	if end < 8 || castagnoli(b[:end]) != binary.BigEndian.Uint32(b[end:]) {
		return state{}, fmt.Errorf("state: wrong check sum: %w", ErrDamaged)
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	if at(0) != format {
		return state{}, fmt.Errorf("format %d of the store file is unknown to this version, which knows %d: run the version that wrote it", at(0), format)
	}
	if len(b) != stateSize {
		return state{}, fmt.Errorf("state: %d octets: %w", len(b), ErrDamaged)
	}
	return state{rev: int64(at(1)), compacted: int64(at(2)), logCount: int64(at(3)), logBytes: int64(at(4)), keys: int64(at(5)), sum: at(6)}, nil
}

// encodeData makes the stored form of a value.
func encodeData(key string, rev int64, value []byte) []byte {
	b := make([]byte, dataHeader+len(value))
	binary.BigEndian.PutUint64(b, uint64(rev))
	copy(b[dataHeader:], value)
	binary.BigEndian.PutUint32(b[8:], castagnoli([]byte(key), b[:8], value))
	return b
}

// decodeData checks the stored form and returns the revision and the value,
// which still lies in the transaction's memory.
func decodeData(key, b []byte) (int64, []byte, error) {
	if len(b) < dataHeader {
		return 0, nil, fmt.Errorf("key %q: cut short: %w", key, ErrDamaged)
	}
	value := b[dataHeader:]
	if castagnoli(key, b[:8], value) != binary.BigEndian.Uint32(b[8:]) {
		return 0, nil, fmt.Errorf("key %q: wrong check sum: %w", key, ErrDamaged)
	}
	return int64(binary.BigEndian.Uint64(b)), value, nil
}

// entrySum is what an entry adds to state.sum: its CRC, which covers key,
// revision and value, and its length, spread over 64 bits.
func entrySum(key, stored []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads neighbours
	return (uint64(binary.BigEndian.Uint32(stored[8:]))<<24 + uint64(len(key)+len(stored))) * odd
}

func logKey(rev int64, n int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, logKeySize), uint64(rev))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func logRev(key []byte) int64 { return int64(binary.BigEndian.Uint64(key)) }

func encodeEvent(key []byte, e kv.Event) []byte {
	b := make([]byte, logHeader, logHeader+binary.MaxVarintLen32+len(e.Key)+len(e.Value))
	b[0] = byte(e.Kind)
	b = binary.AppendUvarint(b, uint64(len(e.Key)))
	b = append(b, e.Key...)
	b = append(b, e.Value...)
	binary.BigEndian.PutUint32(b[1:], castagnoli(key, b[:1], b[logHeader:]))
	return b
}

// decodeEvent checks an entry of the log and copies it out.
func decodeEvent(key, b []byte) (kv.Event, error) {
	if len(key) != logKeySize || len(b) < logHeader || castagnoli(key, b[:1], b[logHeader:]) != binary.BigEndian.Uint32(b[1:]) {
		return kv.Event{}, fmt.Errorf("history entry %x: wrong check sum: %w", key, ErrDamaged)
	}
	rest := b[logHeader:]
	n, used := binary.Uvarint(rest)
	if used <= 0 || n > uint64(len(rest)-used) {
		return kv.Event{}, fmt.Errorf("history entry %x: malformed: %w", key, ErrDamaged)
	}
	e := kv.Event{Rev: logRev(key), Kind: kv.OpKind(b[0]), Key: string(rest[used : used+int(n)])}
	if e.Kind == kv.Put {
		e.Value = append([]byte{}, rest[used+int(n):]...)
	}
	return e, nil
}
