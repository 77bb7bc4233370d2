package ldapserver_test

import (
	"testing"

	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// TestCancelComesTooLate sends a search and its cancellation together: the search
// is answered whole, and so is the cancellation (RFC 3909 §2.2).
func TestCancelComesTooLate(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	search := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}
	w.send(append(search.pdu(1), cancel(2, 1)...))
	if m := w.must(); m.id != 1 || m.tag != 4 {
		t.Errorf("%v, want the entry", m)
	}
	if m := w.must(); m.id != 1 || m.code != 0 {
		t.Errorf("%v, want the result", m)
	}
	if m := w.must(); m.id != 2 || m.code != 120 || m.name != "" || m.value != nil {
		t.Errorf("%v, want tooLate(120)", m)
	}
	w.send(bind(3, 3, "", ""), cancel(4, 3), cancel(5, 4), cancel(6, 17))
	for id, code := range []int64{3: 0, 4: 121, 5: 121, 6: 119} {
		if id < 3 {
			continue
		}
		if m := w.must(); m.id != int64(id) || m.code != code {
			t.Errorf("%v, want %d for %d", m, code, id)
		}
	}
	for id := range int64(17) {
		w.send(whoAmI(100 + id))
		w.must()
	}
	w.send(cancel(200, 100), cancel(201, 116))
	if m := w.must(); m.code != 119 {
		t.Errorf("%v: what was asked long ago is not known any more", m)
	}
	if m := w.must(); m.code != 120 {
		t.Errorf("%v, want tooLate(120)", m)
	}
}
