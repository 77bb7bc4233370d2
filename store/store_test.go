package store_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv"
	"directnode/store/kv/bolt"
	"directnode/store/kv/memory"
)

// sealer is the master key of most tests.
func sealer() *store.Sealer { return store.NewSealer([32]byte{1, 2, 3}) }

func domain(t testing.TB, s string) direct.Domain {
	t.Helper()
	d, err := direct.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func owner(t testing.TB, s string) direct.Owner {
	t.Helper()
	o, err := direct.ParseOwner(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// open opens a store that is checked when the test ends.
func open(t testing.TB, db kv.Store, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, s) })
	return s
}

func check(t testing.TB, s *store.Store) {
	t.Helper()
	problems, err := s.Check(context.Background())
	if errors.Is(err, kv.ErrClosed) {
		return // the test closed it, having checked it before
	}
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("invariant: %s", p)
	}
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	return open(t, memory.New(memory.Options{}), store.Options{Seal: sealer()})
}

func boltStore(t testing.TB, path string) (*store.Store, *bolt.DB) {
	t.Helper()
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return open(t, db, store.Options{Seal: sealer()}), db
}

func update(t testing.TB, s *store.Store, fn func(*store.Tx) error) *store.View {
	t.Helper()
	v, err := s.Update(context.Background(), fn)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// with makes a store that has these domains.
func with(t testing.TB, s *store.Store, domains ...string) *store.Store {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for _, d := range domains {
			if err := tx.AddDomain(domain(t, d), records(d, "192.0.2.1")); err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

func records(d, ip string) []store.Record {
	return []store.Record{
		{Name: d + ".", Type: "MX", TTL: 3600, Data: "10 mail." + d + "."},
		{Name: "mail." + d + ".", Type: "A", TTL: 300, Data: ip},
	}
}

// text writes a view for comparison.
func text(v *store.View) string {
	var b strings.Builder
	for _, d := range v.Domains() {
		dd := v.Domain(d)
		fmt.Fprintf(&b, "%s %s\n", d, dd.Created.Format(time.RFC3339))
		for _, r := range dd.Records {
			fmt.Fprintf(&b, " %+v\n", r)
		}
		for c := range dd.Certificates.Sorted {
			fmt.Fprintf(&b, " cert %s %s dns=%v ldap=%v bound=%v key=%v %s\n", c.Owner, c.SHA256, c.PublishDNS, c.PublishLDAP, c.Bound, c.HasKey, c.Added.Format(time.RFC3339))
		}
		for k := range dd.Keys.Sorted {
			fmt.Fprintf(&b, " key %s %s %x\n", k.Owner, k.CertSHA256, k.Sealed)
		}
		for _, a := range dd.Anchors {
			fmt.Fprintf(&b, " anchor %s in=%v out=%v %s\n", a.SHA256, a.In, a.Out, a.Added.Format(time.RFC3339))
		}
	}
	return b.String()
}

func TestANewStoreIsGenerationOneAndEmpty(t *testing.T) {
	v := newStore(t).View()
	if v.Rev != 1 || len(v.Domains()) != 0 || v.Domain(domain(t, "a.direct.test")) != nil {
		t.Errorf("generation %d with %v", v.Rev, v.Domains())
	}
}

func TestAChangeIsPreparedThenCommittedThenPublished(t *testing.T) {
	db := memory.New(memory.Options{})
	s := open(t, db, store.Options{})
	a := domain(t, "a.direct.test")
	var steps []string
	err := s.SetPrepare(func(next *store.View) (func(), error) {
		_, err := db.Get(context.Background(), "domain/a.direct.test")
		steps = append(steps, fmt.Sprint("prepare ", next.Rev, next.Domain(a) != nil, s.View().Rev, errors.Is(err, kv.ErrNotFound)))
		return func() {
			_, err := db.Get(context.Background(), "domain/a.direct.test")
			steps = append(steps, fmt.Sprint("publish ", next.Rev, s.View() == next, errors.Is(err, kv.ErrNotFound)))
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	v := update(t, s, func(tx *store.Tx) error { return tx.AddDomain(a, nil) })
	want := []string{
		"prepare 1 false 1 true", "publish 1 true true", // SetPrepare itself
		"prepare 2 true 1 true", "publish 2 true false",
	}
	if !slices.Equal(steps, want) || v.Rev != 2 || s.View() != v {
		t.Errorf("steps = %q", steps)
	}
}

func TestWhateverRefusesAChangeRefusesAllOfIt(t *testing.T) {
	refused := errors.New("refused")
	a, b := domain(t, "a.direct.test"), domain(t, "b.direct.test")
	change := func(tx *store.Tx) error {
		if err := tx.RemoveDomain(a); err != nil {
			return err
		}
		return tx.AddDomain(b, nil)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		fn      func(*store.Tx) error
		prepare store.Prepare
		fail    error
		ctx     context.Context
		want    error
	}{
		"the function": {fn: func(tx *store.Tx) error {
			if err := change(tx); err != nil {
				return err
			}
			return refused
		}, want: refused},
		"prepare":        {fn: change, prepare: func(*store.View) (func(), error) { return nil, refused }, want: refused},
		"the disk":       {fn: change, fail: refused, want: refused},
		"the context":    {fn: change, ctx: ended, want: context.Canceled},
		"another writer": {fn: change, fail: kv.ErrConflict, want: kv.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			db := &failing{Store: memory.New(memory.Options{})}
			s := with(t, open(t, db, store.Options{}), "a.direct.test")
			before, published := s.View(), false
			if err := s.SetPrepare(func(next *store.View) (func(), error) {
				if next == before || c.prepare == nil {
					return func() { published = next != before }, nil
				}
				return c.prepare(next)
			}); err != nil {
				t.Fatal(err)
			}
			db.fail = c.fail
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			v, err := s.Update(ctx, c.fn)
			if !errors.Is(err, c.want) || v != nil || s.View() != before || published {
				t.Errorf("Update = %v, %v; the view moved: %v, published: %v", v, err, s.View() != before, published)
			}
			check(t, s)
			db.fail = nil
			if err := s.SetPrepare(nil); err != nil {
				t.Fatal(err)
			}
			if v := update(t, s, change); v.Rev != before.Rev+1 || v.Domain(a) != nil || v.Domain(b) == nil {
				t.Errorf("the same change afterwards: generation %d, %v", v.Rev, v.Domains())
			}
		})
	}
}

// failing is a kv store whose transactions fail on command.
type failing struct {
	kv.Store
	fail error
}

func (f *failing) Txn(ctx context.Context, conds []kv.Cond, ops []kv.Op) (int64, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	return f.Store.Txn(ctx, conds, ops)
}

func TestASecondWriterIsRefusedNotMixedIn(t *testing.T) {
	db := memory.New(memory.Options{})
	first := open(t, db, store.Options{})
	second, err := store.Open(context.Background(), db, store.Options{}) // its view goes stale: no check at the end
	if err != nil {
		t.Fatal(err)
	}
	with(t, first, "a.direct.test")
	_, err = second.Update(context.Background(), func(tx *store.Tx) error { return tx.AddDomain(domain(t, "b.direct.test"), nil) })
	if !errors.Is(err, kv.ErrConflict) {
		t.Errorf("the second writer's change = %v", err)
	}
}

func TestAChangeOfNothingCommitsNothing(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	before := s.View()
	v := update(t, s, func(tx *store.Tx) error {
		return tx.SetRecords(domain(t, "a.direct.test"), records("a.direct.test", "192.0.2.1"))
	})
	if v != before {
		t.Errorf("generation %d became %d", before.Rev, v.Rev)
	}
}

func TestViewsShareTheDomainsThatDidNotChange(t *testing.T) {
	pki := testpki.New(t)
	bob, org := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("a", testpki.Domain("a.direct.test"))
	a, b := domain(t, "a.direct.test"), domain(t, "b.direct.test")
	s := with(t, newStore(t), "a.direct.test", "b.direct.test")
	v1 := s.View()
	v2 := update(t, s, func(tx *store.Tx) error {
		if dd := tx.Domain(b); dd != v1.Domain(b) { // looking at it is no change
			t.Error("Tx.Domain made a copy")
		}
		if _, err := tx.AddCertificate(store.Certificate{DER: org.DER}); err != nil {
			return err
		}
		_, err := tx.AddCertificate(store.Certificate{DER: bob.DER})
		return err
	})
	if v2.Domain(b) != v1.Domain(b) || v2.Domain(a) == v1.Domain(a) || v1.Domain(a).Certificates.Len() != 0 || v2.Domain(a).Certificates.Len() != 2 {
		t.Errorf("shared: a %v, b %v", v2.Domain(a) == v1.Domain(a), v2.Domain(b) == v1.Domain(b))
	}
	owners, others, ok := v2.Domain(a).Since(v1.Domain(a))
	slices.SortFunc(owners, func(x, y direct.Owner) int { return strings.Compare(x.Key(), y.Key()) })
	if !ok || others || len(owners) != 2 || owners[0].String() != "a.direct.test" || owners[1].String() != "bob@a.direct.test" {
		t.Errorf("Since = %v, %v, %v", owners, others, ok)
	}
	v3 := update(t, s, func(tx *store.Tx) error { return tx.SetRecords(a, nil) })
	if owners, others, ok := v3.Domain(a).Since(v2.Domain(a)); !ok || !others || len(owners) != 0 {
		t.Errorf("Since after a change of records = %v, %v, %v", owners, others, ok)
	}
	if _, _, ok := v3.Domain(a).Since(v1.Domain(a)); ok {
		t.Error("Since claims to know what changed across two generations")
	}
	v4 := update(t, s, func(tx *store.Tx) error {
		if err := tx.RemoveDomain(a); err != nil {
			return err
		}
		return tx.AddDomain(a, nil)
	})
	if _, _, ok := v4.Domain(a).Since(v3.Domain(a)); ok || v4.Domain(a).Certificates.Len() != 0 {
		t.Error("a domain that was removed and added again passes for the old one")
	}
}

func TestRecordsAreCheckedLoweredSortedAndASet(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	a := domain(t, "a.direct.test")
	v := update(t, s, func(tx *store.Tx) error {
		return tx.SetRecords(a, []store.Record{
			{Name: "WWW.A.Direct.Test.", Type: "aaaa", TTL: 60, Data: "2001:db8::2"},
			{Name: "www.a.direct.test.", Type: "AAAA", TTL: 60, Data: "2001:db8::1"},
			{Name: "www.a.direct.test.", Type: "AAAA", TTL: 60, Data: "2001:db8::2"},
			{Name: "a.direct.test.", Type: "TXT", TTL: 60, Data: `"a/b"`},
			{Name: "0/25.a.direct.test.", Type: "TYPE65280", TTL: 1<<31 - 1, Data: `\# 0`},
		})
	})
	var got []string
	for _, r := range v.Domain(a).Records {
		got = append(got, r.Name+" "+r.Type+" "+r.Data)
	}
	want := []string{`0/25.a.direct.test. TYPE65280 \# 0`, `a.direct.test. TXT "a/b"`, "www.a.direct.test. AAAA 2001:db8::2", "www.a.direct.test. AAAA 2001:db8::1"}
	if !slices.Equal(got, want) {
		t.Errorf("records = %q", got)
	}
	good := store.Record{Name: "x.a.direct.test.", Type: "TXT", TTL: 60, Data: "x"}
	for fault, r := range map[string]store.Record{
		"not absolute":   {Name: "x.a.direct.test", Type: "TXT", TTL: 60, Data: "x"},
		"lies outside":   {Name: "xa.direct.test.", Type: "TXT", TTL: 60, Data: "x"},
		"lies outside ":  {Name: `x\.a.direct.test.`, Type: "TXT", TTL: 60, Data: "x"},
		"AddCertificate": {Name: "x.a.direct.test.", Type: "cert", TTL: 60, Data: "x"},
		"record type":    {Name: "x.a.direct.test.", Type: "T/T", TTL: 60, Data: "x"},
		"RFC 2181":       {Name: "x.a.direct.test.", Type: "TXT", TTL: 1 << 31, Data: "x"},
		"no data":        {Name: "x.a.direct.test.", Type: "TXT", TTL: 60},
		"control":        {Name: "x.a.direct.test.", Type: "TXT", TTL: 60, Data: "x\ny 60 IN A 192.0.2.66"},
		"characters":     {Name: strings.Repeat("x", 601) + ".a.direct.test.", Type: "TXT", TTL: 60, Data: "x"},
		"at most":        {Name: "x.a.direct.test.", Type: "TXT", TTL: 60, Data: strings.Repeat("x", 256<<10+1)},
	} {
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.SetRecords(a, []store.Record{good, r}) })
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), strings.TrimSpace(fault)) {
			t.Errorf("%+.100v = %v, want %q", r, err, fault)
		}
	}
	many := make([]store.Record, 1001)
	for i := range many {
		many[i] = store.Record{Name: "x.a.direct.test.", Type: "TXT", TTL: 60, Data: fmt.Sprint(i)}
	}
	if _, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.SetRecords(a, many) }); !errors.Is(err, store.ErrLimit) {
		t.Errorf("an RRset of %d records = %v", len(many), err)
	}
}

func TestOneRecordChangedIsOneEntryWritten(t *testing.T) {
	db := memory.New(memory.Options{})
	s := with(t, open(t, db, store.Options{}), "a.direct.test")
	events, err := db.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *store.Tx) error {
		return tx.SetRecords(domain(t, "a.direct.test"), records("a.direct.test", "192.0.2.2"))
	})
	batch := <-events
	if len(batch) != 2 || batch[0].Key != "record/a.direct.test/A/mail.a.direct.test." || batch[1].Key != "meta/generation" {
		t.Errorf("events = %+v", batch)
	}
}

func TestReadersSeeWholeGenerationsOnly(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test", "b.direct.test")
	a, b := domain(t, "a.direct.test"), domain(t, "b.direct.test")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := s.View()
				if x, y := v.Domain(a).Records[1].Data, v.Domain(b).Records[1].Data; x != y {
					t.Errorf("generation %d is torn: %s and %s", v.Rev, x, y)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				ip := fmt.Sprintf("192.0.2.%d", w*25+i)
				if _, err := s.Update(context.Background(), func(tx *store.Tx) error {
					return errors.Join(tx.SetRecords(a, records("a.direct.test", ip)), tx.SetRecords(b, records("b.direct.test", ip)))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
}

func TestATransactionEndsWithItsFunction(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	var kept *store.Tx
	update(t, s, func(tx *store.Tx) error { kept = tx; return nil })
	a := domain(t, "a.direct.test")
	_, errAnchor := kept.AddAnchor(a, nil, true, true)
	for name, err := range map[string]error{"AddDomain": kept.AddDomain(domain(t, "b.direct.test"), nil), "RemoveDomain": kept.RemoveDomain(a),
		"SetRecords": kept.SetRecords(a, nil), "AddAnchor": errAnchor} {
		if !errors.Is(err, store.ErrTxOver) {
			t.Errorf("%s afterwards = %v", name, err)
		}
	}
}

func TestDomainsComeAndGoWithAllThatIsTheirs(t *testing.T) {
	pki := testpki.New(t)
	bob := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	a := domain(t, "a.direct.test")
	db := memory.New(memory.Options{})
	s := with(t, open(t, db, store.Options{Seal: sealer()}), "a.direct.test")
	update(t, s, func(tx *store.Tx) error {
		if err := tx.AddDomain(a, nil); !errors.Is(err, store.ErrExists) {
			t.Errorf("adding it twice = %v", err)
		}
		_, err := tx.AddCertificate(store.Certificate{DER: bob.DER})
		_, err2 := tx.AddAnchor(a, bob.DER, true, false)
		return errors.Join(err, err2, tx.PutKey(bob.SHA256(), direct.Owner{}, bob.Key))
	})
	update(t, s, func(tx *store.Tx) error { return tx.RemoveDomain(a) })
	all, _, err := kv.All(context.Background(), db, "")
	if err != nil || len(all) != 3 {
		t.Errorf("what is left: %v, %v", all, err)
	}
	for _, fn := range []func(*store.Tx) error{
		func(tx *store.Tx) error { return tx.RemoveDomain(a) },
		func(tx *store.Tx) error { return tx.SetRecords(a, nil) },
		func(tx *store.Tx) error { _, err := tx.AddAnchor(a, bob.DER, true, true); return err },
	} {
		if _, err := s.Update(context.Background(), fn); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "a.direct.test") {
			t.Errorf("a change to a domain that is gone = %v", err)
		}
	}
}

func TestAThousandCertificatesAreOneCommit(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pki := testpki.New(t)
	ders := make([][]byte, 1000)
	for i := range ders {
		ders[i] = pki.SelfSigned("user", testpki.WithKey(key), testpki.Address(fmt.Sprintf("u%04d@a.direct.test", i))).DER
	}
	path := filepath.Join(t.TempDir(), "store.db")
	s, db := boltStore(t, path)
	with(t, s, "a.direct.test")
	before := s.View().Rev
	v := update(t, s, func(tx *store.Tx) error {
		for _, der := range ders {
			if added, err := tx.AddCertificate(store.Certificate{DER: der, PublishDNS: true}); err != nil || !added {
				return fmt.Errorf("added %v: %w", added, err)
			}
		}
		return nil
	})
	if v.Rev != before+1 || v.Domain(domain(t, "a.direct.test")).Certificates.Len() != 1000 {
		t.Errorf("generation %d after %d, %d certificates", v.Rev, before, v.Domain(domain(t, "a.direct.test")).Certificates.Len())
	}
	want := text(v)
	check(t, s)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again, _ := boltStore(t, path)
	if text(again.View()) != want || again.View().Rev != v.Rev {
		t.Error("another content after reopening")
	}
}

func TestAStoreOfAnotherLayoutIsRefusedWithWhatToDo(t *testing.T) {
	db := memory.New(memory.Options{})
	put := func(key, value string) {
		if _, err := db.Txn(context.Background(), nil, []kv.Op{{Kind: kv.Put, Key: key, Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("meta/schema", `{"schema":2,"novelty":true}`)
	if _, err := store.Open(context.Background(), db, store.Options{}); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "run the version") {
		t.Errorf("schema 2 = %v", err)
	}
	put("meta/schema", "x")
	if _, err := store.Open(context.Background(), db, store.Options{}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("no schema at all = %v", err)
	}
}

func TestDamagedEntriesAreFoundAtOpenAndNamed(t *testing.T) {
	pki := testpki.New(t)
	bob := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	db := memory.New(memory.Options{})
	s, err := store.Open(context.Background(), db, store.Options{Seal: sealer()})
	if err != nil {
		t.Fatal(err)
	}
	with(t, s, "a.direct.test")
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.AddCertificate(store.Certificate{DER: bob.DER})
		_, err2 := tx.AddAnchor(domain(t, "a.direct.test"), bob.DER, true, false)
		return errors.Join(err, err2, tx.PutKey(bob.SHA256(), direct.Owner{}, bob.Key))
	})
	all, _, err := kv.All(context.Background(), db, "")
	if err != nil {
		t.Fatal(err)
	}
	write := func(ops ...kv.Op) {
		t.Helper()
		if _, err := db.Txn(context.Background(), nil, ops); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range all {
		if strings.HasPrefix(e.Key, "meta/") {
			continue
		}
		bad := bytes.Clone(e.Value)
		bad[len(bad)/2] ^= 0x80
		for name, op := range map[string]kv.Op{
			"changed": {Kind: kv.Put, Key: e.Key, Value: bad},
			"emptied": {Kind: kv.Put, Key: e.Key},
		} {
			if strings.HasPrefix(e.Key, "key/") && name == "changed" {
				continue // opens no more: Check finds it, see below
			}
			write(op)
			if _, err := store.Open(context.Background(), db, store.Options{Seal: sealer()}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), e.Key) {
				t.Errorf("%s %s: Open = %v", e.Key, name, err)
			}
			if problems, err := s.Check(context.Background()); err != nil || len(problems) == 0 {
				t.Errorf("%s %s: Check = %v, %v", e.Key, name, problems, err)
			}
			write(kv.Op{Kind: kv.Put, Key: e.Key, Value: e.Value})
		}
	}
	key := all[slices.IndexFunc(all, func(e kv.KV) bool { return strings.HasPrefix(e.Key, "key/") })]
	bad := bytes.Clone(key.Value)
	bad[len(bad)-1] ^= 1
	write(kv.Op{Kind: kv.Put, Key: key.Key, Value: bad})
	if problems, err := s.Check(context.Background()); err != nil || len(problems) == 0 || problems[0].Object != key.Key {
		t.Errorf("altered key: Check = %v, %v", problems, err)
	}
	// What the store holds is repaired by what is served: a change writes it.
	write(kv.Op{Kind: kv.Put, Key: key.Key, Value: key.Value})
	check(t, s)
}

func TestAnchorsBelongToTheirDomain(t *testing.T) {
	spec.Covers(t, "AS-4.2.1-a")
	pki := testpki.New(t)
	x, y := pki.Root("X"), pki.Root("Y")
	path := filepath.Join(t.TempDir(), "store.db")
	s, db := boltStore(t, path)
	with(t, s, "a.direct.test", "b.direct.test")
	a, b := domain(t, "a.direct.test"), domain(t, "b.direct.test")
	update(t, s, func(tx *store.Tx) error {
		_, e1 := tx.AddAnchor(a, x.DER, true, true)
		_, e2 := tx.AddAnchor(b, x.DER, true, false)
		_, e3 := tx.AddAnchor(b, y.DER, false, true)
		return errors.Join(e1, e2, e3)
	})
	show := func(s *store.Store, d direct.Domain) string {
		var out []string
		for _, anchor := range s.View().Domain(d).Anchors {
			name := map[string]string{x.SHA256(): "X", y.SHA256(): "Y"}[anchor.SHA256]
			out = append(out, fmt.Sprint(name, anchor.In, anchor.Out, bytes.Equal(anchor.DER, x.DER) || bytes.Equal(anchor.DER, y.DER)))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	want := map[direct.Domain]string{a: "Xtrue true true", b: "Xtrue false true, Yfalse true true"}
	check(t, s)
	db.Close()
	s, _ = boltStore(t, path) // the association survives a restart
	for d, anchors := range want {
		if got := show(s, d); got != anchors {
			t.Errorf("anchors of %s = %q, want %q", d, got, anchors)
		}
	}
	update(t, s, func(tx *store.Tx) error {
		added, err := tx.AddAnchor(b, y.DER, true, true)
		if added {
			t.Error("new flags passed for a new anchor")
		}
		return errors.Join(err, tx.RemoveAnchor(b, x.SHA256()))
	})
	if show(s, a) != want[a] || show(s, b) != "Ytrue true true" {
		t.Errorf("anchors = %q and %q", show(s, a), show(s, b))
	}
	for name, c := range map[string]struct {
		der  []byte
		in   bool
		want error
	}{
		"no use":         {x.DER, false, store.ErrInvalid},
		"no certificate": {[]byte("PKCS #12, perhaps"), true, store.ErrMalformed},
		"two at once":    {append(bytes.Clone(x.DER), y.DER...), true, store.ErrMalformed},
		"much too large": {make([]byte, 32<<10+1), true, store.ErrLimit},
	} {
		if _, err := s.Update(context.Background(), func(tx *store.Tx) error { _, err := tx.AddAnchor(a, c.der, c.in, false); return err }); !errors.Is(err, c.want) {
			t.Errorf("%s = %v, want %v", name, err, c.want)
		}
	}
	if _, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.RemoveAnchor(a, y.SHA256()) }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removal of an anchor of another domain = %v", err)
	}
}
