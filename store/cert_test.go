package store_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crypto/x509/pkix"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
)

func TestOwnersComeFromTheSubjectAltNameAlone(t *testing.T) {
	spec.Covers(t, "AS-1.4-d", "AS-1.4-e")
	pki := testpki.New(t)
	for _, c := range []struct {
		name string
		opts []testpki.Option
		want string // owners, or what the refusal must say
	}{
		{"an address", []testpki.Option{testpki.Address("Bob@A.Direct.Test")}, "Bob@a.direct.test"},
		{"a domain", []testpki.Option{testpki.Domain("A.Direct.Test")}, "a.direct.test"},
		{"both, and one twice", []testpki.Option{testpki.Domain("a.direct.test"), testpki.Address("bob@a.direct.test", "BOB@a.direct.test")}, "bob@a.direct.test a.direct.test"},
		{"a name that is none beside one that is", []testpki.Option{testpki.Domain("*.a.direct.test", "a.direct.test")}, "a.direct.test"},
		{"a name only in CN", []testpki.Option{testpki.Subject(pkix.Name{CommonName: "a.direct.test"})}, "! do not count"},
		{"an address only in the DN", []testpki.Option{testpki.EmailInDN("bob@a.direct.test")}, "! do not count"},
		{"a wildcard", []testpki.Option{testpki.Domain("*.a.direct.test")}, "! '*'"},
		{"a domain as rfc822Name", []testpki.Option{testpki.Address("a.direct.test")}, "! has no @"},
	} {
		cert := pki.SelfSigned("bob", c.opts...).Cert
		owners, err := store.OwnersOf(cert)
		if detail, refused := strings.CutPrefix(c.want, "! "); refused {
			if !errors.Is(err, store.ErrNoName) || !strings.Contains(err.Error(), detail) || !strings.Contains(err.Error(), store.Fingerprint(cert.Raw)[:16]) {
				t.Errorf("%s: %v, %v; want a refusal with %q", c.name, owners, err, detail)
			}
			continue
		}
		var got []string
		for _, o := range owners {
			got = append(got, o.String())
			if !store.Binds(cert, o) {
				t.Errorf("%s: does not bind %s", c.name, o)
			}
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestCertificatesGoToTheirOwnersOrAreRefusedByName(t *testing.T) {
	spec.Covers(t, "AS-1.4-a", "AS-1.4-b")
	pki := testpki.New(t)
	s := with(t, newStore(t), "a.direct.test", "b.direct.test")
	bob, bobNew := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("bob new", testpki.Address("Bob@A.direct.test"))
	org := pki.SelfSigned("org", testpki.Domain("a.direct.test"))
	both := pki.SelfSigned("both", testpki.Address("ann@a.direct.test"), testpki.Domain("b.direct.test", "c.direct.test"))
	foreign := pki.SelfSigned("foreign", testpki.Address("bob@c.direct.test"))
	below := pki.SelfSigned("below", testpki.Address("bob@x.a.direct.test"))
	nameless := pki.SelfSigned("nameless", testpki.EmailInDN("bob@a.direct.test"))
	v := update(t, s, func(tx *store.Tx) error {
		for _, p := range []testpki.Pair{bob, bobNew, org, both} {
			if added, err := tx.AddCertificate(store.Certificate{DER: p.DER, PublishDNS: true}); err != nil || !added {
				t.Errorf("%s: added %v, %v", p.Cert.Subject, added, err)
			}
		}
		for want, p := range map[error]testpki.Pair{store.ErrForeign: foreign, store.ErrNoName: nameless, store.ErrMalformed: {DER: bob.DER[:100]}} {
			added, err := tx.AddCertificate(store.Certificate{DER: p.DER})
			var refusal *store.Refusal
			if added || !errors.Is(err, want) || !errors.As(err, &refusal) || !strings.Contains(refusal.Object, store.Fingerprint(p.DER)[:16]) {
				t.Errorf("added %v, %v; want %v", added, err, want)
			}
		}
		if _, err := tx.AddCertificate(store.Certificate{DER: below.DER}); !errors.Is(err, store.ErrForeign) {
			t.Errorf("an address below our domain = %v", err)
		}
		return nil // what was refused is passed over, the others are taken
	})
	got := map[string]int{}
	for _, d := range v.Domains() {
		for c := range v.Domain(d).Certificates.Sorted {
			got[strings.ToLower(c.Owner.String())]++
			if !c.Bound || !c.PublishDNS || c.PublishLDAP || c.HasKey || c.Added.IsZero() || store.Fingerprint(c.DER) != c.SHA256 {
				t.Errorf("%+v", c)
			}
		}
	}
	if fmt.Sprint(got) != "map[a.direct.test:1 ann@a.direct.test:1 b.direct.test:1 bob@a.direct.test:2]" {
		t.Errorf("owners = %v", got)
	}
	if n := len(v.Owned(owner(t, "BOB@a.direct.test"))); n != 2 { // rollover: two at the same time
		t.Errorf("bob has %d certificates", n)
	}
	if n := len(v.Find(both.SHA256())); n != 2 {
		t.Errorf("the certificate of two owners is there %d times", n)
	}
}

func TestAForeignPublicationIsTakenAsItStands(t *testing.T) {
	pki := testpki.New(t)
	s := with(t, newStore(t), "a.direct.test")
	org := pki.SelfSigned("org", testpki.Domain("a.direct.test"))
	bob := owner(t, "bob@a.direct.test")
	v := update(t, s, func(tx *store.Tx) error {
		_, err := tx.AddCertificate(store.Certificate{Owner: bob, DER: org.DER, PublishDNS: true, Bound: true})
		if _, err := tx.AddCertificate(store.Certificate{Owner: owner(t, "bob@c.direct.test"), DER: org.DER}); !errors.Is(err, store.ErrForeign) {
			t.Errorf("an owner elsewhere = %v", err)
		}
		return err
	})
	if c := v.Owned(bob); len(c) != 1 || c[0].Bound || v.Domain(bob.Domain()).Certificates.Len() != 1 {
		t.Errorf("stored: %+v", c)
	}
}

func TestImportingAgainChangesOnlyThePublication(t *testing.T) {
	pki := testpki.New(t)
	bob := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	s := with(t, newStore(t), "a.direct.test")
	add := func(dns, ldap, wantAdded bool) *store.View {
		t.Helper()
		return update(t, s, func(tx *store.Tx) error {
			added, err := tx.AddCertificate(store.Certificate{DER: bob.DER, PublishDNS: dns, PublishLDAP: ldap})
			if added != wantAdded {
				t.Errorf("added = %v", added)
			}
			return err
		})
	}
	v1 := add(true, false, true)
	if v2 := add(true, false, false); v2 != v1 {
		t.Error("the same import again is a new generation")
	}
	v3 := add(false, true, false)
	c := v3.Find(bob.SHA256())[0]
	if c.PublishDNS || !c.PublishLDAP || c.Added != v1.Find(bob.SHA256())[0].Added {
		t.Errorf("%+v", c)
	}
	v4 := update(t, s, func(tx *store.Tx) error { return tx.SetPublish(bob.SHA256(), false, false) })
	if c := v4.Find(bob.SHA256())[0]; c.PublishDNS || c.PublishLDAP {
		t.Errorf("%+v", c)
	}
	v5 := update(t, s, func(tx *store.Tx) error { return tx.RemoveCertificate(bob.SHA256()) })
	if len(v5.Find(bob.SHA256())) != 0 {
		t.Error("still there after its removal")
	}
	for name, fn := range map[string]func(*store.Tx) error{
		"RemoveCertificate": func(tx *store.Tx) error { return tx.RemoveCertificate(bob.SHA256()) },
		"SetPublish":        func(tx *store.Tx) error { return tx.SetPublish(bob.SHA256(), true, true) },
		"PutKey":            func(tx *store.Tx) error { return tx.PutKey(bob.SHA256(), direct.Owner{}, bob.Key) },
	} {
		if _, err := s.Update(context.Background(), fn); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), bob.SHA256()[:16]) {
			t.Errorf("%s of a certificate that is gone = %v", name, err)
		}
	}
}

func TestAnOwnerHasNoMoreThanOneAnswerCarries(t *testing.T) {
	pki := testpki.New(t)
	s := with(t, newStore(t), "a.direct.test")
	update(t, s, func(tx *store.Tx) error {
		for i := range 21 {
			_, err := tx.AddCertificate(store.Certificate{DER: pki.SelfSigned(fmt.Sprint("bob ", i), testpki.Address("bob@a.direct.test")).DER})
			if i < 20 && err != nil || i == 20 && (!errors.Is(err, store.ErrLimit) || !strings.Contains(err.Error(), "bob@a.direct.test")) {
				t.Errorf("certificate %d: %v", i+1, err)
			}
		}
		var fat [3]testpki.Pair
		for i := range fat {
			fat[i] = pki.SelfSigned("ann", testpki.Address("ann@a.direct.test"), testpki.Extension([]int{1, 3, 6, 1, 4, 1, 99999, i}, false, make([]byte, 20_000)))
			_, err := tx.AddCertificate(store.Certificate{DER: fat[i].DER})
			if i < 2 && err != nil || i == 2 && (!errors.Is(err, store.ErrLimit) || !strings.Contains(err.Error(), "ann@a.direct.test")) {
				t.Errorf("certificate %d of 20 KB: %v", i+1, err)
			}
		}
		if err := tx.RemoveCertificate(fat[0].SHA256()); err != nil {
			return err
		}
		_, err := tx.AddCertificate(store.Certificate{DER: fat[2].DER}) // now there is room
		return err
	})
}

func TestKeyPairsOpenAgainOldAndNew(t *testing.T) {
	spec.Covers(t, "AS-1.4-i", "AS-1.4-k")
	pki := testpki.New(t)
	old, next := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	both := pki.SelfSigned("both", testpki.Address("ann@a.direct.test"), testpki.Domain("a.direct.test"))
	path := filepath.Join(t.TempDir(), "store.db")
	s, db := boltStore(t, path)
	with(t, s, "a.direct.test")
	update(t, s, func(tx *store.Tx) error {
		for _, p := range []testpki.Pair{old, next, both} {
			if _, err := tx.AddCertificate(store.Certificate{DER: p.DER}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutKey(old.SHA256(), owner(t, "bob@a.direct.test"), old.Key),
			tx.PutKey(next.SHA256(), direct.Owner{}, next.Key), tx.PutKey(both.SHA256(), direct.Owner{}, both.Key))
	})
	check(t, s)
	var backup bytes.Buffer
	if err := s.Backup(context.Background(), &backup); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s, _ = boltStore(t, path)
	v := s.View()
	dd := v.Domain(domain(t, "a.direct.test"))
	if dd.Keys.Len() != 4 || len(dd.KeysOf(owner(t, "Bob@a.direct.test"))) != 2 {
		t.Fatalf("%d keys", dd.Keys.Len())
	}
	for k := range dd.Keys.Sorted {
		key, err := v.Unseal(sealer(), k)
		if err != nil {
			t.Fatal(err)
		}
		//lint:ignore SA1019 any use of the key shows that it opened
		secret, err := rsa.EncryptPKCS1v15(rand.Reader, key.Public().(*rsa.PublicKey), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := key.(crypto.Decrypter).Decrypt(rand.Reader, secret, nil)
		if err != nil || string(plain) != "secret" {
			t.Errorf("key of %s: %q, %v", k.Owner, plain, err)
		}
	}
	// At rest and in a backup there is no trace of the private numbers.
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []testpki.Pair{old, next, both} {
		key := p.Key.(*rsa.PrivateKey)
		for _, secret := range [][]byte{key.Primes[0].Bytes(), key.Primes[1].Bytes(), key.D.Bytes(), key.Precomputed.Dp.Bytes()} {
			if bytes.Contains(file, secret) || bytes.Contains(backup.Bytes(), secret) {
				t.Error("a private number stands in the clear")
			}
		}
		if !bytes.Contains(file, p.DER) || !bytes.Contains(backup.Bytes(), p.DER) {
			t.Error("the search does not even find the certificate")
		}
	}
}

func TestAKeyThatIsNotTheCertificatesIsRefused(t *testing.T) {
	pki := testpki.New(t)
	bob, ann := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test")), pki.SelfSigned("ann", testpki.Address("ann@a.direct.test"))
	s := with(t, newStore(t), "a.direct.test")
	update(t, s, func(tx *store.Tx) error {
		_, e1 := tx.AddCertificate(store.Certificate{DER: bob.DER})
		_, e2 := tx.AddCertificate(store.Certificate{DER: ann.DER})
		return errors.Join(e1, e2, tx.PutKey(ann.SHA256(), direct.Owner{}, ann.Key))
	})
	for name, c := range map[string]struct {
		owner string
		key   crypto.Signer
		want  error
	}{
		"of another":         {"bob@a.direct.test", ann.Key, store.ErrKeyMismatch},
		"for another owner":  {"ann@a.direct.test", bob.Key, store.ErrNotFound},
		"that stays outside": {"bob@a.direct.test", device{bob.Key}, store.ErrMalformed},
	} {
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.PutKey(bob.SHA256(), owner(t, c.owner), c.key) })
		if !errors.Is(err, c.want) {
			t.Errorf("a key %s = %v, want %v", name, err, c.want)
		}
	}
	// A sealed key opens for its own certificate only, and not once altered.
	v := s.View()
	k := slices.Collect(v.Domain(domain(t, "a.direct.test")).Keys.Sorted)[0]
	moved := k
	moved.CertSHA256, moved.Owner = bob.SHA256(), owner(t, "bob@a.direct.test")
	if _, err := v.Unseal(sealer(), moved); err == nil {
		t.Error("ann's key opened for bob's certificate")
	}
	for i := 0; i < len(k.Sealed); i += 7 {
		altered := k
		altered.Sealed = bytes.Clone(k.Sealed)
		altered.Sealed[i] ^= 1
		if _, err := v.Unseal(sealer(), altered); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("octet %d altered: %v", i, err)
		}
	}
	for _, n := range []int{0, 3, 80, len(k.Sealed) - 1} {
		cut := k
		cut.Sealed = k.Sealed[:n]
		if _, err := v.Unseal(sealer(), cut); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	if _, err := v.Unseal(nil, k); !errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("without a master key = %v", err)
	}
	if _, err := v.Unseal(store.NewSealer([32]byte{9}), k); err == nil {
		t.Error("opened under another master key")
	}
}

// device is a key that cannot be exported.
type device struct{ crypto.Signer }

func TestAWrongMasterKeyIsToldAtOpen(t *testing.T) {
	db := memory.New(memory.Options{})
	open(t, db, store.Options{Seal: sealer()})
	_, err := store.Open(context.Background(), db, store.Options{Seal: store.NewSealer([32]byte{9})})
	if !errors.Is(err, store.ErrWrongMasterKey) {
		t.Errorf("Open = %v", err)
	}
	// Without one the store still serves certificates, but takes no key.
	pki := testpki.New(t)
	bob := pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	plain := with(t, open(t, memory.New(memory.Options{}), store.Options{}), "a.direct.test")
	_, err = plain.Update(context.Background(), func(tx *store.Tx) error {
		if _, err := tx.AddCertificate(store.Certificate{DER: bob.DER}); err != nil {
			return err
		}
		return tx.PutKey(bob.SHA256(), direct.Owner{}, bob.Key)
	})
	if !errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("PutKey = %v", err)
	}
}

func TestMasterKeyFiles(t *testing.T) {
	spec.Covers(t, "AS-6.1-c")
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	made, err := store.CreateMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got, err := store.LoadMasterKey(path); err != nil || got != made {
		t.Errorf("loaded another key than was made: %v", err)
	}
	if _, err := store.CreateMasterKey(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second key over the first = %v", err)
	}
	hex := fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	var want [32]byte = sha256.Sum256([]byte("x"))
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, content := range []string{hex, hex + "\n", hex + "\r\n", strings.ToUpper(hex), string(want[:])} {
		os.Remove(filepath.Join(dir, "k"))
		if got, err := store.LoadMasterKey(write("k", content, 0o600)); err != nil || got != want {
			t.Errorf("%d octets: %v", len(content), err)
		}
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"group":    {hex, 0o440, "chmod 400"},
		"everyone": {hex, 0o604, "chmod 400"},
		"runs":     {hex, 0o700, "chmod 400"},
		"short":    {hex[:62], 0o400, "62 octets"},
		"long":     {hex + hex, 0o400, "octets"},
		"no hex":   {"zz" + hex[2:], 0o400, "hexadecimal"},
		"empty":    {"", 0o400, "0 octets"},
	} {
		_, err := store.LoadMasterKey(write(name, c.content, c.mode))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), hex[2:20]) {
			t.Errorf("%s: %v, want %q and nothing of the content", name, err, c.want)
		}
	}
	for _, path := range []string{dir, "/dev/null", filepath.Join(dir, "absent")} {
		if _, err := store.LoadMasterKey(path); err == nil {
			t.Errorf("%s passed for a master key", path)
		}
	}
}

func TestCertificatesAreSortedByOwnerThenFingerprint(t *testing.T) {
	pki := testpki.New(t)
	path := filepath.Join(t.TempDir(), "store.db")
	s, db := boltStore(t, path)
	with(t, s, "a.direct.test")
	// One owner is the beginning of the other, and the next character sorts
	// before the '/' of the key on disk.
	update(t, s, func(tx *store.Tx) error {
		for _, name := range []string{"a.direct.test-x@a.direct.test", "a/b@a.direct.test", "a+b@a.direct.test", `"a b"@a.direct.test`} {
			if _, err := tx.AddCertificate(store.Certificate{DER: pki.SelfSigned("x", testpki.Address(name)).DER}); err != nil {
				return err
			}
		}
		for range 2 {
			if _, err := tx.AddCertificate(store.Certificate{DER: pki.SelfSigned("x", testpki.Domain("a.direct.test")).DER}); err != nil {
				return err
			}
		}
		return nil
	})
	check(t, s)
	before := text(s.View())
	db.Close()
	s, _ = boltStore(t, path)
	list := slices.Collect(s.View().Domain(domain(t, "a.direct.test")).Certificates.Sorted)
	if !slices.IsSortedFunc(list, func(a, b store.Certificate) int {
		return strings.Compare(a.Owner.Key()+"\x00"+a.SHA256, b.Owner.Key()+"\x00"+b.SHA256)
	}) || len(list) != 6 || text(s.View()) != before {
		t.Errorf("order after a restart:\n%s\nbefore:\n%s", text(s.View()), before)
	}
	if n := len(s.View().Owned(owner(t, "a.direct.test"))); n != 2 {
		t.Errorf("the domain owns %d", n)
	}
}
