package fetch

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// target is a URL that passed every check that needs no look-up.
type target struct {
	url  *url.URL
	host string     // name in lower case without a final dot, or address; no port
	addr netip.Addr // valid if host is an address
	port uint16
	tls  bool
}

// parseTarget reads a URL as strictly as it can be read: whoever wrote it wants it to be read one way here and another way there.
// The refusal says what is wrong with it.
func parseTarget(raw string, https bool) (target, *Error) {
	if len(raw) > maxURL {
		return target{}, refused(raw, "a URL of %d characters, at most %d", len(raw), maxURL)
	}
	for i := range len(raw) {
		// RFC 3986 §2: what is not printable ASCII is no character of a URL, and the backslash is one only to browsers.
		if c := raw[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return target{}, refused(raw, "a character that no URL has")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, refused(raw, "it does not parse")
	}
	t := target{url: u}
	switch scheme := strings.ToLower(u.Scheme); {
	case scheme == "http":
		t.port = 80
	case scheme == "https" && https:
		t.port, t.tls = 443, true
	case scheme == "https":
		return target{}, refused(raw, "https is not fetched for this purpose unless the operator says so")
	default:
		return target{}, refused(raw, "the scheme %.20q is not fetched, http is", u.Scheme)
	}
	switch {
	case u.Opaque != "" || u.Host == "":
		return target{}, refused(raw, "it names no host")
	case u.User != nil:
		return target{}, refused(raw, "it has a user before the host")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 || p[0] == '0' {
			return target{}, refused(raw, "%.10q is no port", p)
		}
		t.port = uint16(n)
	}
	if why := t.setHost(u); why != "" {
		return target{}, refused(raw, "%s", why)
	}
	u.Fragment, u.RawFragment = "", ""
	return t, nil
}

// setHost reads the host: an address in its one canonical form, or a fully qualified name. Everything that some library somewhere
// takes for an address (octal, hexadecimal, one number, fewer than four) is refused as what it is not, a name.
func (t *target) setHost(u *url.URL) string {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		switch {
		case err != nil || !addr.Is6():
			return "no IPv6 address stands in the brackets"
		case addr.Zone() != "":
			return "the address names an interface of this machine"
		}
		t.host, t.addr = addr.String(), addr
		return ""
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if !addr.Is4() {
			return "an IPv6 address without brackets"
		}
		t.host, t.addr = addr.String(), addr
		return ""
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if why := nameFault(name); why != "" {
		return why
	}
	t.host = name
	// What goes into the Host field and into TLS is what was looked up.
	u.Host = name
	if t.port != defaultPort(t.tls) {
		u.Host = name + ":" + strconv.Itoa(int(t.port))
	}
	return ""
}

func defaultPort(tls bool) uint16 {
	if tls {
		return 443
	}
	return 80
}

// nameFault says why a host name is not looked up, or nothing.
func nameFault(name string) string {
	const longest = 253 // RFC 1035 §2.3.4 in presentation form
	if name == "" || len(name) > longest {
		return "it names no host"
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "the host is no name of the DNS"
		}
	}
	last := labels[len(labels)-1]
	switch {
	case strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x"):
		// Some libraries take http://2130706433/, http://0x7f.1/ and http://0177.0.0.1/ for loopback. No top-level domain is a number (RFC
		// 3696 §2).
		return "the host is a number that some would take for an address"
	case last == "localhost" || last == "local" || last == "onion":
		return "the host is a name that the DNS does not answer for (RFC 6761, RFC 6762, RFC 7686)"
	case len(labels) == 1:
		return "the host has one label only, which a search list could complete"
	}
	return ""
}
