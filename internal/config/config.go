// Package config reads the operator's file.
//
// TOML text in, a validated Config out; every error is one line with
// file:line, what is wrong and what to do. Unknown keys are errors that name
// the nearest known key. The file is read once and never rewritten; state
// belongs to the store. The daemon maps a Config to the Options of each
// package; the tool reads the same file to find the daemon's socket and, for
// discovery without a daemon, the tables resolver and policy.
//
// Sources: TOML 1.0.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// Config is the whole file. The comments are printed by Print.
type Config struct {
	DataDir  string   `toml:"data_dir" comment:"Everything that must survive a restart lives here: store, spool, mailboxes, socket."`
	Node     Node     `toml:"node" comment:"Who this node is."`
	DNS      DNS      `toml:"dns" comment:"The authoritative DNS server. UDP and TCP on each address."`
	LDAP     LDAP     `toml:"ldap" comment:"The LDAP directory of published certificates."`
	HTTP     HTTP     `toml:"http" comment:"Public HTTP: serves the certificates that CERT records of type IPKIX point to, and nothing else."`
	Admin    Admin    `toml:"admin" comment:"Where directctl and monitoring reach the node."`
	TLS      TLS      `toml:"tls" comment:"The certificate for STARTTLS on the SMTP listeners, for ldap.listen_tls and dns.listen_tls."`
	Keys     Keys     `toml:"keys" comment:"The master key that seals private keys at rest."`
	Resolver Resolver `toml:"resolver" comment:"How other people's certificates and mail servers are looked up."`
	SMTP     SMTP     `toml:"smtp" comment:"Where mail comes in."`
	Delivery Delivery `toml:"delivery" comment:"Where mail goes out to."`
	Limits   Limits   `toml:"limits" comment:"Who is not throttled."`
	Policy   Policy   `toml:"policy" comment:"What is demanded of certificates and messages."`

	Log Log `toml:"log" comment:"JSON lines on standard output."`

	path  string // where the values come from, for At
	lines lines
}

// Node is the table [node].
type Node struct {
	Hostname string `toml:"hostname" comment:"Greeting, Received, Reporting-UA, default SOA MNAME and MX target."`
}

// DNS is the table [dns].
type DNS struct {
	Listen    []string `toml:"listen" comment:"HOST:PORT; port 53 needs CAP_NET_BIND_SERVICE."`
	ListenTLS []string `toml:"listen_tls" comment:"DNS over TLS, usually port 853; needs [tls]."`
	CertForm  string   `toml:"cert_form" comment:"pkix: CERT records hold the certificate · ipkix: they hold its URL on [http], which many peers do not read · both"`
	UDPCert   string   `toml:"udp_cert" comment:"cookie: CERT over UDP only to a client with a valid DNS cookie, else TC=1 · always · never"`
	UDPSize   int      `toml:"udp_size" comment:"Octets of an answer by UDP at most. More than 1232 is for networks of one's own, where fragments arrive."`

	Rate           int    `toml:"rate" comment:"Answers a second by UDP to one address without a valid cookie; what is over is answered with TC=1. 0: no limit."`
	AbsenceRate    int    `toml:"absence_rate" comment:"Of those, answers that a name does not exist. 0: no limit of their own."`
	TCPConnections int    `toml:"tcp_connections" comment:"Open at once by TCP and TLS, in all."`
	TCPPerAddress  int    `toml:"tcp_per_address" comment:"Of those, of one IPv4 address or IPv6 /64."`
	CookieSecret   string `toml:"cookie_secret_file" comment:"16 octets, or 32 hex digits; mode 0400 or 0600. All servers behind one address share it. Empty: one is drawn at random and replaced daily."`
	QueryLog       string `toml:"query_log" comment:"off, or 1/N: one of N queries leaves a line with its type, result, size and network. SIGHUP reads it again."`
	QueryLogNames  bool   `toml:"query_log_names" comment:"With the name that was asked for. The names in a Direct zone are people's addresses. SIGHUP reads it again."`
}

// LDAP is the table [ldap].
type LDAP struct {
	Listen    []string `toml:"listen"`
	ListenTLS []string `toml:"listen_tls" comment:"LDAP over TLS; needs [tls]."`
	Anonymous string   `toml:"anonymous" comment:"exact: only filters that pin mail by equality · list: for the clients of list_allow any filter, so that they may list all addresses"`
	ListAllow []string `toml:"list_allow" comment:"CIDRs whose clients may list where anonymous is list. All others are answered as with exact."`

	Rate        int `toml:"rate" comment:"Searches a second of one IPv4 address or IPv6 /64; what is over is answered with busy (51). A burst of five seconds' worth passes."`
	MissRate    int `toml:"miss_rate" comment:"Of those, that find nothing: guesses at addresses."`
	Connections int `toml:"connections" comment:"Open at once, in all."`
	PerAddress  int `toml:"per_address" comment:"Of those, of one IPv4 address or IPv6 /64."`
}

// HTTP is the table [http].
type HTTP struct {
	Listen []string `toml:"listen" comment:"HOST:PORT; empty: off. Plain HTTP, as those who fetch certificates speak it."`
	URL    string   `toml:"url" comment:"Where others reach it, such as http://certs.example.org/; goes into CERT records."`
}

// BaseURL is URL with a slash at its end, or empty.
func (h HTTP) BaseURL() string {
	if h.URL == "" {
		return ""
	}
	return strings.TrimSuffix(h.URL, "/") + "/"
}

// Admin is the table [admin].
type Admin struct {
	Socket string `toml:"socket" comment:"Unix socket for directctl, mode 0600; relative to data_dir."`
	Listen string `toml:"listen" comment:"HOST:PORT of /livez, /readyz and /metrics; empty = off. A loopback address, unless allow_remote is set."`
	Remote bool   `toml:"allow_remote" comment:"Let listen be an address that other machines reach: nobody is asked who he is there."`

	MaxImport int64 `toml:"max_import_bytes" comment:"Octets of the files of one import; a zone text waits in data_dir while it is read."`
}

// TLS is the table [tls].
type TLS struct {
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
}

// Keys is the table [keys].
type Keys struct {
	MasterKeyFile string `toml:"master_key_file" comment:"32 octets, or 64 hex digits; mode 0400. Empty: data_dir/master.key, made at the first start. credential:NAME: a systemd credential."`
}

// Resolver is the table [resolver].
type Resolver struct {
	Servers []string `toml:"servers" comment:"HOST:PORT; empty: the system's resolv.conf."`
	Timeout Duration `toml:"timeout" comment:"For one discovery step."`
	Stub    []Stub   `toml:"stub" comment:"Tables [[resolver.stub]] with domain and servers: ask these for the domain and below, before anything else."`
	Fetch   Fetch    `toml:"fetch"`
}

// Stub is one table [[resolver.stub]].
type Stub struct {
	Domain  string   `toml:"domain"`
	Servers []string `toml:"servers"`
}

// Fetch is the table [resolver.fetch].
type Fetch struct {
	Allow []string `toml:"allow" comment:"CIDRs that AIA, CRL, OCSP, IPKIX and bundle URLs may reach although not public, on any port."`
	Ports []int    `toml:"ports" comment:"Ports of public addresses that they may reach."`
	HTTPS bool     `toml:"https" comment:"Fetch issuers, lists and answers of responders by https too. Trust bundles and IPKIX always may."`
}

// SMTP is the table [smtp].
type SMTP struct {
	Listen          []string `toml:"listen" comment:"From other STAs (MX)."`
	Submission      []string `toml:"submission" comment:"From the organization's own users and systems."`
	SubmissionAllow []string `toml:"submission_allow" comment:"CIDRs that may submit; everybody else is turned away at connect."`
	MaxMessageBytes int64    `toml:"max_message_bytes" comment:"Octets of one message."`
}

// Delivery is the table [delivery].
type Delivery struct {
	Port     int        `toml:"port" comment:"Remote SMTP port."`
	Mailbox  string     `toml:"mailbox" comment:"maildir:DIR, a Maildir per address below it; DIR is relative to data_dir."`
	Retry    []Duration `toml:"retry" comment:"Waits between attempts; the last one repeats."`
	Lifetime Duration   `toml:"lifetime" comment:"After this long a message is given up and its sender told; 2h or more."`
	Archive  string     `toml:"archive" comment:"Keep every inbound message as it crossed the wire, still encrypted, in this folder; empty = off."`
}

// Limits is the table [limits].
type Limits struct {
	Exempt []string `toml:"exempt" comment:"Addresses that no rate, connection or slot limit throttles."`
}

// Policy is the table [policy].
type Policy struct {
	Profile      string `toml:"profile" comment:"as-1.2 · as-1.3 (stricter: wrapped only, no SHA-1, every RCPT TO in the inner To or Cc)"`
	KeyTransport string `toml:"key_transport" comment:"How content keys are encrypted to peers: oaep-sha1 · oaep-sha256 · pkcs1-v1.5"`

	Revocation      string         `toml:"revocation" comment:"What a certificate is whose status cannot be learned: strict: refused · grace: refused, unless the last answer said good and ended less than revocation_grace ago, or the certificate names nobody to ask · soft: taken. Revoked ones are refused in each."`
	RevocationGrace Duration       `toml:"revocation_grace" comment:"How long after its end the last good answer still counts."`
	Domain          []DomainPolicy `toml:"domain" comment:"Tables [[policy.domain]] with domain, revocation and revocation_grace: for mail of this domain of ours."`
}

// DomainPolicy is one table [[policy.domain]].
type DomainPolicy struct {
	Domain          string   `toml:"domain"`
	Revocation      string   `toml:"revocation"`
	RevocationGrace Duration `toml:"revocation_grace"`
}

// QueryLogEvery is N of dns.query_log = "1/N", and 0 of "off".
func (d DNS) QueryLogEvery() (uint32, error) {
	if d.QueryLog == "off" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(d.QueryLog, "1/"), 10, 31)
	if err != nil || n == 0 || !strings.HasPrefix(d.QueryLog, "1/") {
		return 0, fmt.Errorf("%.40q; write off, or 1/N such as 1/1000 for one of a thousand queries", d.QueryLog)
	}
	return uint32(n), nil
}

// Log is the table [log].
type Log struct {
	Level string `toml:"level" comment:"debug · info · warn · error. debug has a line for each query and session, with names of people; warn and error leave out the audit of trust decisions and the query log. SIGHUP reads it again."`
}

// Duration is a time.Duration that reads and writes as "5s".
type Duration time.Duration

// UnmarshalText reads Go's duration syntax.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 5s, 10m or 48h", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText is the way back.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Default is the configuration of an empty file: loopback only, high ports.
func Default() Config {
	minutes := func(m ...time.Duration) (ds []Duration) {
		for _, v := range m {
			ds = append(ds, Duration(v*time.Minute))
		}
		return ds
	}
	return Config{
		DataDir:  "/var/lib/directd",
		Node:     Node{Hostname: "localhost.localdomain"},
		DNS:      DNS{Listen: []string{"127.0.0.1:5300"}, ListenTLS: []string{}, CertForm: "pkix", UDPCert: "cookie", UDPSize: 1232, Rate: 50, AbsenceRate: 10, TCPConnections: 1024, TCPPerAddress: 32, QueryLog: "off"},
		LDAP:     LDAP{Listen: []string{"127.0.0.1:3890"}, ListenTLS: []string{}, Anonymous: "exact", ListAllow: []string{}, Rate: 20, MissRate: 5, Connections: 8192, PerAddress: 8},
		HTTP:     HTTP{Listen: []string{}},
		Admin:    Admin{Socket: "admin.sock", MaxImport: maxImport},
		Resolver: Resolver{Servers: []string{}, Timeout: Duration(5 * time.Second), Fetch: Fetch{Allow: []string{}, Ports: []int{80, 443}}},
		SMTP: SMTP{
			Listen:          []string{"127.0.0.1:2525"},
			Submission:      []string{"127.0.0.1:2587"},
			SubmissionAllow: []string{"127.0.0.0/8", "::1/128"},
			// The Java reference implementation's gateway takes 38 MB; base64
			// twice (part and envelope) makes 36 MiB of wire from 20 MiB of files.
			MaxMessageBytes: 36 << 20,
		},
		Delivery: Delivery{Port: 25, Mailbox: "maildir:mail", Retry: minutes(1, 5, 15, 30, 60, 120, 240), Lifetime: Duration(48 * time.Hour)},
		Limits:   Limits{Exempt: []string{"127.0.0.0/8", "::1/128"}},
		Policy:   Policy{Profile: "as-1.2", KeyTransport: "oaep-sha1", Revocation: "grace", RevocationGrace: Duration(24 * time.Hour)},
		Log:      Log{Level: "info"},
	}
}

// maxImport is the most that zone text may have: 1.7 GB are a million
// certificates.
const maxImport = 2 << 30

// maxFile bounds the configuration file; the sample has 4 KB.
const maxFile = 1 << 20

// Load reads and validates a file. Errors are ready for the operator: one line
// (several unknown keys: one line each) with file:line, what, and what to do.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("%s: cannot read the configuration: %w; give its path with --config", path, errors.Unwrap(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("%s: cannot read the configuration: %w", path, err)
	}
	if len(text) > maxFile {
		return Config{}, fmt.Errorf("%s: longer than %d octets: this is no configuration file", path, maxFile)
	}
	return Parse(path, text)
}

// Parse is Load for text that was read already; path stands in errors, and
// relative file names in the file are relative to its folder where they are
// not relative to data_dir.
func Parse(path string, text []byte) (Config, error) {
	c := Default()
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, explain(path, err)
	}
	if c.DataDir != "" && !filepath.IsAbs(c.DataDir) {
		c.DataDir = filepath.Join(filepath.Dir(path), c.DataDir)
	}
	c.path, c.lines = path, positions(text)
	if err := c.validate(c.At); err != nil {
		return Config{}, err
	}
	return c, nil
}

// At gives "file:line: key" for a message about a value of the file.
func (c Config) At(key string) string {
	return fmt.Sprintf("%s:%d: %s", c.path, c.lines.line(key), key)
}

// explain turns a decoder's error into lines for the operator.
func explain(path string, err error) error {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		var lines []string
		for _, e := range strict.Errors {
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			lines = append(lines, fmt.Sprintf("%s:%d: %s: unknown key; %s", path, line, key, suggest(key)))
		}
		return errors.New(strings.Join(lines, "\n"))
	case errors.As(err, &decode):
		line, _ := decode.Position()
		return fmt.Errorf("%s:%d: %s; correct the line, `directd --print-config` shows every key with its form", path, line, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Print writes a configuration with every key and its comment.
func Print(w io.Writer, c Config) error {
	enc := toml.NewEncoder(w)
	enc.SetIndentTables(false)
	return enc.Encode(c)
}

// Path makes a file name of the configuration absolute: relative ones stand
// below data_dir.
func (c Config) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.DataDir, name)
}
