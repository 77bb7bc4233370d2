package cms_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"directnode/internal/cms"
)

// seed adds every file that OpenSSL made.
func seed(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "openssl", "*.[dp][e7][rc]"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzParseSignedData: whatever comes, nothing panics; every SignerInfo gets a verdict; a good one names an enclosed
// certificate, and it does not hold for another content.
func FuzzParseSignedData(f *testing.F) {
	seed(f)
	content := fixture(f, "content.txt")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cms.ParseSignedData(b, cms.Limits{})
		if err != nil {
			if s != nil {
				t.Fatal("a structure came with an error")
			}
			return
		}
		if s.Detached() != (s.Content() == nil) && len(s.Content()) > 0 {
			t.Fatal("detached and enclosed")
		}
		check := func(content []byte, detached bool) (good int) {
			r := bytes.NewReader(content)
			var results []cms.SignerResult
			var err error
			if detached {
				results, err = s.Verify(r, cms.VerifyPolicy{AllowSHA1: true})
			} else {
				results, err = s.Verify(nil, cms.VerifyPolicy{AllowSHA1: true})
			}
			if err != nil && results != nil || len(results) > 8 {
				t.Fatalf("%d results, %v", len(results), err)
			}
			for _, r := range results {
				if r.Err != nil {
					continue
				}
				good++
				if !slices.Contains(s.Certificates(), r.Certificate) || !r.Digest.Available() {
					t.Fatalf("good, but %+v", r)
				}
			}
			return good
		}
		check(nil, false)
		if s.Detached() && check(content, true) > 0 && check([]byte("another content"), true) > 0 {
			t.Fatal("a signature holds for two contents")
		}
	})
}

// FuzzParseEnvelopedData: whatever comes, nothing panics; the only error of Decrypt is ErrDecrypt, and nothing is written
// with it; a second attempt goes as the first.
func FuzzParseEnvelopedData(f *testing.F) {
	seed(f)
	keys := []cms.Decrypter{decrypter(fixturePair(f, "bob")), decrypter(fixturePair(f, "alice"))}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := cms.ParseEnvelopedData(b, cms.Limits{})
		if err != nil {
			if e != nil {
				t.Fatal("a structure came with an error")
			}
			return
		}
		if n := len(e.Recipients()); n > 100 {
			t.Fatalf("%d recipients", n)
		}
		var first, second bytes.Buffer
		err = e.Decrypt(&first, keys)
		if err != nil && (err != cms.ErrDecrypt || first.Len() != 0) {
			t.Fatalf("%v, %d octets were written", err, first.Len())
		}
		if first.Len() > len(b) {
			t.Fatalf("%d octets out of %d", first.Len(), len(b))
		}
		if err2 := e.Decrypt(&second, keys); err2 != err || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("%v, then %v", err, err2)
		}
	})
}
