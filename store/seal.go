package store

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// A sealed key, version 1:
//
//	"DNK" 0x01 | nonce (12) | data key under the master key (32 + 16)
//	           | nonce (12) | PKCS #8 under the data key (n + 16)
//
// Both layers are AES-256-GCM; the associated data of both is the header
// followed by the SHA-256 of the certificate, so that a sealed key opens for
// its own certificate only. Each key has a data key of its own: changing the
// master key rewrites 48 octets a key and never touches a private key.
const (
	sealMagic  = "DNK\x01"
	nonceSize  = 12
	tagSize    = 16
	dataKey    = 32
	wrapEnd    = len(sealMagic) + nonceSize + dataKey + tagSize
	sealedMin  = wrapEnd + nonceSize + tagSize
	sealedMax  = sealedMin + maxKeyDER
	labelWrap  = "directnode master key: wrap data keys"
	labelCheck = "directnode master key: check value"
)

// Sealer seals and opens private keys under a master key. It never changes
// and may be used concurrently.
type Sealer struct {
	wrap  cipher.AEAD
	check string // tells one master key from another, and nothing about it
}

// NewSealer makes a Sealer. The wrapping key and the check value are derived
// from the master key (RFC 5869, HKDF with SHA-256), each for itself.
func NewSealer(master [32]byte) *Sealer {
	return &Sealer{wrap: gcm(derive(master, labelWrap)), check: hex.EncodeToString(derive(master, labelCheck))}
}

func derive(master [32]byte, label string) []byte {
	key, err := hkdf.Key(sha256.New, master[:], nil, label, 32)
	if err != nil {
		panic("store: hkdf: " + err.Error()) // 32 octets are never too many
	}
	return key
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("store: aes: " + err.Error()) // every key here has 32 octets
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("store: gcm: " + err.Error())
	}
	return aead
}

// master is the value of meta/master.
func (s *Sealer) master() []byte { return marshal(masterValue{s.check}) }

// checkMaster compares a value of meta/master with this master key.
func (s *Sealer) checkMaster(object string, value []byte) error {
	var v masterValue
	if err := unmarshal(value, &v); err != nil {
		return refuse(object, ErrDamaged, "%s: %v", keyMaster, err)
	}
	if subtle.ConstantTimeCompare([]byte(v.Check), []byte(s.check)) != 1 {
		return refuse(object, ErrWrongMasterKey, "give the master key file that it was made with")
	}
	return nil
}

// seal checks that a key is the certificate's and seals it.
func (s *Sealer) seal(cert *x509.Certificate, sha string, key crypto.Signer) ([]byte, error) {
	der, err := s.plain(cert, sha, key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return s.sealDER(sha, der), nil
}

// plain is what is sealed: the key in PKCS #8, if it is one that can be kept.
func (s *Sealer) plain(cert *x509.Certificate, sha string, key crypto.Signer) ([]byte, error) {
	object := "the key of " + certName(sha, cert)
	if s == nil {
		return nil, refuse(object, ErrNoMasterKey, "")
	}
	if !samePublic(key.Public(), cert.PublicKey) {
		return nil, refuse(object, ErrKeyMismatch, "")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, refuse(object, ErrMalformed, "only RSA, ECDSA and Ed25519 keys in memory can be stored")
	}
	if len(der) > maxKeyDER {
		clear(der)
		return nil, refuse(object, ErrLimit, "a key of %d octets, at most %d", len(der), maxKeyDER)
	}
	return der, nil
}

func (s *Sealer) sealDER(sha string, der []byte) []byte {
	aad := associated(sha)
	secret := random(dataKey)
	defer clear(secret)
	b := append(make([]byte, 0, sealedMin+len(der)), sealMagic...)
	nonce := random(nonceSize)
	b = s.wrap.Seal(append(b, nonce...), nonce, secret, aad)
	nonce = random(nonceSize)
	return gcm(secret).Seal(append(b, nonce...), nonce, der, aad)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails; see crypto/rand
	return b
}

func associated(sha string) []byte { return []byte(sealMagic + sha) }

// errSealed is all that is said about a sealed key that does not open.
var errSealed = errors.New("altered, or sealed for another certificate or under another master key")

// openDER undoes sealDER.
func (s *Sealer) openDER(sha string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealedMin || len(sealed) > sealedMax || !bytes.HasPrefix(sealed, []byte(sealMagic)) {
		return nil, errSealed
	}
	aad := associated(sha)
	nonce, wrapped := sealed[len(sealMagic):len(sealMagic)+nonceSize], sealed[len(sealMagic)+nonceSize:wrapEnd]
	secret, err := s.wrap.Open(nil, nonce, wrapped, aad)
	if err != nil {
		return nil, errSealed
	}
	defer clear(secret)
	nonce, body := sealed[wrapEnd:wrapEnd+nonceSize], sealed[wrapEnd+nonceSize:]
	der, err := gcm(secret).Open(nil, nonce, body, aad)
	if err != nil {
		return nil, errSealed
	}
	return der, nil
}

// open opens a key and checks that it is the certificate's.
func (s *Sealer) open(k Key, certDER []byte) (crypto.Signer, error) {
	object := fmt.Sprintf("the key of %s for certificate %.16s…", k.Owner, k.CertSHA256)
	key, err := s.openSigner(object, k.CertSHA256, k.Sealed)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, refuse(object, ErrMalformed, "its certificate: %v", err)
	}
	if !samePublic(key.Public(), cert.PublicKey) {
		return nil, refuse(object, ErrKeyMismatch, "")
	}
	return key, nil
}

// openSigner undoes sealDER for a private key that signs.
func (s *Sealer) openSigner(object, label string, sealed []byte) (crypto.Signer, error) {
	if s == nil {
		return nil, refuse(object, ErrNoMasterKey, "")
	}
	der, err := s.openDER(label, sealed)
	if err != nil {
		return nil, refuse(object, ErrDamaged, "%v", err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, refuse(object, ErrMalformed, "it is no PKCS #8 private key") // the parser's words could quote it
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, refuse(object, ErrMalformed, "it cannot sign")
	}
	return key, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// Unseal opens the private key k of this view: RSA keys also decrypt. It
// takes about a millisecond; keep the result where messages are many.
//
// Errors are *Refusal with ErrNotFound (the certificate is gone),
// ErrNoMasterKey, ErrDamaged, ErrMalformed or ErrKeyMismatch.
func (v *View) Unseal(s *Sealer, k Key) (crypto.Signer, error) {
	if dd := v.data[k.Owner.Domain()]; dd != nil {
		for _, c := range dd.Owned(k.Owner) {
			if c.SHA256 == k.CertSHA256 {
				return s.open(k, c.DER)
			}
		}
	}
	return nil, refuse(fmt.Sprintf("the certificate %.16s… of %s", k.CertSHA256, k.Owner), ErrNotFound, "")
}
