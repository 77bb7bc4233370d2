package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"directnode/internal/admin"
	"directnode/internal/spec"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
)

// TestCapabilities shows the five capabilities of the synopsis on two whole
// nodes.
func TestCapabilities(t *testing.T) {
	w := testnode.Quickstart(t)
	t.Run("published by DNS only or by LDAP only, both are found and get mail", func(t *testing.T) {
		spec.Covers(t, "AS-0.3-d", "AS-0.3-f", "AS-2.3-b", "AS-2.3-c")
		exchange(t, w, "dns-and-ldap", w.Alice, w.Bob)
	})
	t.Run("address-bound and domain-bound identities accept each other", func(t *testing.T) {
		spec.Covers(t, "AS-0.3-b", "AS-1.4-b", "AS-4.1.2-a")
		organization(t, w)
		exchange(t, w, "organization", w.Alice, mustAddress(t, "carol@b.direct.test"))
	})
	t.Run("without the anchor nothing is delivered or said, with it all is", func(t *testing.T) {
		spec.Covers(t, "AS-0.3-e", "AS-3.0-j", "AS-4.2.3-a", "AS-4.2.2-c")
		withoutAnchor(t, w)
	})
	t.Run("a name that is not fully qualified is no domain", func(t *testing.T) {
		spec.Covers(t, "AS-1.1-c")
		for _, name := range []string{"clinic", "localhost", "clinic."} {
			if out, code := w.A.Ctl("domain", "add", name); code != 2 || !strings.Contains(out, "not fully qualified") {
				t.Errorf("domain add %s: exit %d\n%s", name, code, out)
			}
		}
		if out, code := w.A.Ctl("domain", "add", "Direct.Clinic.Test."); code != 0 || !strings.Contains(out, "direct.clinic.test. 3600 IN SOA") {
			t.Errorf("exit %d\n%s", code, out)
		}
		if out, code := w.A.Ctl("domain", "remove", "direct.clinic.test"); code != 0 {
			t.Errorf("exit %d\n%s", code, out)
		}
	})
}

// exchange sends a message from alice at A and one back from whom at B; each
// must be delivered and notified.
func exchange(t *testing.T, w *testnode.World, id string, alice, other directAddress) {
	t.Helper()
	for _, way := range []struct {
		from     *testnode.Node
		to       *testnode.Node
		sender   directAddress
		receiver directAddress
		id       string
	}{
		{w.A, w.B, alice, other, id + "@a.direct.test"},
		{w.B, w.A, other, alice, id + "@b.direct.test"},
	} {
		if err := way.from.Submit(way.sender, []directAddress{way.receiver}, testnode.Compose(way.sender, way.receiver, way.id, "hello")); err != nil {
			t.Fatalf("%s to %s: %v", way.sender, way.receiver, err)
		}
		testnode.Eventually(t, way.id+" is processed", func() bool {
			m := way.from.Message(way.id)
			return len(m.Recipients) == 1 && m.Recipients[0].State == "processed"
		})
		if !has(way.to, way.receiver, way.id) {
			t.Errorf("%s has no %s", way.receiver, way.id)
		}
	}
}

func has(n *testnode.Node, rcpt directAddress, id string) bool {
	for _, text := range n.Mail(rcpt) {
		if bytes.Contains(text, []byte("Message-ID: <"+id+">")) {
			return true
		}
	}
	return false
}

// organization gives B an organizational certificate of a root of its own,
// which both nodes trust.
func organization(t *testing.T, w *testnode.World) {
	t.Helper()
	root := testpki.New(t).Root("Organizations")
	leaf := root.Leaf("b.direct.test", testpki.Domain("b.direct.test"))
	dir := t.TempDir()
	for name, content := range map[string][]byte{"root.pem": root.CertPEM(), "org.crt.pem": leaf.CertPEM(), "org.key.pem": leaf.KeyPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, order := range []struct {
		node *testnode.Node
		args []string
	}{
		{w.A, []string{"anchor", "add", "--domain", "a.direct.test", filepath.Join(dir, "root.pem")}},
		{w.B, []string{"anchor", "add", "--domain", "b.direct.test", filepath.Join(dir, "root.pem")}},
		{w.B, []string{"cert", "import", filepath.Join(dir, "org.crt.pem"), filepath.Join(dir, "org.key.pem"), "--publish", "ldap"}},
	} {
		if out, code := order.node.Ctl(order.args...); code != 0 {
			t.Fatalf("%v: exit %d\n%s", order.args, code, out)
		}
	}
}

// withoutAnchor takes B's trust in alice's issuer away, shows that her message
// is held in silence, and gives it back.
func withoutAnchor(t *testing.T, w *testnode.World) {
	root := filepath.Join(w.Dir, "evidence", "root.pem")
	var anchors []admin.Anchor
	if err := w.B.Client.Do(context.Background(), "anchor.list", admin.AnchorRequest{Domain: "b.direct.test"}, &anchors); err != nil {
		t.Fatal(err)
	}
	for _, a := range anchors {
		if out, code := w.B.Ctl("anchor", "remove", "--domain", "b.direct.test", a.SHA256); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
	}
	id := "untrusted@a.direct.test"
	received := len(archived(t, w.A))
	if err := w.A.Submit(w.Alice, []directAddress{w.Bob}, testnode.Compose(w.Alice, w.Bob, id, "hello")); err != nil {
		t.Fatal(err)
	}
	var held []admin.QueueItem
	testnode.Eventually(t, "B holds the message", func() bool {
		held = nil
		return w.B.Client.Do(context.Background(), "queue.list", struct{}{}, &held) == nil && len(held) == 1 && held[0].State == "held"
	})
	if has(w.B, w.Bob, id) || w.A.Message(id).Recipients[0].State != "sent" || len(archived(t, w.A)) != received {
		t.Error("something was delivered, or said to the sender")
	}
	if out, code := w.B.Ctl("anchor", "add", "--domain", "b.direct.test", root); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if out, code := w.B.Ctl("queue", "retry", held[0].ID); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	testnode.Eventually(t, "with the anchor the message is processed", func() bool { return w.A.Message(id).Recipients[0].State == "processed" })
	if !has(w.B, w.Bob, id) {
		t.Error("bob has no message")
	}
}

// archived lists what a node received.
func archived(t *testing.T, n *testnode.Node) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.Config.Path(n.Config.Delivery.Archive), "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
