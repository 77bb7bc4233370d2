package cms_test

import (
	"bytes"
	"io"
	"testing"

	"directnode/internal/cms"
)

func BenchmarkSign(b *testing.B) {
	p := newPeople(b)
	content := bytes.Repeat(entity, 200) // 10 KB, the usual message
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		sign(b, content, cms.SignOptions{SigningTime: signedAt}, signer(p.alice))
	}
}

func BenchmarkVerify(b *testing.B) {
	p := newPeople(b)
	content := bytes.Repeat(entity, 200)
	der := sign(b, content, cms.SignOptions{SigningTime: signedAt}, signer(p.alice))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		verify(b, der, content, cms.VerifyPolicy{})
	}
}

func BenchmarkEncrypt(b *testing.B) {
	p := newPeople(b)
	to := []cms.Recipient{{Certificate: p.bob.Cert}}
	for name, size := range map[string]int{"10KB": 10_000, "25MB": 25_000_000} {
		content := make([]byte, size)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := cms.Encrypt(io.Discard, bytes.NewReader(content), to, cms.AES128CBC); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	p := newPeople(b)
	for name, size := range map[string]int{"10KB": 10_000, "25MB": 25_000_000} {
		der := encrypt(b, make([]byte, size), cms.AES128CBC, cms.Recipient{Certificate: p.bob.Cert})
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := parseEnveloped(b, der).Decrypt(io.Discard, []cms.Decrypter{decrypter(p.bob)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
