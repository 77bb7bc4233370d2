package sta

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"directnode/internal/direct"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// Found is what discovery brought for one address, in the order found.
type Found struct {
	Address      direct.Address
	Certificates [][]byte // DER; whether they may be used is not judged yet
	Source       string   // dns-address, dns-domain, ldap-address, ldap-domain
}

// Accepted is a message that one recipient may have: decrypted, its signature
// verified over all that is delivered, its signer trusted by this recipient
// and bound to the sender. Only accept makes one.
type Accepted struct {
	recipient direct.Address
	sender    direct.Address
	messageID string
	message   smime.Verified
	signer    trust.Trusted
	notice    bool // the signer is trusted to notify us, and for nothing else
}

// Digest is the message's identity for its recipient: equal for a message that
// a peer sends again, encrypted anew or not. Where the peer gave it no
// Message-ID its Date takes that place, so that two messages that say the same
// on two days are two.
func (a Accepted) Digest() [32]byte {
	content := a.message.Digest()
	h := sha256.New()
	h.Write([]byte(a.sender.Key()))
	h.Write([]byte{0})
	h.Write([]byte(a.messageID))
	h.Write([]byte{0})
	if a.messageID == "" {
		h.Write([]byte(a.message.Header().Get("Date")))
		h.Write([]byte{0})
	}
	h.Write(content[:])
	return [32]byte(h.Sum(nil))
}

func fingerprint(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
