package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"directnode/internal/ber"
)

// Recipient is one who may decrypt.
type Recipient struct {
	Certificate *x509.Certificate // with an RSA key
	Transport   KeyTransport
}

// Encrypt reads content to its end and writes a ContentInfo with an EnvelopedData for the recipients (RFC 5652 §6.1). It
// holds no more than a few kilobytes of the content. The output is DER when the size of the content is known: content is
// short, has a Len method (as bytes.Reader) or is an io.Seeker (as os.File); otherwise it is BER with indefinite lengths.
// Equal certificates get one RecipientInfo.
//
// Nothing is written before all keys are in order. After an error what was written is worthless.
//
// Errors: ErrKey for no or too many recipients, a certificate without RSA key or with one of an unsuitable size, ErrAlgorithm
// for an unknown cipher or transport, and whatever reader and writer give.
func Encrypt(w io.Writer, content io.Reader, to []Recipient, c Cipher) error {
	if !c.valid() {
		return fmt.Errorf("%w: %s", ErrAlgorithm, c)
	}
	key := make([]byte, ciphers[c].keySize)
	rand.Read(key)
	iv := make([]byte, aes.BlockSize)
	rand.Read(iv)
	infos, err := recipientInfos(to, key)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("cms: %s: %w", c, err)
	}
	e := encryption{
		w: w, content: content, mode: cipher.NewCBCEncrypter(block, iv),
		infos: infos, algorithm: contentAlgorithm(c, iv), buf: make([]byte, streamChunk+aes.BlockSize),
	}
	return e.run()
}

// recipientInfos gives the content octets of the SET OF RecipientInfo (RFC 5652 §6.2.1) in DER order.
func recipientInfos(to []Recipient, key []byte) ([]byte, error) {
	if len(to) == 0 || len(to) > defaultRecipients {
		return nil, fmt.Errorf("%w: %d recipients, 1 to %d are allowed", ErrKey, len(to), defaultRecipients)
	}
	var infos [][]byte
	for i, r := range to {
		if r.Certificate == nil {
			return nil, fmt.Errorf("%w: recipient without certificate", ErrKey)
		}
		if slices.ContainsFunc(to[:i], func(o Recipient) bool { return bytes.Equal(o.Certificate.Raw, r.Certificate.Raw) }) {
			continue
		}
		info, err := r.info(key)
		if err != nil {
			return nil, fmt.Errorf("recipient with serial number %s: %w", r.Certificate.SerialNumber, err)
		}
		infos = append(infos, info)
	}
	return setOf(infos), nil
}

// info encodes the KeyTransRecipientInfo of one recipient.
func (r Recipient) info(key []byte) ([]byte, error) {
	if !r.Transport.valid() {
		return nil, fmt.Errorf("%w: %s", ErrAlgorithm, r.Transport)
	}
	pub, ok := r.Certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: nothing can be encrypted to a key of kind %s, RSA is needed", ErrKey, r.Certificate.PublicKeyAlgorithm)
	}
	if err := checkRSA(pub); err != nil {
		return nil, err
	}
	wrapped, err := r.Transport.wrap(pub, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, 0) // RFC 5652 §6.2.1: 0 with issuer and serial number
	if err := writeIssuerAndSerial(&b, r.Certificate); err != nil {
		return nil, err
	}
	r.Transport.writeTo(&b)
	b.Bytes(ber.OctetString, wrapped)
	b.End()
	return b.Encoded(), nil
}

// contentAlgorithm is AES-CBC with its initialization vector (RFC 3565 §4.1).
func contentAlgorithm(c Cipher, iv []byte) []byte {
	var b ber.Builder
	writeAlgorithm(&b, ciphers[c].oid, ber.AppendTLV(nil, ber.OctetString, iv))
	return b.Encoded()
}

// encryption is one run of Encrypt.
type encryption struct {
	w         io.Writer
	content   io.Reader
	mode      cipher.BlockMode
	infos     []byte // content octets of recipientInfos
	algorithm []byte // encoded contentEncryptionAlgorithm
	buf       []byte // a chunk and room for its padding
}

func (e *encryption) run() error {
	size, known := sizeOf(e.content)
	n, last, err := e.fill()
	if err != nil {
		return err
	}
	if last {
		size, known = int64(n), true
	}
	if !known {
		return e.runBER(n)
	}
	return e.runDER(n, last, size)
}

// sizeOf tells how much there is to read, if that can be told.
func sizeOf(r io.Reader) (int64, bool) {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len()), true
	case io.Seeker:
		here, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return 0, false // a pipe
		}
		end, err := r.Seek(0, io.SeekEnd)
		if err != nil {
			return 0, false
		}
		_, err = r.Seek(here, io.SeekStart)
		return end - here, err == nil
	}
	return 0, false
}

// fill reads one chunk; last says that the content ended within it.
func (e *encryption) fill() (n int, last bool, err error) {
	n, err = io.ReadFull(e.content, e.buf[:streamChunk])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, true, nil
	}
	if err != nil {
		return n, false, fmt.Errorf("cms: reading the content to be encrypted: %w", err)
	}
	return n, false, nil
}

// seal encrypts n octets of the buffer in place, padded when they are the last (RFC 5652 §6.3).
func (e *encryption) seal(n int, last bool) []byte {
	if last {
		pad := aes.BlockSize - n%aes.BlockSize
		for range pad {
			e.buf[n] = byte(pad)
			n++
		}
	}
	e.mode.CryptBlocks(e.buf[:n], e.buf[:n])
	return e.buf[:n]
}

// runDER writes in one pass: all lengths follow from the size of the content.
func (e *encryption) runDER(n int, last bool, size int64) error {
	encrypted := size/aes.BlockSize*aes.BlockSize + aes.BlockSize
	if err := e.write(e.headerDER(int(encrypted))); err != nil {
		return err
	}
	for total := int64(n); ; total += int64(n) {
		if total > size || last && total != size {
			return fmt.Errorf("cms: the content to be encrypted changed its size: %d octets, then %d", size, total)
		}
		if err := e.write(e.seal(n, last)); err != nil || last {
			return err
		}
		var err error
		if n, last, err = e.fill(); err != nil {
			return err
		}
	}
}

// headerDER gives everything that stands before the encrypted content, which is all: nothing follows it.
func (e *encryption) headerDER(encrypted int) []byte {
	var content ber.Builder // encryptedContentInfo (RFC 5652 §6.1)
	content.OID(oidData)
	content.Raw(e.algorithm)
	content.Raw(ber.AppendHeader(nil, ber.Context(0, false), encrypted))

	var enveloped ber.Builder
	enveloped.Int(ber.Integer, 0) // RFC 5652 §6.1: version 0 RecipientInfos and no attributes
	enveloped.Bytes(ber.Set, e.infos)
	enveloped.Raw(ber.AppendHeader(nil, ber.Sequence, len(content.Encoded())+encrypted))
	enveloped.Raw(content.Encoded())

	body := ber.AppendHeader(nil, ber.Sequence, len(enveloped.Encoded())+encrypted)
	body = append(body, enveloped.Encoded()...)

	var info ber.Builder // RFC 5652 §3
	info.OID(oidEnvelopedData)
	info.Raw(ber.AppendHeader(nil, ber.Context(0, true), len(body)+encrypted))
	info.Raw(body)
	return append(ber.AppendHeader(nil, ber.Sequence, len(info.Encoded())+encrypted), info.Encoded()...)
}

// indefinite is the length octet of an element that ends with an end-of-contents marker (X.690 §8.1.3.6).
const indefinite = 0x80

// runBER writes the content in segments, as it comes.
func (e *encryption) runBER(n int) error {
	var b ber.Builder
	b.Raw([]byte{0x30, indefinite}) // ContentInfo
	b.OID(oidEnvelopedData)
	b.Raw([]byte{0xa0, indefinite, 0x30, indefinite}) // content, EnvelopedData
	b.Int(ber.Integer, 0)
	b.Bytes(ber.Set, e.infos)
	b.Raw([]byte{0x30, indefinite}) // encryptedContentInfo
	b.OID(oidData)
	b.Raw(e.algorithm)
	b.Raw([]byte{0xa0, indefinite}) // encryptedContent, constructed
	if err := e.write(b.Encoded()); err != nil {
		return err
	}
	for last := false; ; {
		segment := e.seal(n, last)
		if err := e.write(ber.AppendHeader(nil, ber.OctetString, len(segment))); err != nil {
			return err
		}
		if err := e.write(segment); err != nil {
			return err
		}
		if last {
			break
		}
		var err error
		if n, last, err = e.fill(); err != nil {
			return err
		}
	}
	return e.write(make([]byte, 2*5)) // the ends of the five elements
}

func (e *encryption) write(b []byte) error {
	if _, err := e.w.Write(b); err != nil {
		return fmt.Errorf("cms: writing the encrypted message: %w", err)
	}
	return nil
}
