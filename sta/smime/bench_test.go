package smime_test

import (
	"bytes"
	"fmt"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// sizes are a note, a typical document and the largest message that is taken.
var sizes = []int{10 << 10, 1 << 20, 36 << 20}

func bigMessage(size int) []byte {
	line := []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567\r\n")
	return append(message("Subject: x\r\n\r\n"), bytes.Repeat(line, size/len(line)+1)...)
}

func BenchmarkSignAndSeal(b *testing.B) {
	w := newWorld(b)
	to, from := w.trusted(b, "bob@b.example", w.bob, trust.Encrypt), address(b, "ann@a.example")
	for _, size := range sizes {
		msg := bigMessage(size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := smime.Sign(msg, signer(w.ann), testpki.Now())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := smime.Seal(s, from, to, smime.SealOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenAndVerify(b *testing.B) {
	w := newWorld(b)
	k := keys(b, w.bob)
	for _, size := range sizes {
		raw := w.seal(b, bigMessage(size), smime.SealOptions{})
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				o, err := smime.Open(raw, k)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := smime.Verify(o, cms.VerifyPolicy{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
