package testpki

import (
	"crypto"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
)

//go:embed testdata/*.pem
var keyFiles embed.FS

// The pool is split so that an authority never shares its key with an end entity.
const (
	authorityKeys = 4 // rsa2048-01 … rsa2048-04
	endEntityKeys = 8 // rsa2048-05 … rsa2048-12
)

// pool parses every key file on first use and never changes after that.
var pool = sync.OnceValue(func() map[string]crypto.Signer {
	keys := make(map[string]crypto.Signer)
	files, err := keyFiles.ReadDir("testdata")
	if err != nil {
		panic("testpki: " + err.Error())
	}
	for _, f := range files {
		keys[strings.TrimSuffix(f.Name(), ".pem")] = parse(f.Name())
	}
	return keys
})

func parse(file string) crypto.Signer {
	raw, err := keyFiles.ReadFile("testdata/" + file)
	if err != nil {
		panic("testpki: " + err.Error())
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		panic("testpki: no PEM block in " + file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic("testpki: " + file + ": " + err.Error())
	}
	return key.(crypto.Signer)
}

func authorityKey(i int) crypto.Signer {
	return pool()[fmt.Sprintf("rsa2048-%02d", 1+i%authorityKeys)]
}

func endEntityKey(i int) crypto.Signer {
	return pool()[fmt.Sprintf("rsa2048-%02d", 1+authorityKeys+i%endEntityKeys)]
}

// RSA2048 is the i-th end-entity key of the pool (counted from 0, wraps after 8).
func RSA2048(i int) crypto.Signer { return endEntityKey(i) }

// RSA1024 is a key that is too short for every profile.
func RSA1024() crypto.Signer { return pool()["rsa1024"] }

// RSA4096 is a key whose certificate does not fit a small UDP answer.
func RSA4096() crypto.Signer { return pool()["rsa4096"] }

// P256 is an ECDSA key.
func P256() crypto.Signer { return pool()["p256"] }

// P384 is an ECDSA key.
func P384() crypto.Signer { return pool()["p384"] }
