package kv

import "fmt"

// The limits of a request. They bind every driver alike, so that what was
// written to one can be restored into another.
const (
	// MaxKey leaves room for a name of 253 octets, an owner of 254, a
	// fingerprint of 64 and the separators, twice over.
	MaxKey = 1 << 10
	// MaxValue stays below etcd's default request limit of 1.5 MiB. Nothing
	// that belongs here comes near it; message bodies do not belong here.
	MaxValue = 1 << 20
	// MaxTxnOps lets a node of a million certificates be restored in one
	// transaction, with its keys and records.
	MaxTxnOps = 4 << 20
	// MaxTxnBytes bounds the memory of a transaction: a million certificates
	// of 1.5 KiB and their keys, and room to spare.
	MaxTxnBytes int64 = 8 << 30
	// MaxScanKeys and MaxScanBytes bound a page of Scan: large enough that a
	// million keys are a few hundred calls, small enough to hold twice.
	MaxScanKeys  = 4096
	MaxScanBytes = 16 << 20
)

// Validate holds a transaction against the limits. Drivers call it before
// they touch anything; the error wraps ErrInvalid and names the key.
func Validate(conds []Cond, ops []Op) error {
	if len(ops) > MaxTxnOps || len(conds) > MaxTxnOps {
		return fmt.Errorf("%w: %d operations and %d conditions, at most %d", ErrInvalid, len(ops), len(conds), MaxTxnOps)
	}
	for _, c := range conds {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		if c.Rev < 0 {
			return fmt.Errorf("%w: condition on %q: revision %d", ErrInvalid, c.Key, c.Rev)
		}
	}
	seen := make(map[string]struct{}, len(ops))
	var total int64
	for _, op := range ops {
		if err := checkOp(op); err != nil {
			return err
		}
		if _, twice := seen[op.Key]; twice {
			// The order of two changes of one key inside one revision would
			// be invisible to a watcher; etcd refuses it too.
			return fmt.Errorf("%w: %q stands twice in one transaction", ErrInvalid, op.Key)
		}
		seen[op.Key] = struct{}{}
		total += int64(len(op.Key) + len(op.Value))
	}
	if total > MaxTxnBytes {
		return fmt.Errorf("%w: a transaction of %d octets, at most %d", ErrInvalid, total, MaxTxnBytes)
	}
	return nil
}

func checkOp(op Op) error {
	if err := checkKey(op.Key); err != nil {
		return err
	}
	switch {
	case op.Kind != Put && op.Kind != Delete:
		return fmt.Errorf("%w: %q: operation %d", ErrInvalid, op.Key, op.Kind)
	case op.Kind == Delete && len(op.Value) > 0:
		return fmt.Errorf("%w: %q: a deletion with a value", ErrInvalid, op.Key)
	case len(op.Value) > MaxValue:
		return fmt.Errorf("%w: %q: a value of %d octets, at most %d", ErrInvalid, op.Key, len(op.Value), MaxValue)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: the empty key", ErrInvalid)
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: key %q… of %d octets, at most %d", ErrInvalid, key[:32], len(key), MaxKey)
	}
	return nil
}

// Defaults of the history that a driver keeps for Watch. Events older than
// both allow are forgotten, whole revisions at a time, and so is a transaction
// that alone is larger: whoever watched then reads everything again, which
// after such a change is no more work than the change was.
const (
	// DefaultHistoryEvents covers hours of an administrator's work and the
	// minutes of mail tracking that a watcher may be behind.
	DefaultHistoryEvents = 10_000
	// DefaultHistoryBytes is what the history may add to the file.
	DefaultHistoryBytes = 32 << 20
)

// HistoryLimits bounds the history of a driver. Zero fields mean the defaults.
type HistoryLimits struct {
	Events int
	Bytes  int64
}

// OrDefault fills in the defaults.
func (h HistoryLimits) OrDefault() HistoryLimits {
	if h.Events <= 0 {
		h.Events = DefaultHistoryEvents
	}
	if h.Bytes <= 0 {
		h.Bytes = DefaultHistoryBytes
	}
	return h
}
