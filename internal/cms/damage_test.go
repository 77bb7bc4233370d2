package cms_test

import (
	"bytes"
	"testing"

	"directnode/internal/cms"
)

// TestEveryCutIsNoticed parses every beginning of a message: a structure that is cut is never taken.
func TestEveryCutIsNoticed(t *testing.T) {
	for _, file := range []string{"signed-two.der", "signed-opaque-ber.der", "enveloped-mixed.der", "enveloped-ber.der"} {
		whole := fixture(t, file)
		for n := range whole {
			if s, err := cms.ParseSignedData(whole[:n], cms.Limits{}); err == nil || s != nil {
				t.Fatalf("%s cut to %d octets parses as SignedData", file, n)
			}
			if e, err := cms.ParseEnvelopedData(whole[:n], cms.Limits{}); err == nil || e != nil {
				t.Fatalf("%s cut to %d octets parses as EnvelopedData", file, n)
			}
		}
	}
}

func TestOctetsBehindTheStructureAreIgnored(t *testing.T) {
	content := fixture(t, "content.txt")
	padded := append(fixture(t, "signed-sha256.der"), "\r\n"...)
	if r := verifyOne(t, padded, content, cms.VerifyPolicy{}); r.Err != nil {
		t.Error(r.Err)
	}
	padded = append(fixture(t, "enveloped-ber.der"), 0, 0, 0)
	if got, err := decrypt(t, padded, decrypter(fixturePair(t, "alice"))); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestNoDamageGivesTheSignatureToAnotherContent flips one bit of each octet of a signature: it is refused, or what was flipped
// says nothing (versions, lists that only announce, unsigned parts) and the verdict stands for the same content.
func TestNoDamageGivesTheSignatureToAnotherContent(t *testing.T) {
	content := fixture(t, "content.txt")
	whole := fixture(t, "signed-sha256.der")
	other := append(bytes.Clone(content), '.')
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		s, err := cms.ParseSignedData(damaged, cms.Limits{})
		if err != nil {
			continue
		}
		results, err := s.Verify(bytes.NewReader(other), cms.VerifyPolicy{AllowSHA1: true})
		if err != nil {
			continue
		}
		for _, r := range results {
			if r.Err == nil {
				t.Errorf("octet %d: verifies over another content", i)
			}
		}
	}
}

// TestNoDamageIsToldApart flips one bit of each octet of an encrypted message. What the flip did to the content of CBC mode
// only a signature can tell; but a failure is always the same, and Decrypt never writes with it (decrypt checks both).
func TestNoDamageIsToldApart(t *testing.T) {
	whole, alice := fixture(t, "enveloped-aes128.der"), decrypter(fixturePair(t, "alice"))
	failed := 0
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		if _, err := cms.ParseEnvelopedData(damaged, cms.Limits{}); err != nil {
			continue
		}
		if _, err := decrypt(t, damaged, alice); err != nil {
			failed++
		}
	}
	if failed < len(whole)/3 {
		t.Errorf("only %d of %d damaged messages failed", failed, len(whole))
	}
}

func TestRecipientsAreNamedForTheLog(t *testing.T) {
	for file, want := range map[string]string{
		"enveloped-aes128.der":           "ktri serial number " + fixturePair(t, "alice").Cert.SerialNumber.String() + " by RSA-PKCS1-v1.5",
		"enveloped-oaep-sha256-mgf1.der": "ktri serial number " + fixturePair(t, "alice").Cert.SerialNumber.String() + " by RSA-OAEP-SHA-256 (MGF1 with SHA-1)",
	} {
		r := parseEnveloped(t, fixture(t, file)).Recipients()[0]
		if got := r.String() + " by " + r.KeyTransport; got != want {
			t.Errorf("%s: %s, must be %s", file, got, want)
		}
	}
	if got := parseEnveloped(t, fixture(t, "enveloped-keyid.der")).Recipients()[0]; len(got.KeyID) != 20 || got.String()[:19] != "ktri key identifier" {
		t.Errorf("%s: %+v", got, got)
	}
}
