package cms_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"directnode/internal/cms"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

var (
	allCiphers    = []cms.Cipher{cms.AES128CBC, cms.AES192CBC, cms.AES256CBC}
	allTransports = []cms.KeyTransport{cms.OAEPSHA1, cms.OAEPSHA256, cms.OAEPSHA384, cms.OAEPSHA512, cms.PKCS1v15}
)

func TestWhatIsEncryptedDecrypts(t *testing.T) {
	spec.Covers(t, "AS-2.7-a", "AS-2.7-b")
	p := newPeople(t)
	for _, c := range allCiphers {
		for _, transport := range allTransports {
			der := encrypt(t, entity, c, cms.Recipient{Certificate: p.bob.Cert, Transport: transport})
			got, err := decrypt(t, der, decrypter(p.bob))
			if err != nil || !bytes.Equal(got, entity) {
				t.Errorf("%s, %s: %q, %v", c, transport, got, err)
			}
		}
	}
}

// TestEverySizeComesBack walks the sizes around the block, the chunk and the length octets of DER, with readers whose size
// is known and with readers whose size is not.
func TestEverySizeComesBack(t *testing.T) {
	p := newPeople(t)
	to := []cms.Recipient{{Certificate: p.bob.Cert}}
	const chunk = 32 << 10
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 100, 111, 112, 127, 128, 255, 256, chunk - 17, chunk - 1, chunk, chunk + 1, chunk + 16, 2 * chunk, 3*chunk + 5, 1 << 20} {
		content := make([]byte, size)
		random.Read(content)
		file := filepath.Join(t.TempDir(), "content")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for name, r := range map[string]io.Reader{
			"bytes.Reader":  bytes.NewReader(content),
			"bytes.Buffer":  bytes.NewBuffer(content),
			"file":          f,
			"stream":        iotest.HalfReader(struct{ io.Reader }{bytes.NewReader(content)}),
			"stream, early": iotest.DataErrReader(struct{ io.Reader }{bytes.NewReader(content)}),
		} {
			var out bytes.Buffer
			if err := cms.Encrypt(&out, r, to, cms.AES128CBC); err != nil {
				t.Fatalf("%s of %d: %v", name, size, err)
			}
			isBER := out.Bytes()[1] == 0x80
			if wantBER := strings.HasPrefix(name, "stream") && size >= chunk; isBER != wantBER {
				t.Errorf("%s of %d: BER is %v", name, size, isBER)
			}
			if got, err := decrypt(t, out.Bytes(), decrypter(p.bob)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s of %d octets came back as %d octets, %v", name, size, len(got), err)
			}
		}
	}
}

func TestContentInTheMiddleOfAFileIsEncryptedFromThere(t *testing.T) {
	p := newPeople(t)
	big := bytes.Repeat([]byte("0123456789"), 10_000)
	r := io.NewSectionReader(bytes.NewReader(big), 0, int64(len(big)))
	if _, err := r.Seek(50_005, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := cms.Encrypt(&out, r, []cms.Recipient{{Certificate: p.bob.Cert}}, cms.AES256CBC); err != nil {
		t.Fatal(err)
	}
	if got, err := decrypt(t, out.Bytes(), decrypter(p.bob)); err != nil || !bytes.Equal(got, big[50_005:]) {
		t.Errorf("%d octets came back, %v", len(got), err)
	}
}

func TestEveryRecipientDecrypts(t *testing.T) {
	p := newPeople(t)
	var to []cms.Recipient
	var keys []cms.Decrypter
	for i := range 8 {
		leaf := p.ca.Leaf("recipient", testpki.WithKey(testpki.RSA2048(i)))
		to = append(to, cms.Recipient{Certificate: leaf.Cert, Transport: allTransports[i%len(allTransports)]})
		keys = append(keys, decrypter(leaf))
	}
	der := encrypt(t, entity, cms.AES256CBC, append(to, to[3])...) // one twice
	infos := parseEnveloped(t, der).Recipients()
	if len(infos) != len(to) {
		t.Errorf("%d recipients for %d certificates", len(infos), len(to))
	}
	for _, info := range infos {
		if info.Kind != "ktri" || info.Serial == nil || info.KeyID != nil || !bytes.Equal(info.Issuer, p.ca.Cert.RawSubject) || info.KeyTransport == "" {
			t.Errorf("recipient %s by %q: %+v", info, info.KeyTransport, info)
		}
	}
	for i, k := range keys {
		if got, err := decrypt(t, der, k); err != nil || !bytes.Equal(got, entity) {
			t.Errorf("recipient %d: %q, %v", i, got, err)
		}
	}
	_, err := decrypt(t, der, decrypter(p.alice))
	wantErr(t, err, cms.ErrDecrypt)
	if got, err := decrypt(t, der, decrypter(p.alice), keys[5], decrypter(p.bob)); err != nil || !bytes.Equal(got, entity) {
		t.Errorf("among other keys: %q, %v", got, err)
	}
}

// TestManyCertificatesOfManyRecipients: an address may publish several certificates that are good, and all of them are encrypted to.
// A hundred recipients must not fail because one of them has two.
func TestManyCertificatesOfManyRecipients(t *testing.T) {
	p := newPeople(t)
	var to []cms.Recipient
	for range 120 {
		to = append(to, cms.Recipient{Certificate: p.ca.Leaf("many").Cert})
	}
	to = append(to, cms.Recipient{Certificate: p.bob.Cert})
	var out bytes.Buffer
	if err := cms.Encrypt(&out, bytes.NewReader(entity), to, cms.AES128CBC); err != nil {
		t.Fatal(err)
	}
	if got, err := decrypt(t, out.Bytes(), decrypter(p.bob)); err != nil || !bytes.Equal(got, entity) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestUnsuitableRecipientsAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	p := newPeople(t)
	short := p.ca.Leaf("short", testpki.WithKey(testpki.RSA1024()))
	good := cms.Recipient{Certificate: p.bob.Cert}
	for name, c := range map[string]struct {
		to     []cms.Recipient
		cipher cms.Cipher
		want   error
		says   string
	}{
		"nobody":            {nil, 0, cms.ErrKey, "0 recipients"},
		"more than 6400":    {make([]cms.Recipient, 6401), 0, cms.ErrKey, "6401 recipients"},
		"no certificate":    {[]cms.Recipient{good, {}}, 0, cms.ErrKey, "without certificate"},
		"ECDSA":             {[]cms.Recipient{good, {Certificate: p.carol.Cert}}, 0, cms.ErrKey, "ECDSA"},
		"RSA of 1024 bits":  {[]cms.Recipient{good, {Certificate: short.Cert}}, 0, cms.ErrKey, "1024 bits"},
		"unknown cipher":    {[]cms.Recipient{good}, 7, cms.ErrAlgorithm, "Cipher(7)"},
		"negative cipher":   {[]cms.Recipient{good}, -1, cms.ErrAlgorithm, "Cipher(-1)"},
		"unknown transport": {[]cms.Recipient{{Certificate: p.bob.Cert, Transport: 9}}, 0, cms.ErrAlgorithm, "KeyTransport(9)"},
	} {
		var out bytes.Buffer
		err := cms.Encrypt(&out, bytes.NewReader(entity), c.to, c.cipher)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, must be %v with %q", name, err, c.want, c.says)
		}
		if out.Len() != 0 {
			t.Errorf("%s: %d octets were written", name, out.Len())
		}
	}
}

// grown promises fewer or more octets than it gives.
type grown struct {
	io.Reader
	promise int
}

func (g grown) Len() int { return g.promise }

// failing refuses everything after n octets.
type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestFailuresOfReaderAndWriterComeBack(t *testing.T) {
	p := newPeople(t)
	to := []cms.Recipient{{Certificate: p.bob.Cert}}
	big := bytes.Repeat(entity, 5000)
	stream := func() io.Reader { return struct{ io.Reader }{bytes.NewReader(big)} }
	for _, promise := range []int{len(big) - 1, len(big) + 1, len(big) - 40_000, len(big) + 40_000} {
		if err := cms.Encrypt(io.Discard, grown{stream(), promise}, to, cms.AES128CBC); err == nil || !strings.Contains(err.Error(), "changed its size") {
			t.Errorf("promise of %d for %d octets: %v", promise, len(big), err)
		}
	}
	for _, room := range []int{0, 100, 600, 700, 40_000, 70_000} {
		wantErr(t, cms.Encrypt(&failing{room}, bytes.NewReader(big), to, cms.AES128CBC), io.ErrShortWrite)
		wantErr(t, cms.Encrypt(&failing{room}, stream(), to, cms.AES128CBC), io.ErrShortWrite)
	}
	for _, at := range []int{0, 10, 40_000} {
		broken := io.MultiReader(bytes.NewReader(big[:at]), iotest.ErrReader(io.ErrNoProgress))
		wantErr(t, cms.Encrypt(io.Discard, broken, to, cms.AES128CBC), io.ErrNoProgress)
	}
	wantErr(t, cms.Encrypt(io.Discard, grown{io.MultiReader(bytes.NewReader(big[:40_000]), iotest.ErrReader(io.ErrNoProgress)), len(big)}, to, cms.AES128CBC), io.ErrNoProgress)
}

func TestKeysAndVectorsAreFresh(t *testing.T) {
	p := newPeople(t)
	a := encrypt(t, entity, cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert})
	b := encrypt(t, entity, cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert})
	tail := len(entity)/16*16 + 16
	if bytes.Equal(a[len(a)-tail:], b[len(b)-tail:]) {
		t.Error("the same content was encrypted to the same octets twice")
	}
}

func TestStreamingHoldsAFewKilobytes(t *testing.T) {
	p := newPeople(t)
	to := []cms.Recipient{{Certificate: p.bob.Cert}}
	const size = 16 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := cms.Encrypt(io.Discard, io.LimitReader(zeros{}, size), to, cms.AES128CBC); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > 1<<20 {
		t.Errorf("%d octets were allocated to encrypt %d", allocated, size)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
