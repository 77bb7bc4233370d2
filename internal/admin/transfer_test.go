package admin_test

import (
	"strings"
	"testing"

	"directnode/internal/admin"
)

// TestOrdersAboutOtherServersSayWhatIsWrong: each refusal has its id, and no
// secret stands in any.
func TestOrdersAboutOtherServersSayWhatIsWrong(t *testing.T) {
	n := newNode(t)
	if _, err := n.AddDomain(t.Context(), admin.DomainRequest{Domain: "direct.example.org"}); err != nil {
		t.Fatal(err)
	}
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
	if _, err := n.AddTSIGKey(t.Context(), admin.TSIGRequest{Name: "ns2.example", Secret: secret + "\n"}); err != nil {
		t.Fatal(err)
	}
	set := func(change func(*admin.TransferRequest)) error {
		req := admin.TransferRequest{Domain: "direct.example.org"}
		change(&req)
		_, err := n.SetTransfer(t.Context(), req)
		return err
	}
	add := func(name, algorithm, secret string) error {
		_, err := n.AddTSIGKey(t.Context(), admin.TSIGRequest{Name: name, Algorithm: algorithm, Secret: secret})
		return err
	}
	list := func(texts ...string) *[]string { return &texts }
	for what, c := range map[string]struct {
		err error
		id  string
	}{
		"not Base64":        {add("x.example", "", secret+"!"), "DN-TSIG-001"},
		"cut Base64":        {add("x.example", "", secret[:7]), "DN-TSIG-001"},
		"another algorithm": {add("x.example", "hmac-sha1", secret), "DN-STORE-004"},
		"key twice":         {add("ns2.example", "", secret), "DN-STORE-004"},
		"unknown key":       {set(func(r *admin.TransferRequest) { r.Allow = list("x.example") }), "DN-STORE-004"},
		"no network":        {set(func(r *admin.TransferRequest) { r.Allow = list("ns2.example@x") }), "DN-TRANSFER-001"},
		"network with bits": {set(func(r *admin.TransferRequest) { r.Allow = list("ns2.example@192.0.2.1/24") }), "DN-STORE-004"},
		"a host name":       {set(func(r *admin.TransferRequest) { r.Notify = list("ns2.example") }), "DN-TRANSFER-001"},
		"port of nobody":    {set(func(r *admin.TransferRequest) { r.Notify = list("192.0.2.1:0") }), "DN-STORE-004"},
		"primary, no key":   {set(func(r *admin.TransferRequest) { r.Primaries = list("192.0.2.1") }), "DN-STORE-004"},
	} {
		if c.err == nil {
			t.Errorf("%s: taken", what)
			continue
		}
		if e := asError(t, c.err); e.ID != c.id || strings.Contains(e.Error(), secret[:6]) {
			t.Errorf("%s: %v, want %s", what, e, c.id)
		}
	}
	if err := set(func(r *admin.TransferRequest) {
		r.Allow, r.Notify, r.Primaries = list("NS2.example.@2001:db8::/32", "ns2.example"), list("2001:db8::1", "192.0.2.1:5353=ns2.example"), list("192.0.2.9=ns2.example")
	}); err != nil {
		t.Fatal(err)
	}
	if err := set(func(r *admin.TransferRequest) { r.Notify = list() }); err != nil {
		t.Fatal(err)
	}
	d, err := n.ShowDomain(t.Context(), admin.DomainRequest{Domain: "direct.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	x := d.Transfer
	if strings.Join(x.Allow, " ") != "ns2.example@2001:db8::/32 ns2.example" || len(x.Notify) != 0 || strings.Join(x.Primaries, " ") != "192.0.2.9:53=ns2.example" {
		t.Errorf("%+v", x)
	}
	if x.Secondary == nil || x.Secondary.State != "waiting" {
		t.Errorf("%+v", x.Secondary)
	}
	k, err := n.ShowTSIGKey(t.Context(), admin.TSIGRequest{Name: "NS2.example.", Show: true})
	if err != nil || k.Secret != secret || len(k.Domains) != 1 {
		t.Errorf("%+v %v", k, err)
	}
	if k, err := n.ShowTSIGKey(t.Context(), admin.TSIGRequest{Name: "ns2.example"}); err != nil || k.Secret != "" {
		t.Errorf("the secret is shown to who did not ask for it: %+v %v", k, err)
	}
}
