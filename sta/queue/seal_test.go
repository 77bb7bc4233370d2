package queue_test

import (
	"crypto/x509"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// sealed makes a message as the agent would: signed, sealed for certificates
// that were judged. The queue takes nothing else.
func sealed(t testing.TB, messageID, from string, to ...string) smime.Sealed {
	t.Helper()
	root := testpki.New(t).Root("root")
	sender := root.Leaf(from, testpki.Address(from))
	message := "From: " + from + "\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <" + messageID + ">\r\n\r\nHello.\r\n"
	signed, err := smime.Sign([]byte(message), []cms.Signer{{Certificate: sender.Cert, Key: sender.Key}}, testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	var trusted []trust.Trusted
	for _, rcpt := range to {
		leaf := root.Leaf(rcpt, testpki.Address(rcpt))
		j := trust.Evaluate(trust.Question{
			Address: addr(t, rcpt), Purpose: trust.Encrypt, Candidates: [][]byte{leaf.DER},
			Anchors: []*x509.Certificate{root.Cert}, At: testpki.Now(),
		})
		if r := j.Refusal(); r != nil {
			t.Fatal(r)
		}
		trusted = append(trusted, j.Trusted()...)
	}
	s, err := smime.Seal(signed, addr(t, from), trusted, smime.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
