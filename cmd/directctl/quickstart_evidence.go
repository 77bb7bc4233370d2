package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

// deliveredFile gives the message in Bob's Maildir, "" while there is none.
func (w *world) deliveredFile() string {
	found, _ := filepath.Glob(filepath.Join(w.b.dir, "mail", bob, "new", "*"))
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// collect copies what crossed and what arrived into the evidence folder, and
// opens and verifies it once more, independently of both nodes' stores.
func (w *world) collect(sent sentMail) error {
	delivered, err := os.ReadFile(w.deliveredFile())
	if err != nil {
		return err
	}
	if _, body, ok := bytes.Cut(delivered, []byte("\r\n")); !ok || !bytes.Equal(body, sent.text) {
		return errors.New("what was delivered is not what was submitted")
	}
	wire, message, err := w.openArchived(w.b, alice, bob)
	if err != nil {
		return fmt.Errorf("the message as it crossed: %w", err)
	}
	if !bytes.Equal(message, sent.text) {
		return errors.New("what crossed is not what was submitted")
	}
	mdnWire, mdn, err := w.openArchived(w.a, bob, alice)
	if err != nil {
		return fmt.Errorf("the notification as it crossed: %w", err)
	}
	n, err := report.Parse(mdn)
	if err != nil {
		return fmt.Errorf("the notification: %w", err)
	}
	if n.Disposition != report.Processed || n.OriginalMessageID != sent.messageID {
		return fmt.Errorf("the notification says %q about %s", n.Disposition, n.OriginalMessageID)
	}
	mdn = append([]byte("Return-Path: <"+bob+">\r\n"), mdn...)
	for name, content := range map[string][]byte{"wire.eml": wire, "delivered.eml": delivered, "mdn-wire.eml": mdnWire, "mdn.eml": mdn} {
		if err := os.WriteFile(w.evidence(name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// openArchived opens the one message that a node received, with the
// recipient's key, and demands that the sender signed it and that the
// quickstart's root vouches for him.
func (w *world) openArchived(n *node, from, to string) (wire, message []byte, err error) {
	found, _ := filepath.Glob(filepath.Join(n.cfg.Path(n.cfg.Delivery.Archive), "*.eml"))
	if len(found) != 1 {
		return nil, nil, fmt.Errorf("%d messages in the archive of node %s, want one", len(found), n.name)
	}
	if wire, err = os.ReadFile(found[0]); err != nil {
		return nil, nil, err
	}
	user := map[string]string{alice: "alice", bob: "bob"}[to]
	pair, err := tls.LoadX509KeyPair(w.evidence(user+".crt.pem"), w.evidence(user+".key.pem"))
	if err != nil {
		return nil, nil, err
	}
	opened, err := smime.Open(wire, []cms.Decrypter{{Certificate: pair.Leaf, Key: pair.PrivateKey.(crypto.Decrypter)}})
	if err != nil {
		return nil, nil, err
	}
	verified, err := smime.Verify(opened, cms.VerifyPolicy{})
	if err != nil {
		return nil, nil, err
	}
	if err := w.trusted(from, verified); err != nil {
		return nil, nil, err
	}
	return wire, verified.Message(), nil
}

func (w *world) trusted(from string, v smime.Verified) error {
	sender, err := direct.ParseAddress(from)
	if err != nil {
		return err
	}
	anchors, err := readAnchors([]string{w.evidence("root.pem")})
	if err != nil {
		return err
	}
	q := trust.Question{Address: sender, Purpose: trust.Verify, Anchors: anchors, At: time.Now()}
	for _, s := range v.Signers() {
		q.Candidates = append(q.Candidates, s.Certificate.Raw)
	}
	if r := trust.Evaluate(q).Refusal(); r != nil {
		return r
	}
	if got, err := mail.ParseAddressList(v.Header().Get("From")); err != nil || len(got) != 1 || !got[0].Equal(sender) {
		return fmt.Errorf("the message is not from %s", from)
	}
	return nil
}
