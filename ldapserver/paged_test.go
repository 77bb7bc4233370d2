package ldapserver_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// pages reads all pages of a search and gives the names on each.
func (w wire) pages(a ask, size int64) (pages [][]string) {
	w.t.Helper()
	cookie := ""
	for {
		a.controls = [][]byte{page(size, cookie, true)}
		dns, done := w.search(a)
		if done.code != 0 || done.cookie == nil {
			w.t.Fatalf("page %d: %v %q", len(pages), done, done.text)
		}
		pages = append(pages, dns)
		if cookie = *done.cookie; cookie == "" {
			return pages
		}
	}
}

func TestPagesOfAnExactSearch(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	filter := or(equal("mail", "bob@b.direct.test"), equal("mail", "nobody@b.direct.test"), equal("mail", "b.direct.test"), equal("mail", "carol@b.direct.test"))
	for size, want := range map[int64][][]string{
		1: {{bobDN}, {orgDN}, {carolDN}},
		2: {{bobDN, orgDN}, {carolDN}},
		3: {{bobDN, orgDN, carolDN}},
		9: {{bobDN, orgDN, carolDN}},
	} {
		got := dial(t, addr).pages(ask{base: top, scope: 2, filter: filter}, size)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pages of %d: %q, want %q", size, got, want)
		}
	}
}

func TestPagingIsNoWayAroundNamingTheAddress(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	w := dial(t, addr)
	for _, size := range []int64{1, 1000} {
		if dns, done := w.search(ask{base: top, scope: 2, controls: [][]byte{page(size, "", false)}}); len(dns) != 0 || done.code != 53 || done.cookie != nil {
			t.Errorf("pages of %d: %q, %v", size, dns, done)
		}
	}
}

func TestACookieIsForItsConnectionAndSearchOnly(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	a := ask{base: top, scope: 2, filter: or(equal("mail", "bob@b.direct.test"), equal("mail", "b.direct.test"))}
	begin := func(w wire) string {
		t.Helper()
		a := a
		a.controls = [][]byte{page(1, "", true)}
		_, done := w.search(a)
		if done.cookie == nil || len(*done.cookie) != 8 {
			t.Fatalf("%v, cookie %v", done, done.cookie)
		}
		return *done.cookie
	}
	with := func(w wire, a ask, size int64, cookie string) ([]string, message) {
		a.controls = [][]byte{page(size, cookie, false)}
		return w.search(a)
	}
	w, other := dial(t, addr), dial(t, addr)
	cookie := begin(w)
	if begin(other) == cookie {
		t.Error("two searches have one cookie")
	}
	if dns, done := with(other, a, 1, cookie); len(dns) != 0 || done.code != 53 {
		t.Errorf("on another connection: %q, %v", dns, done)
	}
	elsewhere := a
	elsewhere.base = ""
	if dns, done := with(w, elsewhere, 1, cookie); len(dns) != 0 || done.code != 53 {
		t.Errorf("for another search: %q, %v", dns, done)
	}
	cookie = begin(w)
	if dns, done := with(w, a, 1, cookie); len(dns) != 1 || done.code != 0 || *done.cookie != "" {
		t.Errorf("the second page: %q, %v", dns, done)
	}
	if dns, done := with(w, a, 1, cookie); len(dns) != 0 || done.code != 53 {
		t.Errorf("the same cookie twice: %q, %v", dns, done)
	}
	cookie = begin(w)
	if dns, done := with(w, a, 0, cookie); len(dns) != 0 || done.code != 0 || done.cookie == nil || *done.cookie != "" {
		t.Errorf("giving up: %q, %v", dns, done) // RFC 2696 §3
	}
	if _, done := with(w, a, 1, cookie); done.code != 53 {
		t.Errorf("after giving up: %v", done)
	}
	for _, bad := range []string{"x", "12345678", cookie + "x"} {
		begin(w)
		if dns, done := with(w, a, 1, bad); len(dns) != 0 || done.code != 53 {
			t.Errorf("cookie %q: %q, %v", bad, dns, done)
		}
	}
	w.alive()
}

// crowd is a directory of n persons and the names of its entries.
func crowd(t testing.TB, n int) (tr *dit.Tree, names []string) {
	names = []string{top}
	var owners []string
	for i := range n {
		owners = append(owners, fmt.Sprintf("u%04d@b.direct.test=c", i))
		names = append(names, fmt.Sprintf("uid=u%04d,%s", i, top))
	}
	return published(t, dit.Options{Anonymous: dit.AnonymousList}, owners...), names
}

// TestPagesLeadThroughAList goes beyond the size limit of one answer: every
// entry comes once.
func TestPagesLeadThroughAList(t *testing.T) {
	tr, names := crowd(t, 1201)
	addr := start(t, tr, ldapserver.Options{})
	for _, size := range []int64{7, 601, 1202, 100000} {
		var got []string
		pages := dial(t, addr).pages(ask{base: top, scope: 2}, size)
		for i, list := range pages {
			if most := int(min(size, 500)); len(list) > most || len(list) < most && i < len(pages)-1 {
				t.Errorf("size %d: page %d of %d has %d entries", size, i, len(pages), len(list))
			}
			got = append(got, list...)
		}
		slices.Sort(got)
		if !slices.Equal(got, slices.Sorted(slices.Values(names))) {
			t.Errorf("size %d: %d entries, want %d", size, len(got), len(names))
		}
	}
	w := dial(t, addr)
	if dns, done := w.search(ask{base: top, scope: 2, controls: [][]byte{page(0, "", true)}}); len(dns) != 0 || done.code != 0 || *done.cookie != "" {
		t.Errorf("a page of nothing: %q, %v", dns, done)
	}
	// The client's own limit is one for all pages.
	_, done := w.search(ask{base: top, scope: 2, size: 9, controls: [][]byte{page(7, "", true)}})
	dns, done := w.search(ask{base: top, scope: 2, size: 9, controls: [][]byte{page(7, *done.cookie, true)}})
	if len(dns) != 2 || done.code != 4 {
		t.Errorf("second page of a search for nine: %d, %v", len(dns), done)
	}
}

// TestPagesOutliveAChange changes the tree between two pages: what is there
// before and after comes once.
func TestPagesOutliveAChange(t *testing.T) {
	var owners []string
	for i := range 300 {
		owners = append(owners, fmt.Sprintf("u%04d@b.direct.test=c", i))
	}
	o := dit.Options{Anonymous: dit.AnonymousList}
	var current atomic.Pointer[dit.Tree]
	current.Store(published(t, o, owners...))
	addr, _ := startWith(t, current.Load, ldapserver.Options{})
	w := dial(t, addr)
	seen := map[string]int{}
	cookie := ""
	for n := 0; n == 0 || cookie != ""; n++ {
		dns, done := w.search(ask{base: top, scope: 1, controls: [][]byte{page(20, cookie, true)}})
		if done.code != 0 {
			t.Fatal(done)
		}
		for _, dn := range dns {
			seen[dn]++
		}
		cookie = *done.cookie
		changed := append(slices.Clone(owners[:290]), fmt.Sprintf("new%d@b.direct.test=c", n))
		current.Store(published(t, o, append(changed, "first@a.direct.test=c")...))
	}
	for i := range 290 {
		if dn := fmt.Sprintf("uid=u%04d,%s", i, top); seen[dn] != 1 {
			t.Errorf("%s came %d times", dn, seen[dn])
		}
	}
}

func TestPagesByGoLDAP(t *testing.T) {
	tr, names := crowd(t, 1000)
	c := client(t, start(t, tr, ldapserver.Options{}))
	r, err := c.SearchWithPaging(&ldap.SearchRequest{BaseDN: "", Scope: ldap.ScopeWholeSubtree, Filter: "(objectClass=*)", Attributes: []string{"1.1"}}, 150)
	if err != nil || len(r.Entries) != len(names) {
		t.Fatalf("%v, %v", r, err)
	}
}

// TestListingIsForThoseWhoMay asks the same tree from two addresses.
func TestListingIsForThoseWhoMay(t *testing.T) {
	tr, names := crowd(t, 20)
	for name, c := range map[string]struct {
		allow   []netip.Prefix
		listing bool
	}{
		"nobody":      {[]netip.Prefix{}, false},
		"others":      {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.2/32")}, false},
		"this client": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, true},
	} {
		w := dial(t, start(t, tr, ldapserver.Options{ListAllow: c.allow}))
		dns, done := w.search(ask{base: top, scope: 2})
		if c.listing && (done.code != 0 || len(dns) != len(names)) || !c.listing && (done.code != 53 || len(dns) != 0) {
			t.Errorf("%s: %d entries, %v", name, len(dns), done)
		}
		if dns, done := w.search(ask{base: top, scope: 2, filter: equal("mail", "u0007@b.direct.test")}); done.code != 0 || len(dns) != 1 {
			t.Errorf("%s, by name: %q, %v", name, dns, done)
		}
	}
}
