package admin

import (
	"time"

	"directnode/resolver"
)

// Requests and answers of the orders. The JSON names are stable.

// DomainRequest names a domain.
type DomainRequest struct {
	Domain    string   `json:"domain"`
	Addresses []string `json:"addresses,omitempty"` // add: of the node's host name, where it lies inside the domain
	Servers   []string `json:"servers,omitempty"`   // add: further name servers, HOST or HOST=ADDRESS,ADDRESS where HOST lies inside the domain
}

// Domain is one of the node's domains.
type Domain struct {
	Domain       string        `json:"domain"`
	Created      time.Time     `json:"created"`
	Certificates int           `json:"certificates"`
	Keys         int           `json:"keys"`
	Anchors      int           `json:"anchors"`
	Records      []string      `json:"records,omitempty"`    // show: zone text, a line each
	Delegation   []string      `json:"delegation,omitempty"` // show: what to hand to the parent
	DNSSEC       []string      `json:"dnssec,omitempty"`     // show: what comes next for the keys of a signed domain
	Transfer     *Transfer     `json:"transfer,omitempty"`   // show: what it has to do with other name servers
	LDAP         []DoctorCheck `json:"ldap,omitempty"`       // show: how LDAP is found
}

// File is a file that the tool read for the daemon.
type File struct {
	Name  string `json:"name"`
	Data  []byte `json:"data"`
	Fault string `json:"fault,omitempty"` // why the tool could not read it
}

// ImportRequest hands files over.
type ImportRequest struct {
	Files      []File   `json:"files"`
	Publish    []string `json:"publish,omitempty"` // dns, ldap, none; empty: both, and what is here stays published as it is
	DryRun     bool     `json:"dry_run,omitempty"`
	Replace    bool     `json:"replace,omitempty"` // cert: what is taken is published in the place of what was there
	Strict     bool     `json:"strict,omitempty"`  // zone, ldif: refuse certificates that do not bind to their owner
	Origin     string   `json:"origin,omitempty"`  // zone
	Passphrase string   `json:"passphrase,omitempty"`
}

func (r ImportRequest) size() (n int64) {
	for _, f := range r.Files {
		n += int64(len(f.Name) + len(f.Data))
	}
	return n
}

// ImportItem says what one thing in a file was taken for and what became of it.
type ImportItem struct {
	File   string `json:"file"`
	Kind   string `json:"kind"` // certificate, key, anchor, record, entry, file
	Owner  string `json:"owner,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	State  string `json:"state"` // taken, known, warning, refused, replaced
	Reason string `json:"reason,omitempty"`
}

// ImportResult is the whole account of an import.
type ImportResult struct {
	Items    []ImportItem `json:"items"`
	Omitted  int          `json:"omitted,omitempty"` // things that were taken and are not listed
	Plan     *ImportPlan  `json:"plan,omitempty"`    // zone, ldif
	Taken    int          `json:"taken"`
	Refused  int          `json:"refused"`
	Warned   int          `json:"warned"`
	Replaced int          `json:"replaced,omitempty"` // cert: no longer published
	DryRun   bool         `json:"dry_run,omitempty"`
	Code     int          `json:"code"`
}

// CertificateQuery selects certificates: by owner, by fingerprint, or all.
type CertificateQuery struct {
	Owner  string `json:"owner,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// Certificate is a published certificate.
type Certificate struct {
	Owner     string    `json:"owner"`
	SHA256    string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Publish   []string  `json:"publish"`
	HasKey    bool      `json:"has_key"`
	Bound     bool      `json:"bound"`
	PEM       string    `json:"pem,omitempty"` // show, export
}

// AnchorRequest adds or removes a trust anchor of a domain.
type AnchorRequest struct {
	Domain string `json:"domain"`
	File   File   `json:"file,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // remove
	In     bool   `json:"in"`
	Out    bool   `json:"out"`
}

// Anchor is a trust anchor of a domain.
type Anchor struct {
	Domain   string    `json:"domain"`
	SHA256   string    `json:"sha256"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	In       bool      `json:"in"`
	Out      bool      `json:"out"`
	Bundle   string    `json:"bundle,omitempty"` // that it came with
}

// ExportRequest selects what to export.
type ExportRequest struct {
	Domain string `json:"domain"`
	Format string `json:"format,omitempty"`
}

// Text is an exported text.
type Text struct {
	Text string `json:"text"`
}

// MessageQuery selects messages of the mail's story.
type MessageQuery struct {
	ID    string `json:"id,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// Message is the story of one message.
type Message struct {
	Direction  string      `json:"direction"` // out, in
	MessageID  string      `json:"message_id"`
	From       string      `json:"from"`
	At         time.Time   `json:"at"`
	Recipients []Recipient `json:"recipients"`
	// Notifications that speak of nobody whom the message went to. None of them
	// counts.
	Notifications []Notification `json:"notifications,omitempty"`
}

// Recipient is what became of a message for one recipient.
type Recipient struct {
	Address       string         `json:"address"`
	State         string         `json:"state"` // refused, queued, sent, processed, dispatched, failed, timed_out, delivered
	Reason        string         `json:"reason,omitempty"`
	Notifications []Notification `json:"notifications,omitempty"`
}

// Notification is one that arrived about a message of ours.
type Notification struct {
	MessageID   string    `json:"message_id"`
	Disposition string    `json:"disposition"`
	At          time.Time `json:"at"`
	Counted     bool      `json:"counted"`
	Reason      string    `json:"reason,omitempty"`    // of a failure, or why it does not count
	Signer      string    `json:"signer,omitempty"`    // whom its signature is bound to
	Recipient   string    `json:"recipient,omitempty"` // whom it speaks of, where that is not clear
}

// QueueRequest names an item of the queue.
type QueueRequest struct {
	ID string `json:"id"`
}

// QueueItem is a message that waits.
type QueueItem struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`  // inbound, publish, outbound
	State     string    `json:"state"` // due, held, give up
	MessageID string    `json:"message_id,omitempty"`
	From      string    `json:"from"`
	To        []string  `json:"to,omitempty"`
	Attempts  int       `json:"attempts"`
	Created   time.Time `json:"created"`
	Next      time.Time `json:"next"`
	LastError string    `json:"last_error,omitempty"`
}

// DiscoverResponse is the report and, where it was asked for, the record from which it can be made again.
type DiscoverResponse struct {
	resolver.Report
	Record *resolver.Record `json:"record,omitempty"`
}

// DiscoverRequest asks the node to discover with its own resolver and anchors.
type DiscoverRequest struct {
	Address string `json:"address"`
	As      string `json:"as,omitempty"` // whose anchors decide; empty: the node's only domain
	Record  bool   `json:"record,omitempty"`
}

// Check is the result of a check of the store.
type Check struct {
	Problems []string `json:"problems"`
	Code     int      `json:"code"`
}

// Finding is one thing about a zone that its administrator should know.
type Finding struct {
	Level    string `json:"level"` // error, warning
	Name     string `json:"name"`  // of the check
	Citation string `json:"citation"`
	What     string `json:"what"`
	Do       string `json:"do"`
}

// ZoneCheck is what a look at a zone found.
type ZoneCheck struct {
	Findings []Finding `json:"findings"`
	Code     int       `json:"code"`
}

// Status says who answers.
type Status struct {
	Hostname   string    `json:"hostname"`
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	Generation int64     `json:"generation"`
	Domains    int       `json:"domains"`
}

// Done is the answer of an order that has nothing to say but that it is done.
type Done struct {
	Done string `json:"done"`
}
