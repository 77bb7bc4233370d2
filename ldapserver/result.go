package ldapserver

import (
	"errors"
	"fmt"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// resultCode is a result code of RFC 4511 §4.1.9 and appendix A.
type resultCode int

const (
	success                      resultCode = 0
	operationsError              resultCode = 1
	protocolError                resultCode = 2
	timeLimitExceeded            resultCode = 3
	sizeLimitExceeded            resultCode = 4
	compareFalse                 resultCode = 5
	compareTrue                  resultCode = 6
	authMethodNotSupported       resultCode = 7
	adminLimitExceeded           resultCode = 11
	unavailableCriticalExtension resultCode = 12
	noSuchAttribute              resultCode = 16
	undefinedAttributeType       resultCode = 17
	inappropriateMatching        resultCode = 18
	noSuchObject                 resultCode = 32
	invalidDNSyntax              resultCode = 34
	invalidCredentials           resultCode = 49
	busy                         resultCode = 51
	unavailable                  resultCode = 52
	unwillingToPerform           resultCode = 53
	other                        resultCode = 80
	noSuchOperation              resultCode = 119 // RFC 3909 §2.3
	tooLate                      resultCode = 120
	cannotCancel                 resultCode = 121
)

// refusal is an error that already knows its result.
type refusal struct {
	code resultCode
	text string // diagnosticMessage: for people, and for whoever reads a packet trace
}

func (r *refusal) Error() string { return r.text }

// The refusals, each sentence once.
var (
	errVersion      = &refusal{protocolError, "only LDAP version 3 is spoken"}
	errEnumeration  = &refusal{protocolError, "value out of range in the request"}
	errExtended     = &refusal{protocolError, "unknown extended operation"}
	errNoTLS        = &refusal{protocolError, "TLS is not configured"}
	errAlreadyTLS   = &refusal{operationsError, "TLS is established already"}
	errTimeLimit    = &refusal{timeLimitExceeded, "time limit exceeded"}
	errSizeLimit    = &refusal{sizeLimitExceeded, "size limit exceeded"}
	errCompareFalse = &refusal{compareFalse, ""}
	errCompareTrue  = &refusal{compareTrue, ""}
	errAuthMethod   = &refusal{authMethodNotSupported, "only anonymous simple bind is offered"}
	errUnauthBind   = &refusal{unwillingToPerform, "a name with an empty password is not a login; bind with an empty name"}
	errCredentials  = &refusal{invalidCredentials, "there are no accounts here; bind with an empty name and an empty password"}
	errFilterDepth  = &refusal{adminLimitExceeded, fmt.Sprintf("filter nested deeper than %d", maxFilterDepth)}
	errFilterNodes  = &refusal{adminLimitExceeded, fmt.Sprintf("filter of more than %d items", maxFilterNodes)}
	errAttributes   = &refusal{adminLimitExceeded, fmt.Sprintf("more than %d attributes asked for", maxAttributes)}
	errControls     = &refusal{adminLimitExceeded, fmt.Sprintf("more than %d controls", maxControls)}
	errCritical     = &refusal{unavailableCriticalExtension, "critical control not supported"}
	errRepeated     = &refusal{protocolError, "the same control twice"}
	errPagedValue   = &refusal{protocolError, "malformed value of the paged results control"}
	errCookie       = &refusal{unwillingToPerform, "the cookie of paged results is of no search that goes on here; begin again"}
	errNothing      = &refusal{noSuchOperation, "no such operation is known"}
	errTooLate      = &refusal{tooLate, "the operation was answered"}
	errCannotCancel = &refusal{cannotCancel, "this operation cannot be canceled"}
	errNoAttribute  = &refusal{noSuchAttribute, "the entry has no such attribute"}
	errUnknownType  = &refusal{undefinedAttributeType, "unknown attribute type"}
	errNoComparison = &refusal{inappropriateMatching, "this attribute cannot be compared"}
	errBusy         = &refusal{busy, "too many searches from this address, or too many that find nothing; slow down"}
	errNoTree       = &refusal{unavailable, "nothing is published yet"}
	errListing      = &refusal{unwillingToPerform, "anonymous search needs a filter that names the address: (mail=user@example.org), or up to four of them in an OR"}
	errReadOnly     = &refusal{unwillingToPerform, "the directory is read-only"}
	errInternal     = &refusal{other, "internal error"}
)

var (
	// errWrite says that an answer could not be written: the connection is done.
	errWrite = errors.New("answer could not be written")
	// errLong says that a request may take long, or has a long answer, and is to be
	// served again by a goroutine of its own.
	errLong = errors.New("the request may take long")
	// errPage says that the page is full and there is more.
	errPage = errors.New("the page is full")
)

// disconnects tells whether an error ends the connection: RFC 4511 §4.1.1
// demands it where the encoding is found to be incorrect.
func disconnects(err error) bool {
	for _, malformed := range []error{ber.ErrSyntax, ber.ErrShort, ber.ErrTooLong, ber.ErrTooDeep, ber.ErrTooMany} {
		if errors.Is(err, malformed) {
			return true
		}
	}
	return false
}

// result is an LDAPResult (RFC 4511 §4.1.9).
type result struct {
	code    resultCode
	matched string
	text    string
}

// resultOf is the one place where an error becomes a result code.
func resultOf(err error) result {
	if err == nil {
		return result{}
	}
	var r *refusal
	if errors.As(err, &r) {
		return result{code: r.code, text: r.text}
	}
	var missing *dit.NoSuchObject
	if errors.As(err, &missing) {
		return result{code: noSuchObject, matched: missing.Matched}
	}
	if errors.Is(err, dit.ErrDN) {
		return result{code: invalidDNSyntax, text: err.Error()}
	}
	return result{code: other, text: "internal error"}
}

var (
	tagExtendedResponse = ber.App(24, true)
	tagResponseName     = ber.Context(10, false)
	tagResponseValue    = ber.Context(11, false)
)

// extras is what an ExtendedResponse adds to an LDAPResult (RFC 4511 §4.12), and
// what stands behind any response.
type extras struct {
	name     string
	hasValue bool   // an empty value is not an absent one
	controls []byte // encoded, with their tag
}

// appendResult appends a whole message with a result under the response tag.
func appendResult(dst []byte, id int32, tag ber.Tag, r result, x *extras) []byte {
	n := 3 + dit.Size(len(r.matched)) + dit.Size(len(r.text))
	if x.name != "" {
		n += dit.Size(len(x.name))
	}
	if x.hasValue {
		n += dit.Size(0)
	}
	dst = appendEnvelope(dst, id, dit.Size(n)+len(x.controls))
	dst = ber.AppendHeader(dst, tag, n)
	dst = append(ber.AppendHeader(dst, ber.Enumerated, 1), byte(r.code))
	dst = appendText(dst, ber.OctetString, r.matched)
	dst = appendText(dst, ber.OctetString, r.text)
	if x.name != "" {
		dst = appendText(dst, tagResponseName, x.name)
	}
	if x.hasValue {
		dst = ber.AppendHeader(dst, tagResponseValue, 0)
	}
	return append(dst, x.controls...)
}

func appendText(dst []byte, tag ber.Tag, s string) []byte {
	return append(ber.AppendHeader(dst, tag, len(s)), s...)
}

// appendEnvelope begins an LDAPMessage whose protocolOp has size octets.
func appendEnvelope(dst []byte, id int32, size int) []byte {
	n := 1
	for x := id; x > 127; x >>= 8 {
		n++
	}
	dst = ber.AppendHeader(dst, ber.Sequence, dit.Size(n)+size)
	dst = ber.AppendHeader(dst, ber.Integer, n)
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(id>>(8*i)))
	}
	return dst
}

// oidDisconnection names the notice of disconnection (RFC 4511 §4.4.1).
const oidDisconnection = "1.3.6.1.4.1.1466.20036"

func appendNotice(dst []byte, code resultCode, text string) []byte {
	return appendResult(dst, 0, tagExtendedResponse, result{code: code, text: text}, &extras{name: oidDisconnection})
}
