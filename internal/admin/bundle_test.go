package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/resolver/fetch"
)

// publisher serves one bundle to a service of its own on the node's store.
type publisher struct {
	body []byte
	err  error
}

func (p *publisher) fetch(context.Context, string) ([]byte, error) { return p.body, p.err }

func (n *node) withPublisher(p *publisher, started time.Time) *admin.Service {
	return admin.New(n.store, n.mail, admin.Options{Hostname: "node.direct.test", Started: started, Fetch: p.fetch})
}

func pemOf(list ...testpki.Pair) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, c.CertPEM()...)
	}
	return out
}

// TestABundleIsReplacedAtOnceOrNotAtAll: the difference is told, and whatever goes wrong leaves the anchors as they are.
func TestABundleIsReplacedAtOnceOrNotAtAll(t *testing.T) {
	n := newNode(t)
	pki := testpki.New(t)
	x, y, z := pki.Root("X").Pair, pki.Root("Y").Pair, pki.Root("Z").Pair
	p := &publisher{body: pemOf(x, y)}
	s := n.withPublisher(p, time.Now())
	req := admin.BundleRequest{Domain: "a.direct.test", Name: "network", URL: "https://bundle.example.org/b.p7b", In: true, DryRun: true}
	diff, err := s.AddBundle(t.Context(), req)
	if err != nil || len(diff.Added) != 2 || !diff.DryRun {
		t.Fatalf("%+v %v", diff, err)
	}
	if list, _ := s.ListBundles(t.Context(), admin.BundleRequest{}); len(list) != 0 {
		t.Error("a dry run added a bundle")
	}
	req.DryRun = false
	if diff, err = s.AddBundle(t.Context(), req); err != nil || len(diff.Added) != 2 || diff.Anchors != 2 || diff.Refresh != "24h0m0s" {
		t.Fatalf("%+v %v", diff, err)
	}
	anchors, err := s.ListAnchors(t.Context(), admin.AnchorRequest{Domain: "a.direct.test"})
	if err != nil || len(anchors) != 2 || anchors[0].Bundle != "network" || !anchors[0].In || anchors[0].Out {
		t.Errorf("%+v %v", anchors, err)
	}
	if _, err := s.AddBundle(t.Context(), req); id(err) != "DN-BUNDLE-004" {
		t.Errorf("added twice: %v", err)
	}
	rev := n.store.View().Rev
	for name, bad := range map[string]publisher{
		"unreachable": {err: &fetch.Error{URL: "u", Outcome: fetch.TimedOut, Detail: "no answer in time"}}, "gone": {err: &fetch.Error{URL: "u", Outcome: fetch.Absent, Detail: "status 404"}},
		"a page": {body: []byte("<html>")}, "empty": {body: []byte("-----BEGIN X-----\n")}, "nothing": {},
	} {
		*p = bad
		list, err := s.RefreshBundles(t.Context(), admin.BundleRequest{Name: "network"})
		if err != nil || len(list) != 1 || list[0].Code != admin.CodeFailed || list[0].Error == "" {
			t.Errorf("%s: %+v %v", name, list, err)
		}
		shown, _ := s.ListBundles(t.Context(), admin.BundleRequest{})
		if n.store.View().Rev != rev || len(shown) != 1 || shown[0].Anchors != 2 || shown[0].Error == "" || shown[0].Checked.IsZero() {
			t.Errorf("%s: %+v", name, shown)
		}
	}
	*p = publisher{body: pemOf(y, z)}
	list, err := s.RefreshBundles(t.Context(), admin.BundleRequest{Domain: "a.direct.test", DryRun: true})
	if err != nil || len(list[0].Added) != 1 || n.store.View().Rev != rev {
		t.Errorf("%+v %v", list, err)
	}
	list, err = s.RefreshBundles(t.Context(), admin.BundleRequest{})
	if err != nil || len(list) != 1 || len(list[0].Added) != 1 || list[0].Added[0].SHA256 != z.SHA256() || len(list[0].Removed) != 1 || list[0].Removed[0].SHA256 != x.SHA256() || list[0].Kept != 1 || list[0].Error != "" {
		t.Errorf("%+v %v", list, err)
	}
	rev = n.store.View().Rev
	if list, err = s.RefreshBundles(t.Context(), admin.BundleRequest{}); err != nil || len(list[0].Added)+len(list[0].Removed) != 0 || n.store.View().Rev != rev {
		t.Errorf("the same bundle made a change: %+v %v", list, err)
	}
	if d, err := s.ShowDomain(t.Context(), admin.DomainRequest{Domain: "a.direct.test"}); err != nil || d.Anchors != 2 {
		t.Errorf("%d anchors, %v", d.Anchors, err)
	}
	done, err := s.RemoveBundle(t.Context(), admin.BundleRequest{Domain: "a.direct.test", Name: "network"})
	if err != nil || !strings.Contains(done.Done, "with 2 anchors") {
		t.Errorf("%q %v", done.Done, err)
	}
	if _, err := s.RemoveBundle(t.Context(), admin.BundleRequest{Domain: "a.direct.test", Name: "network"}); id(err) != "DN-BUNDLE-003" {
		t.Errorf("%v", err)
	}
	if _, err := s.RefreshBundles(t.Context(), admin.BundleRequest{}); id(err) != "DN-BUNDLE-003" {
		t.Errorf("%v", err)
	}
}

// id is that of an error object.
func id(err error) string {
	var e *admin.Error
	if errors.As(err, &e) {
		return e.ID
	}
	return fmt.Sprint(err)
}

// TestBundleRequestsThatAreUnsafe are refused before anything is asked.
func TestBundleRequestsThatAreUnsafe(t *testing.T) {
	n := newNode(t)
	x := testpki.New(t).Root("X")
	p := &publisher{body: x.CertPEM()}
	s := n.withPublisher(p, time.Now())
	file := admin.File{Name: "x.pem", Data: x.CertPEM()}
	for name, tc := range map[string]struct {
		change func(*admin.BundleRequest)
		want   string
	}{
		"unsigned by http":    {func(r *admin.BundleRequest) { r.URL = "http://bundle.example.org/" }, "DN-BUNDLE-001"},
		"insecure by http":    {func(r *admin.BundleRequest) { r.URL, r.Insecure = "http://bundle.example.org/", true }, "<nil>"},
		"signed and is not":   {func(r *admin.BundleRequest) { r.URL, r.Signer = "http://bundle.example.org/", file }, "DN-BUNDLE-006"},
		"ftp":                 {func(r *admin.BundleRequest) { r.URL = "ftp://bundle.example.org/" }, "DN-BUNDLE-001"},
		"nothing":             {func(r *admin.BundleRequest) { r.URL = "" }, "DN-BUNDLE-001"},
		"both":                {func(r *admin.BundleRequest) { r.File = file }, "DN-BUNDLE-001"},
		"a file":              {func(r *admin.BundleRequest) { r.URL, r.File = "", file }, "<nil>"},
		"a signer that is no": {func(r *admin.BundleRequest) { r.Signer = admin.File{Name: "s", Data: []byte("x")} }, "DN-BUNDLE-001"},
		"every second":        {func(r *admin.BundleRequest) { r.Refresh = "1s" }, "DN-BUNDLE-001"},
		"never":               {func(r *admin.BundleRequest) { r.Refresh = "0" }, "<nil>"},
		"a strange name":      {func(r *admin.BundleRequest) { r.Name = "../x" }, "DN-STORE-004"},
		"a strange domain":    {func(r *admin.BundleRequest) { r.Domain = "c.direct.test" }, "DN-DOMAIN-003"},
	} {
		req := admin.BundleRequest{Domain: "a.direct.test", Name: "n", URL: "https://bundle.example.org/", DryRun: true}
		tc.change(&req)
		if _, err := s.AddBundle(t.Context(), req); id(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// TestBundlesAreDueInTurn: once in each span, soon after a start, and not all at once.
func TestBundlesAreDueInTurn(t *testing.T) {
	n := newNode(t)
	x := testpki.New(t).Root("X").Pair
	start := time.Now()
	s, other := n.withPublisher(&publisher{body: pemOf(x)}, start), n.withPublisher(&publisher{body: pemOf(x)}, start) // before and after a restart
	for i := range 20 {
		if _, err := other.AddBundle(t.Context(), admin.BundleRequest{Domain: "a.direct.test", Name: fmt.Sprint("n", i), URL: "https://bundle.example.org/"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AddBundle(t.Context(), admin.BundleRequest{Domain: "a.direct.test", Name: "by-hand", URL: "https://bundle.example.org/", Refresh: "0"}); err != nil {
		t.Fatal(err)
	}
	a, err := direct.ParseDomain("a.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	refreshed := map[string]int{}
	most := 0
	for at := start; at.Before(start.Add(48 * time.Hour)); at = at.Add(time.Minute) {
		due := s.DueBundles(at)
		most = max(most, len(due))
		for _, b := range due {
			refreshed[b.Name]++
			if _, err := s.RefreshBundle(t.Context(), a, b.Name, false, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, times := range refreshed {
		if times < 2 || times > 3 {
			t.Errorf("%s was refreshed %d times in two days", name, times)
		}
	}
	if len(refreshed) != 20 || most > 12 {
		t.Errorf("%d bundles were refreshed, %d at once", len(refreshed), most)
	}
}

// TestASignedBundleIsNoAnchorFile: its signer would become an anchor.
func TestASignedBundleIsNoAnchorFile(t *testing.T) {
	n := newNode(t)
	x := testpki.New(t).Root("X")
	_, err := n.AddAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", File: admin.File{Name: "b.p7m", Data: signedBundle(t, x.Pair)}})
	if id(err) != "DN-ANCHOR-003" {
		t.Errorf("%v", err)
	}
	for _, c := range []struct{ in, out bool }{{true, false}, {false, true}, {true, true}, {false, false}} {
		if _, err := n.AddAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", File: admin.File{Name: "x.pem", Data: x.CertPEM()}, In: c.in, Out: c.out}); err != nil {
			t.Fatal(err)
		}
		list, err := n.ListAnchors(t.Context(), admin.AnchorRequest{})
		both := !c.in && !c.out
		if err != nil || len(list) != 1 || list[0].In != (c.in || both) || list[0].Out != (c.out || both) {
			t.Errorf("%+v: %+v %v", c, list, err)
		}
	}
}

// signedBundle is a CMS message with a signature. What it encloses does not matter here.
func signedBundle(t *testing.T, signer testpki.Pair) []byte {
	t.Helper()
	der, err := cms.SignDetached(strings.NewReader("anchors"), []cms.Signer{{Certificate: signer.Cert, Key: signer.Key}}, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
