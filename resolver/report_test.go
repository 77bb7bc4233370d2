package resolver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// volatile is what differs from run to run: times, ports, key identifiers do not.
var volatile = regexp.MustCompile(`\d+(\.\d+)? ms|127\.0\.0\.1:\d+|sha256 [0-9a-f]{64}`)

// bars are the lines that show when each step was waited for; steps of no time have none.
var bars = regexp.MustCompile(`(?m)^ +\d+ (DNS|LDAP) +\|.*\n`)

func TestTextForPeople(t *testing.T) {
	for _, tc := range []struct {
		name    string
		explain bool
		build   func(w *world)
	}{
		{"trusted", true, func(w *world) {
			w.dns.cert(w.t, "bob.direct.test.", w.good("bob", "bob@direct.test"), w.bad("bob (old)", "bob@direct.test"))
			w.dns.certOf(w.t, "bob.direct.test.", 4, []byte("http://pki.test/bob.cer"))
		}},
		{"untrusted", true, func(w *world) {
			l := newLDAP(w.t, "ou=x")
			w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
			l.add("ou=x", "direct.test", w.pki.Root("Stranger").Leaf("bob", testpki.Domain("direct.test")))
		}},
		{"not-found", false, func(*world) {}},
		{"temporary", false, func(w *world) { w.dns.rcode("bob.direct.test. CERT", 2) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.build(w)
			_, r := w.discover("bob@direct.test", oneByOne)
			var b bytes.Buffer
			if err := r.WriteText(&b, tc.explain); err != nil {
				t.Fatal(err)
			}
			got := bars.ReplaceAllString(b.String(), "")
			got = volatile.ReplaceAllStringFunc(got, func(s string) string {
				switch {
				case strings.HasSuffix(s, "ms"):
					return "N ms"
				case strings.HasPrefix(s, "127"):
					return "127.0.0.1:PORT"
				}
				return "sha256 HASH"
			})
			golden := filepath.Join("testdata", "text", tc.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestJSONContract names the fields that others read. A name that goes missing breaks them.
func TestJSONContract(t *testing.T) {
	w := newWorld(t)
	bob := w.good("bob", "bob@direct.test")
	w.dns.cert(t, "bob.direct.test.", bob)
	_, r := w.discover("bob@direct.test")
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"address", "verdict", "code", "source", "steps", "candidates", "chain", "anchor", "timing_ms"} {
		if _, ok := top[name]; !ok {
			t.Errorf("no field %s", name)
		}
	}
	var back struct {
		Address, Verdict, Source string
		Code                     int
		Steps                    []map[string]any
		Candidates               []struct {
			SHA256, Subject, Source string
			Usable                  bool
			Checks                  map[string]struct{ State, Citation, Detail string }
		}
		Chain  []struct{ SHA256, Subject string }
		Anchor *struct{ SHA256 string }
	}
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if back.Address != "bob@direct.test" || back.Verdict != "trusted" || back.Code != 0 || back.Source != "dns-address" {
		t.Errorf("%s", raw)
	}
	for _, name := range []string{"n", "kind", "server", "question", "transport", "rtt_ms", "outcome", "answers"} {
		if _, ok := back.Steps[0][name]; !ok {
			t.Errorf("no field %s in a step", name)
		}
	}
	c := back.Candidates[0]
	if c.SHA256 != bob.SHA256() || !c.Usable || c.Source != "dns-address" || c.Subject == "" {
		t.Errorf("candidate %+v", c)
	}
	if c.Checks["validity"].State != "pass" || c.Checks["binding"].Citation == "" || c.Checks["revocation"].State != "skipped" {
		t.Errorf("checks %+v", c.Checks)
	}
	if len(back.Chain) != 2 || back.Anchor == nil || back.Anchor.SHA256 != back.Chain[1].SHA256 {
		t.Errorf("chain %+v anchor %+v", back.Chain, back.Anchor)
	}
}

func TestEmptyListsAreListsInJSON(t *testing.T) {
	w := newWorld(t)
	_, r := w.discover("nobody@direct.test")
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"candidates":[]`, `"chain":[]`, `"anchor":null`, `"code":10`, `"verdict":"not_found"`, `"source":""`} {
		if !bytes.Contains(raw, []byte(want)) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}

func TestTextSaysThatAnchorsAreMissing(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	res, _ := w.discover("bob@direct.test")
	for known, want := range map[bool]bool{true: false, false: true} {
		r := resolver.NewReport(res, judge(res, nil), known)
		var b strings.Builder
		if err := r.WriteText(&b, false); err != nil {
			t.Fatal(err)
		}
		if r.Code != 11 || strings.Contains(b.String(), "--anchor") != want {
			t.Errorf("anchors known %v: code %d\n%s", known, r.Code, b.String())
		}
	}
	r := resolver.NewReport(res, judge(res, w.root), true)
	if !slices.Equal(usable(r), []string{"bob"}) || r.Code != 0 {
		t.Errorf("with the anchor: %s", r.Verdict)
	}
}

// TestTextIsTheSameFromJSON: the tool may get the report from the daemon.
func TestTextIsTheSameFromJSON(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"), w.bad("old", "bob@direct.test"))
	_, r := w.discover("bob@direct.test")
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back resolver.Report
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	var direct, fromJSON bytes.Buffer
	if err := errors.Join(r.WriteText(&direct, true), back.WriteText(&fromJSON, true)); err != nil {
		t.Fatal(err)
	}
	if direct.String() != fromJSON.String() {
		t.Errorf("direct:\n%s\nfrom JSON:\n%s", &direct, &fromJSON)
	}
}

func TestNamesCannotSteerATerminal(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("evil\x1b[2J\u202ename", "bob@direct.test"))
	_, r := w.discover("bob@direct.test")
	var b strings.Builder
	if err := r.WriteText(&b, true); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e\x07") {
		t.Errorf("control characters in %q", b.String())
	}
}
