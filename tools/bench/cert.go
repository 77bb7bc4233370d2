package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	// zoneName is the zone of every measurement; .test is nobody's (RFC 6761 §6.2).
	zoneName = "bench.test"

	// poolSize is how many keys there are. No server looks into a certificate,
	// so more of them would cost minutes of prime numbers and change nothing.
	poolSize = 256

	// maxNames is what the seven digits of an owner hold.
	maxNames = 10_000_000

	// lifetime of the certificates of a pool, and what is left when a new pool
	// is made: an expired certificate is a warning in an import.
	lifetime     = 2 * 365 * 24 * time.Hour
	lifetimeLeft = 30 * 24 * time.Hour
)

// What a pool certificate holds where each copy gets its own.
const placeOwner = "u9999999"

var placeSerial = []byte{0x42, 'd', 'i', 'r', 'e', 'c', 't', '.', 'b', 'e', 'n', 'c', 'h', '0', '0', '0'}

// pool makes any number of certificates of a few real ones: key, signature and
// all else stay, serial number and owner differ. The copies' signatures do not
// verify, which is no matter to a publisher.
type pool struct {
	certs   [][]byte
	serials []int   // where the serial number begins
	owners  [][]int // where the owner's local part stands: CN and both names of the SAN
}

// localPart is the owner of certificate i below the zone.
func localPart(i int) string { return fmt.Sprintf("u%07d", i) }

// certificate is the DER of owner i. Another version has another serial number.
func (p *pool) certificate(i, version int) []byte {
	n := i % len(p.certs)
	der := bytes.Clone(p.certs[n])
	serial := der[p.serials[n]:]
	binary.BigEndian.PutUint32(serial[8:], uint32(version))
	binary.BigEndian.PutUint32(serial[12:], uint32(i))
	for _, at := range p.owners[n] {
		copy(der[at:], localPart(i))
	}
	return der
}

// loadPool reads a pool from path, or makes it there, with certificates of size
// octets.
func loadPool(path string, size int, at time.Time) (*pool, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makePool(path, size, at)
	}
	if err != nil {
		return nil, err
	}
	p, err := parsePool(raw)
	if err != nil || len(p.certs[0]) != size || expires(p.certs[0], at) {
		return makePool(path, size, at)
	}
	return p, nil
}

func expires(der []byte, at time.Time) bool {
	c, err := x509.ParseCertificate(der)
	return err != nil || c.NotAfter.Before(at.Add(lifetimeLeft))
}

func parsePool(raw []byte) (*pool, error) {
	certs, err := x509.ParseCertificates(raw)
	if err != nil || len(certs) == 0 {
		return nil, fmt.Errorf("the pool of certificates is damaged: %w", err)
	}
	p := &pool{}
	for _, c := range certs {
		serial := bytes.Index(c.Raw, placeSerial)
		owners := indexes(c.Raw, placeOwner)
		if serial < 0 || len(owners) != 3 {
			return nil, errors.New("the pool of certificates is another program's")
		}
		p.certs, p.serials, p.owners = append(p.certs, c.Raw), append(p.serials, serial), append(p.owners, owners)
	}
	return p, nil
}

func indexes(b []byte, s string) []int {
	var at []int
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(s))
		if i < 0 {
			return at
		}
		at = append(at, from+i)
		from += i + len(s)
	}
}

func makePool(path string, size int, at time.Time) (*pool, error) {
	m, err := newMaker(at)
	if err != nil {
		return nil, err
	}
	if m.padding, err = m.pad(size); err != nil {
		return nil, err
	}
	certs := make([][]byte, poolSize)
	errs := make([]error, poolSize)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				certs[i], errs[i] = m.sign()
			}
		})
	}
	for i := range certs {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	raw := bytes.Join(certs, nil)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return nil, err
	}
	return parsePool(raw)
}

// maker issues the certificates of a pool.
type maker struct {
	key     *rsa.PrivateKey
	ca      *x509.Certificate
	at      time.Time
	padding int // octets that bring a certificate to its size
}

func newMaker(at time.Time) (*maker, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{Country: []string{"US"}, Organization: []string{"Measured Health Exchange"}, CommonName: "Measured Health Intermediate CA"},
		NotBefore:    at.Add(-time.Hour), NotAfter: at.Add(2 * lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return &maker{key: key, ca: ca, at: at}, err
}

// pad finds how long the CRL's URL must be for certificates of size octets.
func (m *maker) pad(size int) (int, error) {
	der, err := m.issue(m.key)
	if err != nil {
		return 0, err
	}
	// A longer URL may cost an octet of length around it: try what is near.
	for n := size - len(der); n >= 0 && n > size-len(der)-8; n-- {
		m.padding = n
		if der, err := m.issue(m.key); err != nil || len(der) == size {
			return n, err
		}
	}
	return 0, fmt.Errorf("no certificate of %d octets can be made; the least has %d", size, len(der))
}

func (m *maker) sign() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return m.issue(key)
}

// issue makes what authorities of the Direct community issue: an RSA-2048 key,
// signed by RSA with SHA-256, owner, issuer's URLs and a policy.
func (m *maker) issue(key *rsa.PrivateKey) ([]byte, error) {
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(placeSerial),
		Subject: pkix.Name{Country: []string{"US"}, Province: []string{"Oregon"}, Locality: []string{"Portland"},
			Organization: []string{"Measured County Hospital"}, CommonName: placeOwner + "." + zoneName},
		NotBefore: m.at.Add(-time.Hour), NotAfter: m.at.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		BasicConstraintsValid: true,
		EmailAddresses:        []string{placeOwner + "@" + zoneName},
		DNSNames:              []string{placeOwner + "." + zoneName},
		IssuingCertificateURL: []string{"http://pki.bench.test/ca.cer"},
		CRLDistributionPoints: []string{"http://pki.bench.test/" + strings.Repeat("c", m.padding) + ".crl"},
		PolicyIdentifiers:     []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 41179, 0, 1, 2}},
	}
	return x509.CreateCertificate(rand.Reader, t, m.ca, &key.PublicKey, m.key)
}
