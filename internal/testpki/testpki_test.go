package testpki

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestTreeVerifies(t *testing.T) {
	pki := New(t)
	root := pki.Root("Root")
	hisp := root.Intermediate("HISP CA", PathLen(0))
	bob := hisp.Leaf("bob", Address("bob@b.direct.test"), EmailInDN("bob@b.direct.test"))

	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Cert)
	inter.AddCert(hisp.Cert)
	opts := x509.VerifyOptions{Roots: roots, Intermediates: inter, CurrentTime: Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	if _, err := bob.Cert.Verify(opts); err != nil {
		t.Fatal(err)
	}
	if got := bob.Cert.EmailAddresses; len(got) != 1 || got[0] != "bob@b.direct.test" {
		t.Fatalf("rfc822Name %q", got)
	}
	if bytes.Equal(hisp.Cert.RawSubjectPublicKeyInfo, root.Cert.RawSubjectPublicKeyInfo) {
		t.Fatal("root and intermediate share a key")
	}
}

func TestSameTreeTwice(t *testing.T) {
	tree := func() []byte {
		pki := New(t)
		return pki.Root("Root").Intermediate("CA").Leaf("x", Domain("b.direct.test")).DER
	}
	if !bytes.Equal(tree(), tree()) {
		t.Fatal("the same calls gave different certificates")
	}
}

func TestBrokenOptionsBreakOneThing(t *testing.T) {
	root := New(t).Root("Root")
	roots := x509.NewCertPool()
	roots.AddCert(root.Cert)
	for name, leaf := range map[string]Pair{
		"expired":       root.Leaf("x", Expired()),
		"not yet valid": root.Leaf("x", NotYetValid()),
		"bad signature": root.Leaf("x", BadSignature()),
		"SHA-1":         root.Leaf("x", SHA1()),
		"MD5":           root.Leaf("x", MD5()),
	} {
		_, err := leaf.Cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	if a := root.Leaf("x", SHA1()).Cert.SignatureAlgorithm; a != x509.SHA1WithRSA {
		t.Errorf("SHA1 option gave %s", a)
	}
	if a := root.Leaf("x", WithKey(P256())); a.Cert.PublicKeyAlgorithm != x509.ECDSA || a.Cert.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("P-256 leaf: %s usage %b", a.Cert.PublicKeyAlgorithm, a.Cert.KeyUsage)
	}
}

func TestCrossSignKeepsNameAndKey(t *testing.T) {
	pki := New(t)
	a, b := pki.Root("A"), pki.Root("B")
	ca := a.Intermediate("CA")
	cross := b.CrossSign(ca)
	if !bytes.Equal(ca.Cert.RawSubject, cross.Cert.RawSubject) || !bytes.Equal(ca.Cert.RawSubjectPublicKeyInfo, cross.Cert.RawSubjectPublicKeyInfo) {
		t.Fatal("name or key differs")
	}
	if err := cross.Cert.CheckSignatureFrom(b.Cert); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	bob := New(t).Root("Root").Leaf("bob", Address("bob@b.direct.test"))
	dir := t.TempDir()
	path := bob.WriteKey(t, filepath.Join(dir, "bob.key.pem"))
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v %v", st.Mode(), err)
	}
	bob.WriteCert(t, filepath.Join(dir, "bob.crt.pem"))
	if _, err := os.ReadFile(bob.WriteDER(t, filepath.Join(dir, "bob.cer"))); err != nil {
		t.Fatal(err)
	}
}
