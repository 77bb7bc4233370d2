package smime

import "directnode/internal/mail"

// unwrap makes the message of the signed octets.
func (v *Verified) unwrap(signed []byte) error {
	h, body, err := mail.Split(signed)
	if err != nil {
		return refuse(CheckFormat, "RFC 2045 §3", "the signed part is no MIME entity", err)
	}
	mediaType, _, err := h.ContentType()
	if err != nil {
		return refuse(CheckFormat, "RFC 2045 §5.1", "Content-Type of the signed part", err)
	}
	if mediaType != typeMessage {
		return v.assemble(h, body)
	}
	// RFC 5751 §3.1: a message/rfc822 at the top of the protected content is the
	// message. RFC 2046 §5.2.1 allows it no encoding; other implementations
	// encode it all the same.
	v.wrapped = true
	if v.message, err = mail.DecodeBody(h, body); err != nil {
		return refuse(CheckWrapping, "RFC 5751 §3.1", "the transfer encoding of the wrapped message", err)
	}
	if v.header, _, err = mail.Split(v.message); err != nil {
		return refuse(CheckWrapping, "RFC 5751 §3.1", "the wrapped content is no Internet message", err)
	}
	return nil
}

// assemble joins the outer header, for lack of a signed one, with the signed
// entity. Of the outer header the Content- fields describe the encryption and go;
// of the entity's only the Content- fields mean anything (RFC 2045 §3).
func (v *Verified) assemble(h mail.Header, body []byte) error {
	var b mail.Builder
	if !v.outer.Has("MIME-Version") {
		b.Add("MIME-Version", "1.0")
	}
	for _, f := range v.outer {
		if !f.IsContent() {
			b.AddField(f)
		}
	}
	for _, f := range h {
		if f.IsContent() {
			b.AddField(f)
		}
	}
	b.Body(body)
	var err error
	if v.message, err = b.Bytes(); err != nil {
		return refuse(CheckFormat, "RFC 5322 §2.1", "the message cannot be put together", err)
	}
	if v.header, _, err = mail.Split(v.message); err != nil {
		return refuse(CheckFormat, "RFC 5322 §2.1", "the header that was put together", err)
	}
	return nil
}
