package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"directnode/internal/admin"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testnode"
	"directnode/sta/report"
)

// run runs a peer and gives its standard output.
func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testnode.Peer(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

// pem gives the base64 of a certificate without the PEM lines.
func pemBody(b []byte) string {
	var body strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "-----") {
			body.WriteString(strings.TrimSpace(line))
		}
	}
	return body.String()
}

// TestInterop holds a running node against programs that other people wrote.
func TestInterop(t *testing.T) {
	w := testnode.Quickstart(t)
	t.Run("dig and kdig read CERT records over TCP", func(t *testing.T) { interopDNS(t, w) })
	t.Run("ldapsearch reads certificates by the three filters", func(t *testing.T) { interopLDAP(t, w) })
	t.Run("swaks submits and bob has it", func(t *testing.T) { interopSubmission(t, w) })
	t.Run("openssl opens what crossed", func(t *testing.T) { interopOpen(t, w) })
	t.Run("openssl seals, swaks delivers, the notification comes back", func(t *testing.T) { interopSeal(t, w) })
	t.Run("a signature without its certificate is not believed", func(t *testing.T) { interopNoCertificate(t, w) })
}

func interopDNS(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-5.3-a", "AS-5.3-b", "AS-5.3-c", "AS-5.1-a")
	want := pemBody(w.Evidence("alice.crt.pem"))
	host, port, _ := net.SplitHostPort(w.A.Config.DNS.Listen[0])
	out := run(t, nil, "dig", "@"+host, "-p", port, "+tcp", "+short", "CERT", "alice.a.direct.test")
	fields := strings.Fields(string(out))
	if len(fields) < 4 || fields[0] != "PKIX" && fields[0] != "1" || strings.Join(fields[3:], "") != want {
		t.Errorf("dig: %s", out)
	}
	// Over UDP the certificate is announced to a client that has not been here,
	// and sent to one that shows the cookie it got.
	out = run(t, nil, "dig", "@"+host, "-p", port, "+notcp", "+ignore", "CERT", "ALICE.A.direct.TEST")
	if !strings.Contains(string(out), " tc") || !strings.Contains(string(out), "ALICE.A.direct.TEST.") {
		t.Errorf("dig over UDP shows no TC or another case: %s", out)
	}
	if _, cookie, ok := strings.Cut(string(out), "; COOKIE: "); !ok {
		t.Errorf("dig over UDP got no cookie: %s", out)
	} else if cookie, _, ok = strings.Cut(cookie, " (good)"); !ok {
		t.Errorf("dig does not like its cookie: %s", out)
	} else {
		out = run(t, nil, "dig", "@"+host, "-p", port, "+notcp", "+ignore", "+short", "+cookie="+cookie, "CERT", "alice.a.direct.test")
		if fields := strings.Fields(string(out)); len(fields) < 4 || strings.Join(fields[3:], "") != want {
			t.Errorf("dig over UDP with a cookie: %s", out)
		}
	}
	out = run(t, nil, "kdig", "@"+host, "-p", port, "+tcp", "+short", "CERT", "alice.a.direct.test")
	if strings.Join(strings.Fields(string(out))[3:], "") != want {
		t.Errorf("kdig: %s", out)
	}
	out = run(t, nil, "kdig", "@"+host, "-p", port, "CERT", "nobody.a.direct.test")
	if !strings.Contains(string(out), "NXDOMAIN") || !strings.Contains(string(out), "SOA") {
		t.Errorf("kdig of a name that is not there: %s", out)
	}
	out = run(t, nil, "dig", "@"+host, "-p", port, "TXT", "alice.a.direct.test")
	if !strings.Contains(string(out), "NOERROR") || !strings.Contains(string(out), "SOA") {
		t.Errorf("dig of a type that is not there: %s", out)
	}
}

func interopLDAP(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-1.4-h")
	want := pemBody(w.Evidence("bob.crt.pem"))
	url := "ldap://" + w.B.Config.LDAP.Listen[0]
	out := run(t, nil, "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-b", "", "-s", "base", "objectclass=*", "namingContexts")
	if !strings.Contains(string(out), "namingContexts: dc=b,dc=direct,dc=test") {
		t.Errorf("root DSE: %s", out)
	}
	for _, filter := range []string{
		"(mail=bob@b.direct.test)",
		"(&(mail=BOB@b.direct.test)(|(userCertificate;binary=*)(userCertificate=*)))",
		"(|(mail=bob@b.direct.test)(mail=b.direct.test))",
	} {
		for _, base := range []string{"dc=b,dc=direct,dc=test", ""} {
			out := run(t, nil, "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-b", base, filter, "userCertificate;binary")
			if !strings.Contains(string(out), "userCertificate;binary:: "+want) {
				t.Errorf("base %q filter %s: %s", base, filter, out)
			}
		}
	}
	out = run(t, nil, "ldapsearch", "-x", "-LLL", "-H", url, "-b", "dc=b,dc=direct,dc=test", "(mail=nobody@b.direct.test)")
	if strings.Contains(string(out), "dn:") {
		t.Errorf("an unknown address gave %s", out)
	}
}

// send makes swaks deliver a message file and fails unless the server took it.
func send(t *testing.T, server, from, to string, message []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "m.eml")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "swaks", "--server", server, "--from", from, "--to", to, "--data", "@"+file, "--hide-all")
}

func interopSubmission(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-2.4-a", "AS-2.4-b", "AS-3.2-a")
	id := "swaks-1@a.direct.test"
	send(t, w.A.Config.SMTP.Submission[0], w.Alice.String(), w.Bob.String(), testnode.Compose(w.Alice, w.Bob, id, "from swaks\r\n.\r\nafter a dot"))
	testnode.Eventually(t, "the message is processed", func() bool {
		m := w.A.Message(id)
		return len(m.Recipients) == 1 && m.Recipients[0].State == "processed"
	})
	for _, text := range w.B.Mail(w.Bob) {
		if bytes.Contains(text, []byte("from swaks\r\n.\r\nafter a dot")) {
			return
		}
	}
	t.Error("bob has no such message")
}

// credentials writes a user's certificate and key and the root where openssl
// finds them.
func credentials(t *testing.T, w *testnode.World, user string) (cert, key, root string) {
	dir := filepath.Join(w.Dir, "evidence")
	return filepath.Join(dir, user+".crt.pem"), filepath.Join(dir, user+".key.pem"), filepath.Join(dir, "root.pem")
}

// opensslOpen decrypts and verifies with nothing of ours and gives the signed
// entity.
func opensslOpen(t *testing.T, w *testnode.World, user string, wire []byte) []byte {
	t.Helper()
	cert, key, root := credentials(t, w, user)
	entity := run(t, wire, "openssl", "cms", "-decrypt", "-recip", cert, "-inkey", key)
	return run(t, entity, "openssl", "cms", "-verify", "-CAfile", root)
}

// unwrap gives the message inside a message/rfc822 entity.
func unwrap(t *testing.T, entity []byte) []byte {
	t.Helper()
	h, body, err := mail.Split(entity)
	if err != nil {
		t.Fatal(err)
	}
	if media, _, err := mail.ParseContentType(h.Get("Content-Type")); err != nil || media != "message/rfc822" {
		t.Fatalf("the signed entity is %s, %v", media, err)
	}
	if body, err = mail.DecodeBody(h, body); err != nil {
		t.Fatal(err)
	}
	return body
}

func interopOpen(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-0.3-c", "AS-2.4-c", "AS-2.5.1-a", "AS-2.5.1-b", "AS-2.5.2-a", "AS-2.6-a", "AS-2.7-a", "AS-3.0-e", "AS-3.0-f")
	if got := unwrap(t, opensslOpen(t, w, "bob", w.Evidence("wire.eml"))); !bytes.Equal(got, w.Evidence("submitted.eml")) {
		t.Errorf("openssl opened\n%q\nsubmitted was\n%q", got, w.Evidence("submitted.eml"))
	}
	n, err := report.Parse(unwrap(t, opensslOpen(t, w, "alice", w.Evidence("mdn-wire.eml"))))
	if err != nil || n.Disposition != report.Processed {
		t.Errorf("notification: %+v, %v", n, err)
	}
	noCanary(t, w)
}

// noCanary looks for words of the message in everything that both nodes keep,
// Bob's mailbox and the evidence that holds it on purpose excepted.
func noCanary(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-2.4-i")
	for _, word := range []string{"zugunruhe", "Discharge summary"} {
		if bytes.Contains(w.Evidence("wire.eml"), []byte(word)) {
			t.Errorf("%q crossed in clear", word)
		}
	}
	err := filepath.WalkDir(w.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/evidence/") || strings.Contains(path, "/mail/bob@") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range []string{"zugunruhe", "Discharge summary"} {
			if bytes.Contains(b, []byte(word)) {
				t.Errorf("%q stands in %s", word, path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// interopSeal is a peer made of openssl and swaks that writes to Bob as Alice.
func interopSeal(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-2.4-d", "AS-2.5.1-c", "AS-2.6-b", "AS-3.2-b", "AS-3.2-f")
	for i, transport := range [][]string{
		{"-keyopt", "rsa_padding_mode:pkcs1"},
		{"-keyopt", "rsa_padding_mode:oaep"},
		{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"},
	} {
		id := fmt.Sprintf("openssl-%d@a.direct.test", i)
		send(t, w.B.Config.SMTP.Listen[0], w.Alice.String(), w.Bob.String(), opensslSeal(t, w, id, nil, transport))
		testnode.Eventually(t, "delivered: "+id, func() bool { return has(w.B, w.Bob, id) })
		testnode.Eventually(t, "a notification about "+id+" that openssl opens", func() bool { return notified(t, w, id) })
	}
}

// opensslSeal makes a message from Alice to Bob with nothing of ours.
func opensslSeal(t *testing.T, w *testnode.World, id string, sign, encrypt []string) []byte {
	t.Helper()
	cert, key, _ := credentials(t, w, "alice")
	recipient, _, _ := credentials(t, w, "bob")
	message := testnode.Compose(w.Alice, w.Bob, id, "sealed by openssl")
	entity := append([]byte("Content-Type: message/rfc822\r\n\r\n"), message...)
	signed := run(t, entity, "openssl", append([]string{"cms", "-sign", "-signer", cert, "-inkey", key, "-md", "sha256", "-crlfeol", "-binary"}, sign...)...)
	sealed := run(t, signed, "openssl", append([]string{"cms", "-encrypt", "-aes-128-cbc", "-recip", recipient}, encrypt...)...)
	outer := append([]byte("From: "+w.Alice.String()+"\nTo: "+w.Bob.String()+"\nMessage-ID: <"+id+">\n"), sealed...)
	return mail.Canonical(outer)
}

// interopNoCertificate sends what verifies only with a certificate that the
// message does not bring.
func interopNoCertificate(t *testing.T, w *testnode.World) {
	spec.Covers(t, "AS-4.2.2-d", "AS-3.0-j")
	id := "nocerts@a.direct.test"
	send(t, w.B.Config.SMTP.Listen[0], w.Alice.String(), w.Bob.String(), opensslSeal(t, w, id, []string{"-nocerts"}, nil))
	testnode.Eventually(t, "the message is held with the reason", func() bool {
		var list []admin.QueueItem
		err := w.B.Client.Do(context.Background(), "queue.list", struct{}{}, &list)
		return err == nil && len(list) == 1 && list[0].State == "held" && strings.Contains(list[0].LastError, "certificate")
	})
	if has(w.B, w.Bob, id) || notified(t, w, id) {
		t.Error("it was delivered or answered")
	}
}

// notified looks through what node A received for a notification about id.
func notified(t *testing.T, w *testnode.World, id string) bool {
	for _, f := range archived(t, w.A) {
		wire, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		n, err := report.Parse(unwrap(t, opensslOpen(t, w, "alice", wire)))
		if err == nil && n.OriginalMessageID == id && n.Disposition == report.Processed {
			return true
		}
	}
	return false
}

// TestNodeRefusals shows what a node refuses and how it says so.
func TestNodeRefusals(t *testing.T) {
	w := testnode.Quickstart(t)
	t.Run("an unencrypted message at the MX port is not stored", func(t *testing.T) {
		spec.Covers(t, "AS-2.4-b")
		b := &testnode.Node{Config: w.B.Config}
		b.Config.SMTP.Submission = b.Config.SMTP.Listen
		err := b.Submit(w.Alice, []directAddress{w.Bob}, testnode.Compose(w.Alice, w.Bob, "clear@a.direct.test", "in clear"))
		var reply *mail.Reply
		if !errors.As(err, &reply) || reply.Code != 550 {
			t.Fatalf("the reply was %v", err)
		}
		if !idle(w.B) {
			t.Error("something is in the queue")
		}
	})
	t.Run("a recipient without a certificate is refused with a reason", func(t *testing.T) {
		spec.Covers(t, "AS-4.3-a", "AS-2.3-a")
		nobody := mustAddress(t, "nobody@b.direct.test")
		err := w.A.Submit(w.Alice, []directAddress{nobody}, testnode.Compose(w.Alice, nobody, "nobody@a.direct.test", "x"))
		if err == nil || !strings.Contains(err.Error(), "no certificate") {
			t.Fatalf("the reply was %v", err)
		}
		if !idle(w.A) {
			t.Error("something is in the queue")
		}
		if m := w.A.Message("nobody@a.direct.test"); len(m.Recipients) != 1 || m.Recipients[0].State != "refused" {
			t.Errorf("the story says %+v", m)
		}
	})
	t.Run("one good and one bad recipient: one is sent, one reported", func(t *testing.T) {
		nobody := mustAddress(t, "nobody@b.direct.test")
		id := "both@a.direct.test"
		if err := w.A.Submit(w.Alice, []directAddress{w.Bob, nobody}, testnode.Compose(w.Alice, w.Bob, id, "x")); err != nil {
			t.Fatal(err)
		}
		testnode.Eventually(t, "bob has it and alice a report", func() bool {
			m := w.A.Message(id)
			if len(m.Recipients) != 2 || m.Recipients[0].State != "processed" || m.Recipients[1].State != "refused" {
				return false
			}
			for _, text := range w.A.Mail(w.Alice) {
				if n, err := report.Parse(text); err == nil && n.OriginalMessageID == id && n.Recipient.Equal(nobody) {
					return true
				}
			}
			return false
		})
	})
	t.Run("mail inside one domain never leaves the node", func(t *testing.T) {
		id := "self@a.direct.test"
		if err := w.A.Submit(w.Alice, []directAddress{w.Alice}, testnode.Compose(w.Alice, w.Alice, id, "to myself")); err != nil {
			t.Fatal(err)
		}
		testnode.Eventually(t, "alice has it and its notification counted", func() bool {
			m := w.A.Message(id)
			return len(m.Recipients) == 1 && m.Recipients[0].State == "processed"
		})
	})
	t.Run("imports name what they refuse and take the rest", func(t *testing.T) { refusedImports(t, w) })
}

func refusedImports(t *testing.T, w *testnode.World) {
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"alice.crt.pem": w.Evidence("alice.crt.pem"), "lonely.key.pem": w.Evidence("bob.key.pem"),
		"bob.crt.pem": w.Evidence("bob.crt.pem"), "root.pem": w.Evidence("root.pem"), "text.txt": []byte("hello\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty := t.TempDir()
	out, code := w.A.Ctl("cert", "import", dir, empty, "-o", "json")
	if code != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	for _, want := range []string{"lonely.key.pem", "in no domain of this node", "text.txt", "root.pem", empty, `"taken": 1`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not named:\n%s", want, out)
		}
	}
	var list []admin.Certificate
	if err := w.A.Client.Do(context.Background(), "cert.list", admin.CertificateQuery{}, &list); err != nil || len(list) != 1 {
		t.Errorf("certificates %+v, %v", list, err)
	}
}
