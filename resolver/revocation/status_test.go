package revocation_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
)

const (
	atList = "/ca.crl"
	atOCSP = "/ocsp"
)

// verdict judges a certificate by everything: the table of trust with the service behind it.
func verdict(t *testing.T, r trust.Revocation, root *testpki.CA, cert testpki.Pair, mode trust.RevocationMode, at time.Time) string {
	t.Helper()
	a, err := direct.ParseAddress("bob@b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	j := trust.EvaluateContext(t.Context(), trust.Question{
		Address: a, Purpose: trust.Encrypt, Candidates: [][]byte{cert.DER}, Anchors: []*x509.Certificate{root.Cert}, At: at, Revocation: r,
		Policy: trust.Policy{Revocation: mode},
	})
	if refusal := j.Refusal(); refusal != nil {
		if refusal.Check != "revocation" {
			t.Fatalf("refused for another reason: %v", refusal)
		}
		return string(refusal.Kind)
	}
	return "trusted"
}

// TestRevocationTruthTable is every combination of what a list says, what a responder says and what the policy is: 18 of 18. Issuer, list
// and responder are real servers behind the door.
func TestRevocationTruthTable(t *testing.T) {
	const good, revoked, silent = "good", "revoked", "silent"
	for _, tc := range []struct {
		list, responder string
		soft            bool
		want            string
	}{
		{good, good, false, "trusted"}, {good, good, true, "trusted"},
		{good, revoked, false, "revoked"}, {good, revoked, true, "revoked"},
		{good, silent, false, "trusted"}, {good, silent, true, "trusted"},
		{revoked, good, false, "revoked"}, {revoked, good, true, "revoked"},
		{revoked, revoked, false, "revoked"}, {revoked, revoked, true, "revoked"},
		{revoked, silent, false, "revoked"}, {revoked, silent, true, "revoked"},
		{silent, good, false, "trusted"}, {silent, good, true, "trusted"},
		{silent, revoked, false, "revoked"}, {silent, revoked, true, "revoked"},
		{silent, silent, false, "undetermined"}, {silent, silent, true, "trusted"},
	} {
		mode := trust.RevocationGrace
		if tc.soft {
			mode = trust.RevocationSoft
		}
		t.Run(fmt.Sprintf("list %s, responder %s, %s", tc.list, tc.responder, mode), func(t *testing.T) {
			w := newWeb(t)
			root := testpki.New(t).Root("Root")
			bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"), testpki.CRLDP(w.url+atList), testpki.OCSP(w.url+atOCSP))
			other := root.Leaf("other", testpki.CRLDP(w.url+atList))
			switch tc.list {
			case good:
				w.put(atList, makeList(t, root.Pair, listOptions{revoked: []int64{4711}}))
			case revoked:
				w.put(atList, makeList(t, root.Pair, listOptions{revoked: []int64{bob.Cert.SerialNumber.Int64()}, reason: 1}))
			}
			switch tc.responder {
			case good:
				w.responder(atOCSP, bob.Cert, root.Pair, root.Pair, answerOptions{})
			case revoked:
				w.responder(atOCSP, bob.Cert, root.Pair, root.Pair, answerOptions{status: ocsp.Revoked})
			}
			s := service(t, door(), "")
			if tc.list != silent { // a list of this issuer is held, as somebody else has written
				status(t, s, other, root, clock(), trust.StatusGood)
			}
			if got := verdict(t, s, root, bob, mode, clock()); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// TestForgeries: whoever is not the issuer says nothing, neither good nor revoked.
func TestForgeries(t *testing.T) {
	now := clock()
	delegated := testpki.ExtKeyUsage(x509.ExtKeyUsageOCSPSigning)
	type made struct {
		list, answer []byte
	}
	for _, tc := range []struct {
		name string
		make func(t *testing.T, pki *testpki.PKI, root *testpki.CA, bob testpki.Pair) made
		why  string // part of the reason; "" is an answer that counts
		want trust.Status
	}{
		{"a list of another issuer", func(t *testing.T, pki *testpki.PKI, _ *testpki.CA, bob testpki.Pair) made {
			return made{list: makeList(t, pki.Root("Other").Pair, listOptions{revoked: []int64{bob.Cert.SerialNumber.Int64()}})}
		}, "another issuer", trust.StatusUndetermined},
		{"a list that an attacker signed", func(t *testing.T, pki *testpki.PKI, _ *testpki.CA, bob testpki.Pair) made {
			return made{list: makeList(t, pki.Root("Root").Pair, listOptions{revoked: []int64{bob.Cert.SerialNumber.Int64()}})}
		}, "not one of the issuer's key", trust.StatusUndetermined},
		{"an expired list", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, _ testpki.Pair) made {
			return made{list: makeList(t, root.Pair, listOptions{this: now.Add(-48 * time.Hour), next: now.Add(-25 * time.Hour)})}
		}, "the list expired", trust.StatusUndetermined},
		{"an expired list that says revoked", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{list: makeList(t, root.Pair, listOptions{this: now.Add(-48 * time.Hour), next: now.Add(-25 * time.Hour), revoked: []int64{bob.Cert.SerialNumber.Int64()}})}
		}, "", trust.StatusRevoked},
		{"a list of tomorrow", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, _ testpki.Pair) made {
			return made{list: makeList(t, root.Pair, listOptions{this: now.Add(24 * time.Hour), next: now.Add(48 * time.Hour)})}
		}, "yet to come", trust.StatusUndetermined},
		{"a page instead of a list", func(*testing.T, *testpki.PKI, *testpki.CA, testpki.Pair) made {
			return made{list: []byte("<html>moved</html>")}
		}, "CertificateList", trust.StatusUndetermined},
		{"the issuer answers", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{})}
		}, "", trust.StatusGood},
		{"the issuer answers with its certificate", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{embed: root.Cert})}
		}, "", trust.StatusGood},
		{"a responder answers", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := root.Leaf("responder", delegated)
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert, hash: crypto.SHA256})}
		}, "", trust.StatusGood},
		{"a sibling answers", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := root.Leaf("mallory", testpki.ExtKeyUsage(x509.ExtKeyUsageEmailProtection))
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "no responder's", trust.StatusUndetermined},
		{"a sibling for any use answers", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := root.Leaf("mallory", testpki.ExtKeyUsage(x509.ExtKeyUsageAny))
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "no responder's", trust.StatusUndetermined},
		{"the certificate itself answers", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, bob, answerOptions{embed: bob.Cert})}
		}, "no responder's", trust.StatusUndetermined},
		{"a responder of another issuer", func(t *testing.T, pki *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := pki.Root("Other").Leaf("responder", delegated)
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "did not make", trust.StatusUndetermined},
		{"a responder of an impostor", func(t *testing.T, pki *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := pki.Root("Root").Leaf("responder", delegated)
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "did not make", trust.StatusUndetermined},
		{"an expired responder", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := root.Leaf("responder", delegated, testpki.Expired())
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "valid from", trust.StatusUndetermined},
		{"a responder with a key for encryption", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			r := root.Leaf("responder", delegated, testpki.EncryptOnly())
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, r, answerOptions{embed: r.Cert})}
		}, "no responder's", trust.StatusUndetermined},
		{"an attacker without a certificate", func(t *testing.T, pki *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, pki.Root("Mallory").Pair, answerOptions{})}
		}, "not one of the issuer's key", trust.StatusUndetermined},
		{"an answer about the same number of another issuer", func(t *testing.T, pki *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, pki.Root("Other").Pair, root.Pair, answerOptions{})}
		}, "another issuer", trust.StatusUndetermined},
		{"an answer about another certificate", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, _ testpki.Pair) made {
			return made{answer: makeAnswer(t, root.Leaf("carol").Cert, root.Pair, root.Pair, answerOptions{})}
		}, "no response matching", trust.StatusUndetermined},
		{"an old answer", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{this: now.Add(-48 * time.Hour), next: now.Add(-time.Hour)})}
		}, "counted until", trust.StatusUndetermined},
		{"an answer that wants to count for a year", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{this: now.AddDate(0, -1, 0), next: now.AddDate(1, 0, 0)})}
		}, "counted until", trust.StatusUndetermined},
		{"an answer of tomorrow", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{this: now.Add(time.Hour), next: now.Add(2 * time.Hour)})}
		}, "yet to come", trust.StatusUndetermined},
		{"an answer that ends before it begins", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{this: now, next: now.Add(-time.Minute)})}
		}, "before it begins", trust.StatusUndetermined},
		{"a replay with the nonce of another question", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: withNonce(t, makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{}), []byte("another question's nonce"), root.Key)}
		}, "nonce", trust.StatusUndetermined},
		{"the responder does not know", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{status: ocsp.Unknown})}
		}, "does not know", trust.StatusUndetermined},
		{"the responder says try later", func(*testing.T, *testpki.PKI, *testpki.CA, testpki.Pair) made {
			return made{answer: ocsp.TryLaterErrorResponse}
		}, "does not answer", trust.StatusUndetermined},
		{"the responder says unauthorized", func(*testing.T, *testpki.PKI, *testpki.CA, testpki.Pair) made {
			return made{answer: ocsp.UnauthorizedErrorResponse}
		}, "does not answer", trust.StatusUndetermined},
		{"a critical extension", func(t *testing.T, _ *testpki.PKI, root *testpki.CA, bob testpki.Pair) made {
			return made{answer: makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}})}
		}, "", trust.StatusUndetermined},
		{"a page instead of an answer", func(*testing.T, *testpki.PKI, *testpki.CA, testpki.Pair) made {
			return made{answer: []byte("<html>moved</html>")}
		}, "the response is none", trust.StatusUndetermined},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWeb(t)
			pki := testpki.New(t)
			root := pki.Root("Root")
			bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"), testpki.CRLDP(w.url+atList), testpki.OCSP(w.url+atOCSP))
			m := tc.make(t, pki, root, bob)
			w.put(atList, m.list)
			w.put(atOCSP, m.answer)
			s := service(t, door(), t.TempDir())
			r := status(t, s, bob, root, now, tc.want)
			if tc.want == trust.StatusUndetermined && (!strings.Contains(r.Why, tc.why) || !r.Temporary) {
				t.Errorf("why %q, temporary %v, want %q", r.Why, r.Temporary, tc.why)
			}
			again := status(t, s, bob, root, now, tc.want) // out of what is kept
			if again.Source != r.Source {
				t.Errorf("%q, and a moment later %q", r.Source, again.Source)
			}
		})
	}
}

// TestGraceOfAnExpiredList: the last good answer counts for the time that the policy gives, and never reads as good.
func TestGraceOfAnExpiredList(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"), testpki.CRLDP(w.url+atList))
	now := clock()
	w.put(atList, makeList(t, root.Pair, listOptions{next: now.Add(time.Hour)}))
	s := service(t, door(), t.TempDir())
	for _, tc := range []struct {
		after time.Duration
		mode  trust.RevocationMode
		want  string
	}{
		{0, trust.RevocationGrace, "trusted"}, {0, trust.RevocationStrict, "trusted"},
		{2 * time.Hour, trust.RevocationGrace, "trusted"}, {2 * time.Hour, trust.RevocationStrict, "undetermined"},
		{25 * time.Hour, trust.RevocationGrace, "trusted"}, {26 * time.Hour, trust.RevocationGrace, "undetermined"}, {26 * time.Hour, trust.RevocationSoft, "trusted"},
	} {
		if tc.after > 0 {
			w.put(atList, nil)
			if r := status(t, s, bob, root, now.Add(tc.after), trust.StatusUndetermined); !r.GoodUntil.Equal(now.Add(time.Hour)) || !r.Temporary {
				t.Errorf("%v: %+v", tc.after, r)
			}
		}
		if got := verdict(t, s, root, bob, tc.mode, now.Add(tc.after)); got != tc.want {
			t.Errorf("%v %s: %s, want %s", tc.after, tc.mode, got, tc.want)
		}
	}
}

// TestACertificateThatNamesNobody is shown as undetermined, and passes under as-1.2's default only.
func TestACertificateThatNamesNobody(t *testing.T) {
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"))
	elsewhere := root.Leaf("elsewhere", testpki.Address("bob@b.direct.test"), testpki.CRLDP("ldap://dir.example.org/cn=ca?certificateRevocationList"))
	s := service(t, door(), "")
	for _, cert := range []testpki.Pair{bob, elsewhere} {
		if r := status(t, s, cert, root, clock(), trust.StatusUndetermined); !r.Unpublished || r.Temporary {
			t.Errorf("%+v", r)
		}
	}
	for mode, want := range map[trust.RevocationMode]string{"": "trusted", trust.RevocationGrace: "trusted", trust.RevocationSoft: "trusted", trust.RevocationStrict: "undetermined"} {
		if got := verdict(t, s, root, bob, mode, clock()); got != want {
			t.Errorf("%q: %s, want %s", mode, got, want)
		}
	}
}

// TestARestartAsksNobody: lists and answers are on the disk.
func TestARestartAsksNobody(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList))
	carol := root.Leaf("carol", testpki.OCSP(w.url+atOCSP))
	dave := root.Leaf("dave", testpki.CRLDP(w.url+atList))
	w.put(atList, makeList(t, root.Pair, listOptions{revoked: []int64{dave.Cert.SerialNumber.Int64()}, number: 7}))
	w.responder(atOCSP, carol.Cert, root.Pair, root.Pair, answerOptions{})
	dir := t.TempDir()
	ask := func(s *revocation.Service) {
		t.Helper()
		status(t, s, bob, root, clock(), trust.StatusGood)
		status(t, s, carol, root, clock(), trust.StatusGood)
		if r := status(t, s, dave, root, clock(), trust.StatusRevoked); !strings.HasPrefix(r.Source, "CRL 7 of ") || r.RevokedAt.IsZero() {
			t.Errorf("%+v", r)
		}
	}
	ask(service(t, door(), dir))
	for range 3 {
		ask(service(t, door(), dir))
	}
	ask(service(t, nil, dir)) // and with nobody to ask at all
	if w.count(atList) != 1 || w.count(atOCSP) != 1 {
		t.Errorf("the list was fetched %d times, the responder asked %d times", w.count(atList), w.count(atOCSP))
	}
	// What is damaged is fetched again, and what is not ours is left alone or removed without harm.
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"crl-x": "not a head\n", "ocsp-" + strings.Repeat("0", 64): "{}\n", ".tmp-ABC": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask(service(t, door(), dir))
	if w.count(atList) != 2 || w.count(atOCSP) != 2 {
		t.Errorf("after damage the list was fetched %d times, the responder asked %d times", w.count(atList), w.count(atOCSP))
	}
}

// TestOneFetchForAll: a message to a thousand recipients of one issuer fetches its list once.
func TestOneFetchForAll(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	var certs []testpki.Pair
	for i := range 20 {
		certs = append(certs, root.Leaf(fmt.Sprint(i), testpki.CRLDP(w.url+atList)))
	}
	list := makeList(t, root.Pair, listOptions{})
	w.handle(atList, func(rw http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		rw.Write(list)
	})
	s := service(t, door(), t.TempDir())
	var g sync.WaitGroup
	for _, c := range certs {
		g.Go(func() {
			if r := s.Status(context.Background(), c.Cert, root.Cert, clock()); r.Status != trust.StatusGood {
				t.Errorf("%+v", r)
			}
		})
	}
	g.Wait()
	if n := w.count(atList); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// TestFailuresAreRemembered for five minutes, and no longer.
func TestFailuresAreRemembered(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList), testpki.OCSP(w.url+atOCSP))
	s := service(t, door(), "")
	now := clock()
	for range 5 {
		status(t, s, bob, root, now, trust.StatusUndetermined)
	}
	if w.count(atList) != 1 || w.count(atOCSP) != 1 {
		t.Errorf("asked %d and %d times", w.count(atList), w.count(atOCSP))
	}
	w.put(atList, makeList(t, root.Pair, listOptions{}))
	status(t, s, bob, root, now.Add(6*time.Minute), trust.StatusGood)
}

// TestPlacesOfOneCertificateAreFew: there are certificates with hundreds.
func TestPlacesOfOneCertificateAreFew(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	var lists, responders []string
	for i := range 120 {
		lists = append(lists, fmt.Sprintf("%s/%d.crl", w.url, i))
		responders = append(responders, fmt.Sprintf("%s/%d.ocsp", w.url, i))
	}
	bob := root.Leaf("bob", testpki.CRLDP(lists...), testpki.OCSP(responders...))
	status(t, service(t, door(), ""), bob, root, clock(), trust.StatusUndetermined)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) > 5 {
		t.Errorf("%d places were asked", len(w.asked))
	}
}

// TestAnOldListIsNotPlayedBack: a newer list that is held stays.
func TestAnOldListIsNotPlayedBack(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList))
	now := clock()
	old := makeList(t, root.Pair, listOptions{this: now.Add(-10 * time.Hour), next: now.Add(100 * time.Hour)})
	w.put(atList, makeList(t, root.Pair, listOptions{revoked: []int64{bob.Cert.SerialNumber.Int64()}, next: now.Add(time.Hour)}))
	s := service(t, door(), t.TempDir())
	status(t, s, bob, root, now, trust.StatusRevoked)
	w.put(atList, old)
	s.Refresh(t.Context(), now.Add(50*time.Minute))
	status(t, s, bob, root, now.Add(2*time.Hour), trust.StatusRevoked)
	if w.count(atList) != 2 {
		t.Errorf("fetched %d times", w.count(atList))
	}
}

// TestAMessageIsJudgedForWhenItCame: it waits until its sender's list can be fetched, and that list is younger than the message.
func TestAMessageIsJudgedForWhenItCame(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList), testpki.OCSP(w.url+atOCSP))
	w.put(atList, makeList(t, root.Pair, listOptions{this: clock()}))
	status(t, service(t, door(), ""), bob, root, clock().Add(-time.Hour), trust.StatusGood)
	w.put(atList, nil)
	w.responder(atOCSP, bob.Cert, root.Pair, root.Pair, answerOptions{this: clock()})
	status(t, service(t, door(), ""), bob, root, clock().Add(-time.Hour), trust.StatusGood)
}

// TestRefreshIsAheadOfTheEnd, and what nobody asks for is forgotten.
func TestRefreshIsAheadOfTheEnd(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList))
	carol := root.Leaf("carol", testpki.OCSP(w.url+atOCSP))
	now := clock()
	serve := func(at time.Time) {
		w.put(atList, makeList(t, root.Pair, listOptions{this: at, next: at.Add(24 * time.Hour)}))
		w.responder(atOCSP, carol.Cert, root.Pair, root.Pair, answerOptions{this: at, next: at.Add(24 * time.Hour)})
	}
	serve(now)
	dir := t.TempDir()
	s := service(t, door(), dir)
	status(t, s, bob, root, now, trust.StatusGood)
	status(t, s, carol, root, now, trust.StatusGood)
	s.Refresh(t.Context(), now.Add(12*time.Hour)) // too early
	if w.count(atList) != 1 || w.count(atOCSP) != 1 {
		t.Errorf("fetched %d, asked %d times", w.count(atList), w.count(atOCSP))
	}
	for day := range 12 { // nobody asks for twelve days
		at := now.Add(time.Duration(day)*24*time.Hour + 21*time.Hour)
		serve(at)
		s.Refresh(t.Context(), at)
	}
	if st := s.Stats(now); st.Lists != 0 || st.Answers != 0 {
		t.Errorf("still kept: %+v", st)
	}
	if n := w.count(atList); n < 7 || n > 10 {
		t.Errorf("fetched %d times", n)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}

// TestResponderWithoutNonces: some cannot take one and say malformedRequest; they are asked again without.
func TestResponderWithoutNonces(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.OCSP(w.url+atOCSP))
	w.handle(atOCSP, func(rw http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		if nonceOf(body[:n]) != nil {
			rw.Write(ocsp.MalformedRequestErrorResponse)
			return
		}
		if _, err := ocsp.ParseRequest(body[:n]); err != nil {
			t.Error(err)
		}
		rw.Write(makeAnswer(t, bob.Cert, root.Pair, root.Pair, answerOptions{}))
	})
	status(t, service(t, door(), ""), bob, root, clock(), trust.StatusGood)
	if w.count(atOCSP) != 2 {
		t.Errorf("asked %d times", w.count(atOCSP))
	}
}

// TestListOfSomeReasons says revoked, and never good.
func TestListOfSomeReasons(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	bob := root.Leaf("bob", testpki.CRLDP(w.url+atList))
	carol := root.Leaf("carol", testpki.CRLDP(w.url+atList))
	w.put(atList, makeList(t, root.Pair, listOptions{revoked: []int64{bob.Cert.SerialNumber.Int64()}, extensions: []pkix.Extension{idp(true, tagged(0x83, 6, 0x40))}}))
	s := service(t, door(), "")
	status(t, s, bob, root, clock(), trust.StatusRevoked)
	status(t, s, carol, root, clock(), trust.StatusUndetermined)
}

// TestIssuers: what authorityInfoAccess points to, in every form that is served.
func TestIssuers(t *testing.T) {
	w := newWeb(t)
	root := testpki.New(t).Root("Root")
	hisp := root.Intermediate("HISP")
	w.put("/der", hisp.DER)
	w.put("/pem", hisp.CertPEM())
	w.put("/page", []byte("<html>"))
	for path, want := range map[string]string{"/der": "ok", "/pem": "ok", "/page": "bad_answer", "/none": "bad_answer"} {
		leaf := hisp.Leaf("leaf"+path, testpki.AIA("ldap://dir.example.org/cn=x", w.url+path))
		certs, fetches := revocation.Issuers{Fetch: door()}.Issuers(t.Context(), leaf.Cert)
		if len(fetches) != 1 || fetches[0].Outcome != want || (len(certs) == 1) != (want == "ok") {
			t.Errorf("%s: %d certificates, %+v", path, len(certs), fetches)
		}
	}
	der, _, err := revocation.Certificate(t.Context(), door(), w.url+"/pem")
	if err != nil || string(der) != string(hisp.DER) {
		t.Errorf("%v", err)
	}
	var e *fetch.Error
	if _, _, err := revocation.Certificate(t.Context(), door(), w.url+"/page"); !errors.As(err, &e) || e.Outcome != fetch.BadAnswer {
		t.Errorf("%v", err)
	}
}

// FuzzOCSP: no octets make the reader panic, and none of them say anything.
func FuzzOCSP(f *testing.F) {
	root := testpki.New(f).Root("Root")
	bob := root.Leaf("bob")
	responder := root.Leaf("responder", testpki.ExtKeyUsage(x509.ExtKeyUsageOCSPSigning))
	f.Add(makeAnswer(f, bob.Cert, testpki.Pair{Cert: bob.Cert, Key: bob.Key}, responder, answerOptions{}))
	f.Add(makeAnswer(f, bob.Cert, root.Pair, bob, answerOptions{embed: bob.Cert, status: ocsp.Revoked}))
	f.Add(ocsp.TryLaterErrorResponse)
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := revocation.ReadAnswer(data, bob.Cert, root.Cert, []byte("nonce"), clock()); err == nil {
			t.Errorf("a forged response is taken: %+v", a)
		}
	})
}

// FuzzAIA: no body of a server makes the reader panic.
func FuzzAIA(f *testing.F) {
	root := testpki.New(f).Root("Root")
	f.Add(root.DER)
	f.Add(root.CertPEM())
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := trust.ParseCertificates(data)
		if (err == nil) == (len(certs) == 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
	})
}
