package admin_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/store"
)

func TestADomainIsSignedRolledAndUnsigned(t *testing.T) {
	n := newNode(t)
	ctx := t.Context()
	req := admin.DNSSECRequest{Domain: "a.direct.test"}
	order := func(name string, req admin.DNSSECRequest) (admin.DNSSEC, *admin.Error) {
		t.Helper()
		var ans admin.DNSSEC
		err := n.client.Do(ctx, name, req, &ans)
		var e *admin.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		return ans, e
	}
	for _, name := range []string{"dnssec.roll", "dnssec.ds-seen", "dnssec.disable"} {
		if _, e := order(name, req); e == nil || e.ID != "DN-DNSSEC-002" {
			t.Errorf("%s of a domain that is not signed: %v", name, e)
		}
	}
	for _, bad := range []admin.DNSSECRequest{{Domain: req.Domain, Algorithm: "rsasha1"}, {Domain: req.Domain, Denial: "nsec"}} {
		if _, e := order("dnssec.enable", bad); e == nil || e.Code != admin.CodeUsage {
			t.Errorf("%+v: %v", bad, e)
		}
	}
	is, e := order("dnssec.enable", req)
	if e != nil || !is.Signed || len(is.Keys) != 1 || is.Keys[0].State != "published" || !is.Keys[0].Signs || len(is.DS) != 0 || len(is.Next) != 1 {
		t.Fatalf("%+v, %v", is, e)
	}
	if _, e := order("dnssec.ds-seen", req); e == nil || e.ID != "DN-DNSSEC-004" {
		t.Errorf("ds-seen before the key is ready: %v", e)
	}
	if _, e := order("dnssec.enable", admin.DNSSECRequest{Domain: req.Domain, Algorithm: "ed25519"}); e == nil || e.ID != "DN-DNSSEC-003" {
		t.Errorf("another algorithm: %v", e)
	}
	if is, e = order("dnssec.enable", admin.DNSSECRequest{Domain: req.Domain, Denial: "nsec3"}); e != nil || is.Denial != "nsec3" {
		t.Errorf("another denial: %+v, %v", is, e)
	}
	later := time.Now().AddDate(0, 0, 3)
	if err := n.AdvanceKeys(ctx, later); err != nil {
		t.Fatal(err)
	}
	shown, err := n.ShowDomain(ctx, admin.DomainRequest{Domain: req.Domain})
	if err != nil || !strings.Contains(strings.Join(shown.Delegation, "\n"), " DS ") || len(shown.DNSSEC) != 1 {
		t.Errorf("%+v, %v", shown, err)
	}
	if is, e = order("dnssec.ds-seen", req); e != nil || is.Keys[0].State != "active" {
		t.Fatalf("%+v, %v", is, e)
	}
	if is, e = order("dnssec.roll", req); e != nil || len(is.Keys) != 2 {
		t.Fatalf("%+v, %v", is, e)
	}
	if is, e = order("dnssec.disable", req); e != nil || !is.Signed || !strings.Contains(is.Next[0], "RFC 8078") {
		t.Fatalf("%+v, %v", is, e)
	}
	if is, e = order("dnssec.disable", admin.DNSSECRequest{Domain: req.Domain, DSGone: true, DSTTL: "1h"}); e != nil || !is.Signed {
		t.Fatalf("%+v, %v", is, e)
	}
	if err := n.AdvanceKeys(ctx, time.Now().Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if is, e = order("dnssec.status", req); e != nil || is.Signed {
		t.Fatalf("%+v, %v", is, e)
	}
}

// TestOneDomainKeepsNoOtherFromItsKeys: the keys of a domain whose change is
// refused stay as they are, and those of the domains after it are advanced.
func TestOneDomainKeepsNoOtherFromItsKeys(t *testing.T) {
	refused := errors.New("refused")
	var bad direct.Domain
	n := newNode(t, func(o *store.Options) {
		build := o.Prepare
		o.Prepare = func(next *store.View) (func(), error) {
			if data := next.Domain(bad); !bad.IsZero() && data.Signing != nil && data.Signing.Keys[0].State != store.KeyPublished {
				return nil, refused
			}
			return build(next)
		}
	})
	var err error
	if bad, err = direct.ParseDomain("a.direct.test"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a.direct.test", "b.direct.test"} {
		if _, err := n.EnableDNSSEC(t.Context(), admin.DNSSECRequest{Domain: d}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.AdvanceKeys(t.Context(), time.Now().AddDate(0, 0, 3)); !errors.Is(err, refused) || !strings.Contains(err.Error(), bad.String()) {
		t.Errorf("%v", err)
	}
	for d, want := range map[string]string{"a.direct.test": "published", "b.direct.test": "ready"} {
		if is, err := n.DNSSECStatus(t.Context(), admin.DNSSECRequest{Domain: d}); err != nil || is.Keys[0].State != want {
			t.Errorf("%s: %+v, %v", d, is, err)
		}
	}
}
