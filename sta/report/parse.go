package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// ErrNotReport says that a message is no report at all. ErrMalformed says that
// it is one, but not one that can be understood; nobody answers it either.
var (
	ErrNotReport = errors.New("no mail system report")
	ErrMalformed = errors.New("mail system report that cannot be understood")
)

// The kinds of report.
const (
	KindMDN = "mdn"
	KindDSN = "dsn"
)

// Notification is what a report says. Fields that the report lacks are zero.
type Notification struct {
	Kind              string // KindMDN or KindDSN
	MessageID         string // of the report itself, without brackets
	OriginalMessageID string // of the message it is about, without brackets
	Recipient         direct.Address
	Disposition       string // of AS 3.1.1, Deleted, Denied or Other; "": not stated. A DSN with Action failed is Failed
	Modifiers         []string
	Action, Status    string // of a DSN, for Recipient
	Reason            string // Failure, Error, Warning, or the comment of Status and Diagnostic-Code: the peer's words, for people only
	Reporter          string // Reporting-UA or Reporting-MTA
	FinalDestination  bool   // FinalDestinationField is there
	Recipients        []Recipient
	Oddities          []string // what a strict reader would not have taken, for the log
}

// Recipient is what a report says about one recipient. An MDN has one, a DSN any number.
type Recipient struct {
	Address        direct.Address
	Action, Status string
	Disposition    string
	Reason         string
}

// IsReport tells a report by its header: any multipart/report, whatever its
// report-type and however broken (AS 3.0: a report never answers a report), and
// the bare machine-readable types.
func IsReport(h mail.Header) bool { return h.IsReport() }

// kindOf tells what a machine-readable part is.
func kindOf(mediaType string) string {
	switch strings.ToLower(mediaType) {
	case mail.TypeDispositionNotification, mail.TypeGlobalDispositionNotification:
		return KindMDN
	case mail.TypeDeliveryStatus, mail.TypeGlobalDeliveryStatus:
		return KindDSN
	}
	return ""
}

// Parse reads a report, which must be the message that a signature was verified
// over. It understands what other implementations are known to send: names in
// any case, white space before the colon, values folded anywhere, fields in the
// header of their part, identifiers with and without brackets, and a Disposition
// with any spacing or none at all. Errors wrap ErrNotReport or ErrMalformed.
func Parse(msg []byte) (Notification, error) {
	h, body, err := mail.Split(msg)
	if err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrNotReport, err)
	}
	if !IsReport(h) {
		return Notification{}, ErrNotReport
	}
	n := Notification{}
	n.MessageID, _ = mail.MessageID(h.Get("Message-ID"))
	part, err := n.machinePart(h, body)
	if err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	content, err := mail.DecodeBody(part.Header, part.Body)
	if err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	groups, err := n.readGroups(content)
	if err != nil {
		return Notification{}, err
	}
	if n.Kind == KindMDN {
		n.readMDN(part.Header, groups)
	} else {
		n.readDSN(part.Header, groups)
	}
	n.correlate(h)
	return n, nil
}

// machinePart finds the part that programs read: the second by RFC 6522 §3,
// wherever it stands for us.
func (n *Notification) machinePart(h mail.Header, body []byte) (mail.Part, error) {
	mediaType, params, err := h.ContentType()
	if err != nil {
		return mail.Part{}, err
	}
	if n.Kind = kindOf(mediaType); n.Kind != "" {
		n.odd("the report is not in a multipart/report")
		return mail.Part{Header: h, Body: body}, nil
	}
	parts, err := mail.SplitMultipart(body, params["boundary"], mail.Limits{})
	if errors.Is(err, mail.ErrUnterminated) {
		n.odd("the multipart is not closed")
	} else if err != nil {
		return mail.Part{}, err
	}
	for _, p := range parts {
		partType, _, err := p.Header.ContentType()
		if err != nil {
			continue
		}
		if n.Kind = kindOf(partType); n.Kind != "" {
			if want := strings.ToLower(params["report-type"]); kindOf("message/"+want) != n.Kind {
				n.odd("report-type does not name the machine-readable part")
			}
			return p, nil
		}
	}
	return mail.Part{}, errors.New("no machine-readable part")
}

// odd notes an oddity once.
func (n *Notification) odd(what string) {
	if !slices.Contains(n.Oddities, what) {
		n.Oddities = append(n.Oddities, what)
	}
}

// readMDN reads RFC 3798 §3.1. Empty lines between its fields mean nothing.
func (n *Notification) readMDN(partHeader mail.Header, groups []mail.Header) {
	var f mail.Header
	for _, g := range groups {
		f = append(f, g...)
	}
	if len(groups) > 1 {
		n.odd("empty lines between the fields")
	}
	if !f.Has("Disposition") && !f.Has("Final-Recipient") && partHeader.Has("Disposition") {
		n.odd("the fields stand in the header of the part")
		f = append(f, partHeader...)
	}
	n.Reporter = f.Get("Reporting-UA")
	n.FinalDestination = f.Has(FinalDestinationField)
	n.Recipient = n.recipient(f)
	n.Disposition, n.Modifiers = n.disposition(f)
	n.Reason = reason(f, "Failure", "Error", "Warning")
	n.OriginalMessageID = n.identifier(f, "Original-Message-ID")
	n.Recipients = []Recipient{{Address: n.Recipient, Disposition: n.Disposition, Reason: n.Reason}}
}

// disposition reads RFC 3798 §3.2.6: mode "/" mode ";" type [ "/" modifiers ].
func (n *Notification) disposition(f mail.Header) (string, []string) {
	v := strings.ToLower(f.Get("Disposition"))
	if v == "" {
		n.odd("no Disposition")
		return "", nil
	}
	if modes, rest, ok := strings.Cut(v, ";"); ok {
		v = rest
		if strings.TrimSpace(modes) == "" {
			n.odd("no disposition mode")
		}
	} else {
		n.odd("no disposition mode")
	}
	name, rest, _ := strings.Cut(v, "/")
	var modifiers []string
	for m := range strings.SplitSeq(rest, ",") {
		if m = strings.TrimSpace(m); m != "" {
			modifiers = append(modifiers, m)
		}
	}
	name, _, _ = strings.Cut(strings.TrimSpace(name), " ") // a comment may follow
	switch name {
	case Processed, Dispatched, Displayed, Failed, Deleted, Denied:
	default:
		n.odd("unknown disposition type")
		name = Other
	}
	for _, m := range modifiers {
		// RFC 3798 §3.2.6.3: an error prevented the successful processing of the message.
		if m == "error" || m == "failure" {
			if !f.Has("Error") && !f.Has("Failure") {
				n.odd("an error without the field that explains it")
			}
			name = Failed
		}
	}
	return name, modifiers
}

// readDSN reads RFC 3464 §2.1: a group about the message, then one for each
// recipient.
func (n *Notification) readDSN(partHeader mail.Header, groups []mail.Header) {
	if len(groups) == 0 && partHeader.Has("Action") {
		n.odd("the fields stand in the header of the part")
		groups = []mail.Header{partHeader}
	}
	var whole mail.Header // fields about the message
	for i, g := range groups {
		if !g.Has("Final-Recipient") && !g.Has("Original-Recipient") && !g.Has("Action") {
			if i > 0 {
				n.odd("a group that is about no recipient")
			}
			whole = append(whole, g...)
			continue
		}
		if i == 0 {
			n.odd("no empty line before the first recipient")
			whole = append(whole, g...)
		}
		r := Recipient{Address: n.recipient(g), Action: strings.ToLower(strings.TrimSpace(g.Get("Action"))), Disposition: Other}
		if r.Action == "failed" {
			r.Disposition = Failed
		}
		r.Status, r.Reason = status(g)
		n.Recipients = append(n.Recipients, r)
	}
	n.Reporter = whole.Get("Reporting-MTA")
	n.OriginalMessageID = n.identifier(whole, "X-Original-Message-ID")
	if len(n.Recipients) == 0 {
		n.odd("no recipient")
		return
	}
	first := n.Recipients[0]
	n.Recipient, n.Action, n.Status, n.Reason, n.Disposition = first.Address, first.Action, first.Status, first.Reason, first.Disposition
}

// status reads "5.2.2 (mailbox full)" (RFC 3464 §2.3.4, AS 3.3) and what the
// remote server said.
func status(g mail.Header) (code, why string) {
	v := strings.TrimSpace(g.Get("Status"))
	code, rest, _ := strings.Cut(v, "(")
	code = strings.TrimSpace(code)
	rest = strings.TrimSuffix(strings.TrimSpace(rest), ")")
	why = mail.DecodeText(strings.NewReplacer(`\\`, `\`, `\(`, `(`, `\)`, `)`).Replace(rest))
	if _, said, ok := strings.Cut(g.Get("Diagnostic-Code"), ";"); ok {
		said = strings.TrimSpace(mail.DecodeText(said))
		if why != "" && said != "" {
			why += "; "
		}
		why += said
	}
	return code, shorten(why)
}

// recipient reads "rfc822; bob@b.example" (RFC 3798 §3.2.4, RFC 3464 §2.3.2)
// with and without the type, brackets and comments.
func (n *Notification) recipient(f mail.Header) direct.Address {
	for _, name := range []string{"Final-Recipient", "Original-Recipient"} {
		v := f.Get(name)
		if kind, rest, ok := strings.Cut(v, ";"); ok && !strings.Contains(kind, "@") {
			v = rest
		}
		if list, err := mail.ParseAddressList(v); err == nil && len(list) > 0 {
			return list[0]
		}
	}
	n.odd("no recipient that is an address")
	return direct.Address{}
}

func (n *Notification) identifier(f mail.Header, name string) string {
	v := f.Get(name)
	id, _ := mail.MessageID(v)
	if id != "" && !strings.Contains(v, "<") {
		n.odd("identifier without angle brackets")
	}
	return id
}

// correlate finds the original message by the report's own header where its
// fields do not name it (AS 3.1.2: In-Reply-To, for legacy systems).
func (n *Notification) correlate(h mail.Header) {
	if n.OriginalMessageID != "" {
		return
	}
	n.odd("the original message is named by In-Reply-To or not at all")
	n.OriginalMessageID, _ = mail.MessageID(h.Get("In-Reply-To"))
}

// reason joins the explanations that a notification holds.
func reason(f mail.Header, names ...string) string {
	var all []string
	for _, name := range names {
		for _, v := range f.All(name) {
			if v != "" {
				all = append(all, mail.DecodeText(v))
			}
		}
	}
	return shorten(strings.Join(all, "; "))
}

// shorten makes one bounded line of a peer's words.
func shorten(s string) string {
	s = mail.OneLine(s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}
