package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
)

// furnished is a store with something of everything.
func furnished(t testing.TB) *store.Store {
	t.Helper()
	pki := testpki.New(t)
	bob, org := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("org", testpki.Domain("b.direct.test"))
	s := with(t, newStore(t), "a.direct.test", "b.direct.test")
	update(t, s, func(tx *store.Tx) error {
		_, e1 := tx.AddCertificate(store.Certificate{DER: bob.DER, PublishDNS: true})
		_, e2 := tx.AddCertificate(store.Certificate{DER: org.DER, PublishLDAP: true})
		_, e3 := tx.AddCertificate(store.Certificate{Owner: owner(t, "ann@b.direct.test"), DER: bob.DER})
		_, e4 := tx.AddAnchor(domain(t, "a.direct.test"), org.DER, true, false)
		return errors.Join(e1, e2, e3, e4, tx.PutKey(bob.SHA256(), owner(t, "bob@a.direct.test"), bob.Key))
	})
	return s
}

func backup(t testing.TB, s *store.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Backup(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(s *store.Store, b []byte) error {
	return s.Restore(context.Background(), bytes.NewReader(b))
}

func TestABackupRestoresIntoAnotherDriver(t *testing.T) {
	from := furnished(t)
	path := filepath.Join(t.TempDir(), "store.db")
	to, db := boltStore(t, path)
	with(t, to, "c.direct.test", "b.direct.test")
	for range 5 { // a higher generation than the backup's
		update(t, to, func(tx *store.Tx) error {
			return errors.Join(tx.RemoveDomain(domain(t, "c.direct.test")), tx.AddDomain(domain(t, "c.direct.test"), nil))
		})
		update(t, to, func(tx *store.Tx) error {
			return tx.SetRecords(domain(t, "c.direct.test"), records("c.direct.test", "192.0.2.9"))
		})
	}
	before := to.View().Rev
	var published *store.View
	if err := to.SetPrepare(func(next *store.View) (func(), error) { return func() { published = next }, nil }); err != nil {
		t.Fatal(err)
	}
	if err := restore(to, backup(t, from)); err != nil {
		t.Fatal(err)
	}
	v := to.View()
	if text(v) != text(from.View()) || published != v || v.Rev != before+1 {
		t.Errorf("generation %d after %d, published %v:\n%s\nwant:\n%s", v.Rev, before, published == v, text(v), text(from.View()))
	}
	check(t, to)
	if db.Close(); db != nil {
		to, _ = boltStore(t, path)
	}
	if text(to.View()) != text(from.View()) || to.View().Rev != v.Rev {
		t.Error("another content after reopening")
	}
	// Into an empty store the generation goes on from the backup's.
	fresh := newStore(t)
	if err := restore(fresh, backup(t, to)); err != nil || fresh.View().Rev <= to.View().Rev {
		t.Errorf("generation %d from %d, %v", fresh.View().Rev, to.View().Rev, err)
	}
}

func TestARestoreThatIsRefusedChangesNothing(t *testing.T) {
	good := backup(t, furnished(t))
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		backup  []byte
		seal    *store.Sealer
		prepare store.Prepare
		want    error
	}{
		"no backup":            {backup: []byte("-----BEGIN CERTIFICATE-----\n" + strings.Repeat("x", 100)), seal: sealer(), want: store.ErrMalformed},
		"empty":                {seal: sealer(), want: store.ErrDamaged},
		"another master key":   {backup: good, seal: store.NewSealer([32]byte{9}), want: store.ErrWrongMasterKey},
		"no master key":        {backup: good, want: store.ErrNoMasterKey},
		"refused by prepare":   {backup: good, seal: sealer(), prepare: func(*store.View) (func(), error) { return nil, refused }, want: refused},
		"something behind it":  {backup: append(bytes.Clone(good), 0), seal: sealer(), want: store.ErrDamaged},
		"twice":                {backup: append(bytes.Clone(good), good...), seal: sealer(), want: store.ErrDamaged},
		"another format":       {backup: resum(change(good, 19, 9)), seal: sealer(), want: store.ErrSchema},
		"a lost entry":         {backup: resum(without(good, "domain/b.direct.test")), seal: sealer(), want: store.ErrDamaged},
		"a lost certificate":   {backup: resum(without(good, "cert/a.direct.test/bob@a.direct.test/")), seal: sealer(), want: store.ErrDamaged},
		"a lost master check":  {backup: resum(without(good, "meta/master")), seal: sealer(), want: store.ErrDamaged},
		"an altered key":       {backup: resum(alter(good, "key/a.direct.test/")), seal: sealer(), want: store.ErrDamaged},
		"an altered record":    {backup: resum(alter(good, "record/a.direct.test/A/")), seal: sealer(), want: store.ErrDamaged},
		"an altered anchor":    {backup: resum(alter(good, "anchor/a.direct.test/")), seal: sealer(), want: store.ErrDamaged},
		"a certificate's flag": {backup: resum(flip(good, "cert/b.direct.test/b.direct.test/", 1, 4)), seal: sealer(), want: store.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := with(t, open(t, memory.New(memory.Options{}), store.Options{Seal: c.seal}), "old.direct.test")
			before := s.View()
			if c.prepare != nil {
				if err := s.SetPrepare(func(next *store.View) (func(), error) {
					if next == before {
						return nil, nil
					}
					return c.prepare(next)
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := restore(s, c.backup); !errors.Is(err, c.want) {
				t.Errorf("Restore = %v, want %v", err, c.want)
			}
			if s.View() != before {
				t.Error("the view moved")
			}
		})
	}
}

func TestEveryCutAndEveryFlipOfABackupIsRefused(t *testing.T) {
	good := backup(t, furnished(t))
	s := newStore(t)
	before := s.View()
	for n := 0; n < len(good); n += 13 {
		if err := restore(s, good[:n]); err == nil {
			t.Fatalf("cut to %d octets: restored", n)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 1 << (n % 8)
		if err := restore(s, bad); err == nil {
			t.Fatalf("octet %d changed: restored", n)
		}
	}
	if s.View() != before {
		t.Error("the view moved")
	}
}

func TestABackupWithoutKeysNeedsNoMasterKey(t *testing.T) {
	from := with(t, newStore(t), "a.direct.test")
	to := open(t, memory.New(memory.Options{}), store.Options{Seal: store.NewSealer([32]byte{9})})
	if err := restore(to, backup(t, from)); err != nil || text(to.View()) != text(from.View()) {
		t.Errorf("Restore = %v", err)
	}
}

// entry is one entry of a backup in its octets.
type entry struct{ start, key, value, end int }

// entries finds the entries by the format that is documented in backup.go.
func entries(b []byte) []entry {
	at := 18 + 2
	at += 4 + int(binary.BigEndian.Uint32(b[at:]))
	var list []entry
	for b[at] == 'E' {
		e := entry{start: at, key: at + 9}
		e.value = e.key + int(binary.BigEndian.Uint32(b[at+1:]))
		e.end = e.value + int(binary.BigEndian.Uint32(b[at+5:]))
		list = append(list, e)
		at = e.end
	}
	return list
}

func find(b []byte, prefix string) entry {
	list := entries(b)
	i := slices.IndexFunc(list, func(e entry) bool { return strings.HasPrefix(string(b[e.key:e.value]), prefix) })
	return list[i]
}

func change(b []byte, at int, to byte) []byte {
	b = bytes.Clone(b)
	b[at] = to
	return b
}

func without(b []byte, prefix string) []byte {
	e := find(b, prefix)
	b = slices.Concat(b[:e.start], b[e.end:])
	count := b[len(b)-40 : len(b)-32]
	binary.BigEndian.PutUint64(count, binary.BigEndian.Uint64(count)-1)
	return b
}

func alter(b []byte, prefix string) []byte {
	e := find(b, prefix)
	return change(b, e.end-4, b[e.end-4]^0x80)
}

func flip(b []byte, prefix string, at int, bit byte) []byte {
	e := find(b, prefix)
	return change(b, e.value+at, b[e.value+at]^bit)
}

// resum makes the check sum right again.
func resum(b []byte) []byte {
	b = bytes.Clone(b)
	sum := sha256.Sum256(b[:len(b)-32])
	copy(b[len(b)-32:], sum[:])
	return b
}

func FuzzRestore(f *testing.F) {
	good := backup(f, furnished(f))
	f.Add(good, true)
	f.Add(good, false)
	f.Add(backup(f, newStore(f)), false)
	f.Add([]byte("directnode backup\n\x00\x01\x00\x00\x00\x02{}"), false)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) >= 32 {
			b = resum(b) // past the lock of the check sum
		}
		s := newStore(t)
		before := text(s.View())
		if err := restore(s, b); err != nil && text(s.View()) != before {
			t.Fatal("half of it was taken")
		}
	})
}

// world is what the random walk draws from: some certificates, and a model of
// the store as maps of what should be there.
type world struct {
	t     *testing.T
	pairs []testpki.Pair
	s     *store.Store
	db    *memory.Store
	model map[string]bool
}

func domains() []string { return []string{"a.direct.test", "b.direct.test", "c.direct.test"} }

// TestARandomWalkAgreesWithAPlainModel does what administrators do, in any
// order, and compares with a set of sentences about what must be there.
func TestARandomWalkAgreesWithAPlainModel(t *testing.T) {
	pki := testpki.New(t)
	pairs := []testpki.Pair{
		pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("bob2", testpki.Address("Bob@a.direct.test")),
		pki.SelfSigned("org", testpki.Domain("b.direct.test")), pki.SelfSigned("both", testpki.Domain("c.direct.test"), testpki.Address("ann@a.direct.test")),
		pki.SelfSigned("none"),
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{t: t, pairs: pairs, model: map[string]bool{}}
		w.open(rt, memory.New(memory.Options{}))
		rt.Repeat(map[string]func(*rapid.T){
			"":        w.compare,
			"update":  w.update,
			"reopen":  w.reopen,
			"restore": w.restore,
		})
	})
}

func (w *world) open(rt *rapid.T, db *memory.Store) {
	var err error
	if w.s, err = store.Open(context.Background(), db, store.Options{Seal: sealer()}); err != nil {
		rt.Fatal(err)
	}
	w.db = db
}

func (w *world) compare(rt *rapid.T) {
	got := map[string]bool{}
	v := w.s.View()
	for _, d := range v.Domains() {
		dd := v.Domain(d)
		got["domain "+d.String()] = true
		for _, r := range dd.Records {
			got[fmt.Sprintf("record %s %s %s", d, r.Name, r.Data)] = true
		}
		for c := range dd.Certificates.Sorted {
			got[fmt.Sprintf("cert %s %s %s %v", d, c.Owner.Key(), c.SHA256, c.PublishDNS)] = true
			if c.HasKey {
				got[fmt.Sprintf("key %s %s %s", d, c.Owner.Key(), c.SHA256)] = true
			}
		}
		for _, a := range dd.Anchors {
			got[fmt.Sprintf("anchor %s %s", d, a.SHA256)] = true
		}
	}
	if !maps.Equal(got, w.model) {
		rt.Fatalf("store %v\nmodel %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(w.model)))
	}
}

func (w *world) reopen(rt *rapid.T) {
	problems, err := w.s.Check(context.Background())
	if err != nil || len(problems) > 0 {
		rt.Fatalf("Check = %v, %v", problems, err)
	}
	before, rev := text(w.s.View()), w.s.View().Rev
	w.open(rt, w.db.Reopen())
	if text(w.s.View()) != before || w.s.View().Rev != rev {
		rt.Fatalf("after reopening:\n%s\nbefore:\n%s", text(w.s.View()), before)
	}
}

// restore moves the store to another engine by way of a backup.
func (w *world) restore(rt *rapid.T) {
	before, rev := text(w.s.View()), w.s.View().Rev
	var b bytes.Buffer
	if err := w.s.Backup(context.Background(), &b); err != nil {
		rt.Fatal(err)
	}
	w.open(rt, memory.New(memory.Options{}))
	if err := restore(w.s, b.Bytes()); err != nil {
		rt.Fatal(err)
	}
	if text(w.s.View()) != before || w.s.View().Rev <= rev {
		rt.Fatalf("after restoring, generation %d from %d:\n%s\nbefore:\n%s", w.s.View().Rev, rev, text(w.s.View()), before)
	}
}

// update runs some orders in one change and sometimes refuses it at the end.
func (w *world) update(rt *rapid.T) {
	next := maps.Clone(w.model)
	fail := rapid.IntRange(0, 4).Draw(rt, "fail") == 0
	refused := errors.New("refused")
	_, err := w.s.Update(context.Background(), func(tx *store.Tx) error {
		for range rapid.IntRange(1, 5).Draw(rt, "orders") {
			w.order(rt, tx, next)
		}
		if fail {
			return refused
		}
		return nil
	})
	if fail != errors.Is(err, refused) || !fail && err != nil {
		rt.Fatalf("Update = %v", err)
	}
	if !fail {
		w.model = next
	}
}

// order does one thing in the transaction and in the model. Where the model
// says that it cannot be done, the store must say so too.
func (w *world) order(rt *rapid.T, tx *store.Tx, m map[string]bool) {
	d := domain(w.t, rapid.SampledFrom(domains()).Draw(rt, "domain"))
	p := rapid.SampledFrom(w.pairs).Draw(rt, "pair")
	flag := rapid.Bool().Draw(rt, "flag")
	there := m["domain "+d.String()]
	var err error
	var want bool
	switch rapid.SampledFrom([]string{"add", "add", "remove", "records", "cert", "cert", "uncert", "publish", "key", "anchor", "unanchor"}).Draw(rt, "order") {
	case "add":
		err, want = tx.AddDomain(d, nil), !there
		if want {
			m["domain "+d.String()] = true
		}
	case "remove":
		err, want = tx.RemoveDomain(d), there
		maps.DeleteFunc(m, func(k string, _ bool) bool { return strings.Fields(k)[1] == d.String() })
	case "records":
		ip := fmt.Sprint("192.0.2.", rapid.IntRange(1, 3).Draw(rt, "ip"))
		err, want = tx.SetRecords(d, records(d.String(), ip)), there
		if want {
			maps.DeleteFunc(m, func(k string, _ bool) bool { return strings.HasPrefix(k, "record "+d.String()+" ") })
			for _, r := range records(d.String(), ip) {
				m[fmt.Sprintf("record %s %s %s", d, r.Name, r.Data)] = true
			}
		}
	case "cert":
		_, err = tx.AddCertificate(store.Certificate{DER: p.DER, PublishDNS: flag})
		for _, o := range w.owners(p, m) {
			want = true
			delete(m, fmt.Sprintf("cert %s %s %s %v", o.Domain(), o.Key(), p.SHA256(), !flag))
			m[fmt.Sprintf("cert %s %s %s %v", o.Domain(), o.Key(), p.SHA256(), flag)] = true
		}
	case "uncert":
		err, want = tx.RemoveCertificate(p.SHA256()), holds(m, "cert", p)
		maps.DeleteFunc(m, func(k string, _ bool) bool {
			return strings.Contains(k, " "+p.SHA256()) && !strings.HasPrefix(k, "anchor")
		})
	case "publish":
		err, want = tx.SetPublish(p.SHA256(), flag, false), holds(m, "cert", p)
		for k := range maps.Clone(m) {
			if old, ok := strings.CutSuffix(k, fmt.Sprint(p.SHA256(), " ", !flag)); ok {
				delete(m, k)
				m[old+fmt.Sprint(p.SHA256(), " ", flag)] = true
			}
		}
	case "key":
		err, want = tx.PutKey(p.SHA256(), direct.Owner{}, p.Key), holds(m, "cert", p)
		for k := range maps.Clone(m) {
			if f := strings.Fields(k); f[0] == "cert" && f[3] == p.SHA256() {
				m[fmt.Sprintf("key %s %s %s", f[1], f[2], f[3])] = true
			}
		}
	case "anchor":
		_, err = tx.AddAnchor(d, p.DER, true, flag)
		if want = there; want {
			m[fmt.Sprintf("anchor %s %s", d, p.SHA256())] = true
		}
	case "unanchor":
		key := fmt.Sprintf("anchor %s %s", d, p.SHA256())
		err, want = tx.RemoveAnchor(d, p.SHA256()), m[key]
		delete(m, key)
	}
	if want != (err == nil) {
		rt.Fatalf("an order = %v, the model says %v", err, want)
	}
}

// owners of a certificate whose domains are in the model.
func (w *world) owners(p testpki.Pair, m map[string]bool) []direct.Owner {
	all, err := store.OwnersOf(p.Cert)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(o direct.Owner) bool { return !m["domain "+o.Domain().String()] })
}

func holds(m map[string]bool, kind string, p testpki.Pair) bool {
	for k := range m {
		if strings.HasPrefix(k, kind+" ") && strings.Contains(k, " "+p.SHA256()) {
			return true
		}
	}
	return false
}
