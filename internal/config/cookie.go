package config

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

const (
	cookieSecretSize = 16 // RFC 9018 §4.4: the key of SipHash-2-4
	maxSecretFile    = 1 << 10
)

// CookieSecret reads the secret of DNS cookies that several servers share
// (RFC 9018 §5): dns.cookie_secret_file. It is all zero where there is no file.
// Whoever has it proves addresses that are not his.
func (c *Config) CookieSecret() (secret [cookieSecretSize]byte, err error) {
	if c.DNS.CookieSecret == "" {
		return secret, nil
	}
	path := c.Path(c.DNS.CookieSecret)
	f, err := os.Open(path)
	if err != nil {
		return secret, fmt.Errorf("%w; put the file there or correct the name", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret, fmt.Errorf("%s can be read by others (mode %04o); chmod 0400 it, and make a new secret if they may have", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return secret, err
	}
	if len(b) != cookieSecretSize {
		text := bytes.TrimSpace(b)
		if b, err = hex.DecodeString(string(text)); err != nil || len(b) != cookieSecretSize {
			return secret, fmt.Errorf("%s holds neither %d octets nor %d hexadecimal digits; make one with `openssl rand -hex %d`", path, cookieSecretSize, 2*cookieSecretSize, cookieSecretSize)
		}
	}
	if copy(secret[:], b); secret == [cookieSecretSize]byte{} {
		return secret, fmt.Errorf("%s is all zero; make one with `openssl rand -hex %d`", path, cookieSecretSize)
	}
	return secret, nil
}
