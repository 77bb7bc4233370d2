package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"directnode/internal/direct"
)

// validate holds every value against what its package can take. at gives
// "file:line: key" for messages.
func (c *Config) validate(at func(key string) string) error {
	checks := []func(func(string) string) error{
		c.validateNode, c.validateListeners, c.validateNetworks, c.validateResolver, c.validateDelivery, c.validateChoices, c.validatePolicy, c.validateTLS,
	}
	for _, check := range checks {
		if err := check(at); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateNode(at func(string) string) error {
	if c.DataDir == "" {
		return fmt.Errorf("%s: empty; name the folder that holds the node's state", at("data_dir"))
	}
	if _, err := direct.ParseDomain(c.Node.Hostname); err != nil {
		return fmt.Errorf("%s: %w; give the host's fully qualified name", at("node.hostname"), err)
	}
	if c.SMTP.MaxMessageBytes < 64<<10 || c.SMTP.MaxMessageBytes > 256<<20 {
		return fmt.Errorf("%s: %d lies outside of 65536 to 268435456", at("smtp.max_message_bytes"), c.SMTP.MaxMessageBytes)
	}
	if c.Admin.MaxImport < 1<<20 || c.Admin.MaxImport > maxImport {
		return fmt.Errorf("%s: %d lies outside of 1048576 to %d", at("admin.max_import_bytes"), c.Admin.MaxImport, int64(maxImport))
	}
	return nil
}

// keyed is a list with its key. Checks go through them in the order of the
// file, so that the same file always gives the same error.
type keyed struct {
	key  string
	list []string
}

func (c *Config) validateListeners(at func(string) string) error {
	for _, l := range []keyed{
		{"dns.listen", c.DNS.Listen}, {"dns.listen_tls", c.DNS.ListenTLS}, {"ldap.listen", c.LDAP.Listen}, {"ldap.listen_tls", c.LDAP.ListenTLS},
		{"smtp.listen", c.SMTP.Listen}, {"smtp.submission", c.SMTP.Submission}, {"http.listen", c.HTTP.Listen}, {"resolver.servers", c.Resolver.Servers},
	} {
		for _, addr := range l.list {
			if err := checkHostPort(addr); err != nil {
				return fmt.Errorf("%s: %w", at(l.key), err)
			}
		}
	}
	if err := c.validateAdmin(); err != nil {
		return fmt.Errorf("%s: %w", at("admin.listen"), err)
	}
	if err := c.validateHTTP(); err != nil {
		return fmt.Errorf("%s: %w", at("http.url"), err)
	}
	for _, l := range []keyed{{"dns.listen_tls", c.DNS.ListenTLS}, {"ldap.listen_tls", c.LDAP.ListenTLS}} {
		if len(l.list) > 0 && c.TLS.CertFile == "" {
			return fmt.Errorf("%s: needs a certificate; set tls.cert_file and tls.key_file", at(l.key))
		}
	}
	if err := c.validateLDAP(at); err != nil {
		return err
	}
	return c.validateDNS(at)
}

// validateLDAP holds the figures of the LDAP server against what it can take, and
// listing against a list of those who may: nobody lists by an oversight.
func (c *Config) validateLDAP(at func(string) string) error {
	if c.LDAP.Anonymous == "list" && len(c.LDAP.ListAllow) == 0 {
		return fmt.Errorf("%s: empty, so that nobody could list; name the networks that may, or set ldap.anonymous = \"exact\"", at("ldap.list_allow"))
	}
	return within(at, []figure{
		{"ldap.rate", c.LDAP.Rate, 1, 1_000_000},
		{"ldap.miss_rate", c.LDAP.MissRate, 1, 1_000_000},
		{"ldap.connections", c.LDAP.Connections, 16, maxConnections},
		{"ldap.per_address", c.LDAP.PerAddress, 1, maxConnections},
	})
}

// figure is a number that an operator may set, and its bounds.
type figure struct {
	key                string
	value, least, most int
}

func within(at func(string) string, figures []figure) error {
	for _, n := range figures {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("%s: %d lies outside of %d to %d", at(n.key), n.value, n.least, n.most)
		}
	}
	return nil
}

// maxConnections is what one process is given file descriptors for, with room
// for everything else.
const maxConnections = 100_000

// validateDNS holds the figures of the DNS server against what it can take.
func (c *Config) validateDNS(at func(string) string) error {
	if err := within(at, []figure{
		{"dns.udp_size", c.DNS.UDPSize, 512, 4096},
		{"dns.rate", c.DNS.Rate, 0, 1_000_000},
		{"dns.absence_rate", c.DNS.AbsenceRate, 0, 1_000_000},
		{"dns.tcp_connections", c.DNS.TCPConnections, 16, maxConnections},
		{"dns.tcp_per_address", c.DNS.TCPPerAddress, 1, maxConnections},
	}); err != nil {
		return err
	}
	if _, err := c.DNS.QueryLogEvery(); err != nil {
		return fmt.Errorf("%s: %w", at("dns.query_log"), err)
	}
	if c.DNS.QueryLogNames && c.DNS.QueryLog == "off" {
		return fmt.Errorf("%s: set, but dns.query_log is off; write dns.query_log = \"1/N\", or leave it out", at("dns.query_log_names"))
	}
	if _, err := c.CookieSecret(); err != nil {
		return fmt.Errorf("%s: %w", at("dns.cookie_secret_file"), err)
	}
	return nil
}

// maxURL bounds the URL: a CERT record has it once for each certificate, with
// an owner name and a fingerprint behind it.
const maxURL = 200

// validateHTTP holds the URL that goes into CERT records against what those who
// fetch it can use.
func (c *Config) validateHTTP() error {
	if c.HTTP.URL == "" {
		if c.DNS.CertForm == "ipkix" || c.DNS.CertForm == "both" {
			return fmt.Errorf("empty; dns.cert_form = %q needs the URL at which others reach http.listen, such as http://certs.example.org/", c.DNS.CertForm)
		}
		return nil
	}
	u, err := url.Parse(c.HTTP.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("%.60q is no URL of a host; write it like http://certs.example.org/", c.HTTP.URL)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("%.60q has more than a host and a path; write it like http://certs.example.org/", c.HTTP.URL)
	case len(c.HTTP.URL) > maxURL || strings.ContainsFunc(c.HTTP.URL, func(r rune) bool { return r < '!' || r > '~' }):
		return fmt.Errorf("%.60q is not 1 to %d printable ASCII characters", c.HTTP.URL, maxURL)
	case len(c.HTTP.Listen) == 0:
		return fmt.Errorf("set, but http.listen is empty; give the address that serves it, a proxy's target too")
	}
	return nil
}

// validateAdmin keeps what asks nobody who he is from other machines, unless
// the operator says that it is wanted.
func (c *Config) validateAdmin() error {
	if c.Admin.Listen == "" {
		return nil
	}
	if err := checkHostPort(c.Admin.Listen); err != nil {
		return err
	}
	if ap, err := netip.ParseAddrPort(c.Admin.Listen); err == nil && !ap.Addr().IsLoopback() && !c.Admin.Remote {
		return fmt.Errorf("%q is reached by other machines, and nobody is asked who he is; write 127.0.0.1:%d, or set admin.allow_remote = true where a firewall stands before it", c.Admin.Listen, ap.Port())
	}
	return nil
}

func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT; write it like 127.0.0.1:5300 or [::1]:5300", s)
	}
	if host == "" {
		return fmt.Errorf("%q names no address; write 0.0.0.0:%s or [::]:%s for all", s, port, port)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q: %q is no IP address", s, host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: %q is no port number", s, port)
	}
	return nil
}

func (c *Config) validateNetworks(at func(string) string) error {
	for _, l := range []keyed{{"resolver.fetch.allow", c.Resolver.Fetch.Allow}, {"smtp.submission_allow", c.SMTP.SubmissionAllow}, {"limits.exempt", c.Limits.Exempt}, {"ldap.list_allow", c.LDAP.ListAllow}} {
		if _, err := Prefixes(l.list); err != nil {
			return fmt.Errorf("%s: %w", at(l.key), err)
		}
	}
	return nil
}

// Prefixes reads CIDRs; a plain address stands for itself.
func Prefixes(list []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%q is no network; write it like 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// minDuration is shorter than anything that an operator means. A number
// without a unit reads as nanoseconds.
const minDuration = Duration(time.Millisecond)

func checkDuration(d Duration) error {
	if d < minDuration {
		return fmt.Errorf("%v is too short; write it with its unit, like \"5s\" or \"10m\"", time.Duration(d))
	}
	return nil
}

func (c *Config) validateResolver(at func(string) string) error {
	if err := checkDuration(c.Resolver.Timeout); err != nil {
		return fmt.Errorf("%s: %w", at("resolver.timeout"), err)
	}
	for i, s := range c.Resolver.Stub {
		key := fmt.Sprintf("resolver.stub[%d].", i)
		if _, err := direct.ParseDomain(s.Domain); err != nil {
			return fmt.Errorf("%s: %w", at(key+"domain"), err)
		}
		if len(s.Servers) == 0 {
			return fmt.Errorf("%s: no server; name at least one HOST:PORT", at(key+"servers"))
		}
		for _, addr := range s.Servers {
			if err := checkHostPort(addr); err != nil {
				return fmt.Errorf("%s: %w", at(key+"servers"), err)
			}
		}
	}
	return nil
}

// minLifetime leaves an inbound message attempts after the hour for which the
// agent holds it back for the sake of its notification; with less it could be
// given up while it waits.
const minLifetime = 2 * time.Hour

func (c *Config) validateDelivery(at func(string) string) error {
	if c.Delivery.Port < 1 || c.Delivery.Port > 65535 {
		return fmt.Errorf("%s: %d is no port number", at("delivery.port"), c.Delivery.Port)
	}
	kind, dir, _ := strings.Cut(c.Delivery.Mailbox, ":")
	if kind != "maildir" || dir == "" {
		return fmt.Errorf("%s: %q; this version delivers to maildir:DIR", at("delivery.mailbox"), c.Delivery.Mailbox)
	}
	if len(c.Delivery.Retry) == 0 {
		return fmt.Errorf("%s: needs at least one wait", at("delivery.retry"))
	}
	if err := checkDuration(slices.Min(c.Delivery.Retry)); err != nil {
		return fmt.Errorf("%s: %w", at("delivery.retry"), err)
	}
	if err := checkDuration(c.Delivery.Lifetime); err != nil {
		return fmt.Errorf("%s: %w", at("delivery.lifetime"), err)
	}
	if d := time.Duration(c.Delivery.Lifetime); d < minLifetime {
		return fmt.Errorf("%s: %v is too short: inbound mail waits up to an hour for the certificates of whom its notification goes to; give %v or more", at("delivery.lifetime"), d, minLifetime)
	}
	return nil
}

func (c *Config) validateChoices(at func(string) string) error {
	for _, choice := range []struct {
		key, value string
		allowed    []string
	}{
		{"dns.cert_form", c.DNS.CertForm, []string{"pkix", "ipkix", "both"}},
		{"dns.udp_cert", c.DNS.UDPCert, []string{"cookie", "always", "never"}},
		{"ldap.anonymous", c.LDAP.Anonymous, []string{"exact", "list"}},
		{"log.level", c.Log.Level, []string{"debug", "info", "warn", "error"}},
		{"policy.profile", c.Policy.Profile, []string{"as-1.2", "as-1.3"}},
		{"policy.revocation", c.Policy.Revocation, revocationModes},
		{"policy.key_transport", c.Policy.KeyTransport, []string{"oaep-sha1", "oaep-sha256", "pkcs1-v1.5"}},
	} {
		if !slices.Contains(choice.allowed, choice.value) {
			return fmt.Errorf("%s: %q; write one of %s", at(choice.key), choice.value, strings.Join(choice.allowed, ", "))
		}
	}
	return nil
}

// revocationModes are those of resolver/trust.
var revocationModes = []string{"strict", "grace", "soft"}

// maxGrace is longer than any list of the network counts: what is older says nothing about today.
const maxGrace = Duration(30 * 24 * time.Hour)

func (c *Config) validatePolicy(at func(string) string) error {
	grace := func(key string, d Duration) error {
		if d < 0 || d > maxGrace {
			return fmt.Errorf("%s: %v lies outside of 0s to %v", at(key), time.Duration(d), time.Duration(maxGrace))
		}
		return nil
	}
	for _, p := range c.Resolver.Fetch.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("%s: %d is no port number", at("resolver.fetch.ports"), p)
		}
	}
	if err := grace("policy.revocation_grace", c.Policy.RevocationGrace); err != nil {
		return err
	}
	for i, d := range c.Policy.Domain {
		key := fmt.Sprintf("policy.domain[%d].", i)
		if _, err := direct.ParseDomain(d.Domain); err != nil {
			return fmt.Errorf("%s: %w", at(key+"domain"), err)
		}
		if d.Revocation != "" && !slices.Contains(revocationModes, d.Revocation) {
			return fmt.Errorf("%s: %q; write one of %s", at(key+"revocation"), d.Revocation, strings.Join(revocationModes, ", "))
		}
		if err := grace(key+"revocation_grace", d.RevocationGrace); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateTLS(at func(string) string) error {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return fmt.Errorf("%s: cert_file and key_file belong together; set both or none", at("tls"))
	}
	for _, f := range []struct{ key, name string }{{"tls.cert_file", c.TLS.CertFile}, {"tls.key_file", c.TLS.KeyFile}} {
		if f.name == "" {
			continue
		}
		if _, err := os.Stat(c.Path(f.name)); err != nil {
			return fmt.Errorf("%s: %s cannot be read: %w; put the PEM file there or correct the name", at(f.key), c.Path(f.name), err)
		}
	}
	return c.validateMasterKey(at)
}

func (c *Config) validateMasterKey(at func(string) string) error {
	name := c.Keys.MasterKeyFile
	if name == "" {
		return nil
	}
	if credential, ok := strings.CutPrefix(name, "credential:"); ok {
		switch {
		case credential == "":
			return fmt.Errorf("%s: credential: without a name; write credential:NAME as in the unit's LoadCredential", at("keys.master_key_file"))
		case credential == "." || credential == ".." || strings.ContainsRune(credential, '/'):
			return fmt.Errorf("%s: %q is no name of a credential; write credential:NAME as in the unit's LoadCredential", at("keys.master_key_file"), credential)
		}
		return nil
	}
	if _, err := os.Stat(c.Path(name)); err != nil {
		return fmt.Errorf("%s: %s cannot be read: %w; put the key file there, or make a new one with `directd --make-key %s` (keys sealed under the old one are lost then)",
			at("keys.master_key_file"), c.Path(name), err, c.Path(name))
	}
	return nil
}
