package cms

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"io"
	"sync"
)

// The course of a decryption (RFC 3218 §2.3.2). What stands in the message in the clear (algorithms, names of recipients,
// sizes) is judged first. From the first use of a private key on there is one course, whatever happens:
//
//	unwrap the key; when that fails, take a substitute key of the right size
//	→ decrypt the last block and check its padding in constant time
//	→ good: decrypt from the start and write; bad: ErrDecrypt
//
// The substitute is a keyed hash of the encrypted key. To the sender of a forged message a wrong key from PKCS #1 v1.5 and
// a substitute look the same, and the same message has the same result each time; a substitute drawn at random would differ
// from one attempt to the next and so give itself away. One wrong key in 256 passes the check of the padding: then random
// octets are written, which no signature verifies.

// Decrypter is a certificate of ours with its private key.
type Decrypter struct {
	Certificate *x509.Certificate
	// Key is an *rsa.PrivateKey, or an RSA key in a hardware module. For PKCS #1 v1.5 the module must take
	// rsa.PKCS1v15DecryptOptions with a SessionKeyLen and draw its own substitute; one that refuses them decrypts OAEP only.
	Key crypto.Decrypter
}

// Decrypt decrypts the content with the first of the keys that fits and writes it to w. Every RecipientInfo that names the
// certificate of one of the keys is tried. Nothing is written before the padding of the content was found in order, and
// nothing at all with an error.
//
// The error is ErrDecrypt, the same value for every cause: no key fits, the key does not unwrap, the padding is wrong, the
// content is cut, the algorithm is refused, w fails. Success proves nothing about where the content comes from, nor that it
// is whole: anybody can alter CBC mode. Only a signature inside does.
func (e *EnvelopedData) Decrypt(w io.Writer, keys []Decrypter) error {
	return e.DecryptDiagnosed(w, keys, nil)
}

// DecryptDiagnosed is Decrypt that also tells the operator, by one call of diagnose, why it failed. The sentence is for the
// log of the node and must not leave it. It holds nothing that depends on a private key beyond the failure itself: that the
// key did not unwrap and that the content did not decrypt are one sentence.
func (e *EnvelopedData) DecryptDiagnosed(w io.Writer, keys []Decrypter, diagnose func(reason string)) error {
	reason := e.decrypt(w, keys)
	if reason == "" {
		return nil
	}
	if diagnose != nil {
		diagnose(reason)
	}
	return ErrDecrypt
}

// decrypt gives the reason of a failure, "" for success.
func (e *EnvelopedData) decrypt(w io.Writer, keys []Decrypter) string {
	c, iv, err := e.contentCipher()
	if err != nil {
		return err.Error()
	}
	if n := len(e.encrypted); n == 0 || n%aes.BlockSize != 0 { // RFC 5652 §6.3: padded to whole blocks, never empty
		return fmt.Sprintf("encrypted content of %d octets", n)
	}
	attempts, reason := e.attempts(keys)
	for _, a := range attempts {
		key, unwrapped := a.unwrap(ciphers[c].keySize)
		block, err := aes.NewCipher(key)
		if err != nil {
			return err.Error()
		}
		size, padded := e.plaintextSize(block, iv)
		if unwrapped&padded != 1 {
			continue
		}
		if err := e.write(w, block, iv, size); err != nil {
			return fmt.Sprintf("writing the content: %v", err)
		}
		return ""
	}
	if len(attempts) > 0 {
		return fmt.Sprintf("does not decrypt with any of our keys that it names (%d tried, %s)", len(attempts), c)
	}
	return reason
}

// attempt is a RecipientInfo together with the key that it names.
type attempt struct {
	how       unwrapping
	encrypted []byte
	key       crypto.Decrypter
	identity  []byte // the certificate, which stands for the key
}

// attempts finds the RecipientInfos that name one of the keys and can be used, in the order of the message; without any
// it says why.
func (e *EnvelopedData) attempts(keys []Decrypter) ([]attempt, string) {
	var found []attempt
	reason := fmt.Sprintf("none of our %d certificates is among the %d recipients", len(keys), len(e.recipients))
	for _, r := range e.recipients {
		if r.kind != "ktri" {
			continue
		}
		for _, k := range keys {
			if k.Certificate == nil || k.Key == nil || !r.rid.names(k.Certificate) {
				continue
			}
			how, err := readTransport(r.algorithm)
			if err != nil {
				reason = err.Error()
				continue
			}
			if _, isRSA := k.Key.Public().(*rsa.PublicKey); !isRSA {
				reason = fmt.Sprintf("%s needs an RSA key", how)
				continue
			}
			if found = append(found, attempt{how, r.encrypted, k.Key, k.Certificate.Raw}); len(found) == maxUnwraps {
				return found, ""
			}
		}
	}
	return found, reason
}

// unwrap gives a content encryption key of size octets: the right one, or a substitute. unwrapped is 0 when the key is
// known to be a substitute, which happens with OAEP only. That may be known: for lack of the plaintext an attacker cannot
// make an OAEP ciphertext that unwraps, while with PKCS #1 v1.5 every 2^16th attempt does, and each is an answer.
func (a attempt) unwrap(size int) (key []byte, unwrapped int) {
	substitute := a.substitute(size)
	if a.how.v15 {
		return a.unwrapV15(substitute), 1
	}
	key, err := a.key.Decrypt(rand.Reader, a.encrypted, &rsa.OAEPOptions{Hash: a.how.hash, MGFHash: a.how.mgf, Label: a.how.label})
	if err != nil || len(key) != size {
		return substitute, 0
	}
	return key, 1
}

// unwrapV15 gives the key, or the substitute when the ciphertext is not PKCS #1 v1.5 of a key of that size, in constant
// time.
func (a attempt) unwrapV15(substitute []byte) []byte {
	if private, ok := a.key.(*rsa.PrivateKey); ok {
		key := substitute
		//lint:ignore SA1019 peers still send it; this is the variant that hides the failure
		_ = rsa.DecryptPKCS1v15SessionKey(rand.Reader, private, a.encrypted, key) // an error here is about the sizes, which are public
		return key
	}
	//lint:ignore SA1019 the same variant, asked of a hardware key
	key, err := a.key.Decrypt(rand.Reader, a.encrypted, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: len(substitute)})
	if err != nil || len(key) != len(substitute) {
		return substitute
	}
	return key
}

// substituteSecret keys the substitutes. It is drawn once per process: a forger may try again after a restart, but learns
// no more from it than from another message.
var substituteSecret = sync.OnceValue(func() []byte {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	return secret
})

func (a attempt) substitute(size int) []byte {
	h := hmac.New(sha256.New, substituteSecret())
	h.Write(a.identity)
	h.Write(a.encrypted)
	return h.Sum(nil)[:size] // AES keys have at most 32 octets
}

// plaintextSize decrypts the last block alone and gives the size of the content without its padding. padded is 1 if the
// padding is as RFC 5652 §6.3 wants it; the time does not depend on the block.
func (e *EnvelopedData) plaintextSize(block cipher.Block, iv []byte) (size, padded int) {
	start := len(e.encrypted) - aes.BlockSize
	previous := iv
	if start > 0 {
		previous = e.encrypted[start-aes.BlockSize : start]
	}
	var last [aes.BlockSize]byte
	block.Decrypt(last[:], e.encrypted[start:])
	subtle.XORBytes(last[:], last[:], previous)
	pad, padded := padding(last[:])
	return len(e.encrypted) - pad, padded
}

// padding gives the number of padding octets at the end of a block and 1, or any number and 0 when they are wrong.
func padding(block []byte) (n, ok int) {
	last := block[len(block)-1]
	n = int(last)
	ok = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, len(block))
	for i, octet := range block {
		inside := subtle.ConstantTimeLessOrEq(len(block)-i, n)
		ok &= subtle.ConstantTimeSelect(inside, subtle.ConstantTimeByteEq(octet, last), 1)
	}
	return n, ok
}

// write decrypts from the start and writes size octets.
func (e *EnvelopedData) write(w io.Writer, block cipher.Block, iv []byte, size int) error {
	mode := cipher.NewCBCDecrypter(block, iv)
	buf := make([]byte, min(streamChunk, len(e.encrypted)))
	for rest := e.encrypted; size > 0; {
		n := min(len(buf), len(rest))
		mode.CryptBlocks(buf[:n], rest[:n])
		rest = rest[n:]
		n = min(n, size)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}
