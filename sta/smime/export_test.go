package smime

import "directnode/internal/mail"

// NewOpened lets tests present any decrypted content to Verify.
func NewOpened(outer mail.Header, entity []byte) Opened { return Opened{outer: outer, entity: entity} }

// Entity lets tests see what was decrypted.
func (o Opened) Entity() []byte { return o.entity }
