package admin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// Status says who answers.
func (s *Service) Status(context.Context, struct{}) (Status, error) {
	v := s.store.View()
	return Status{s.o.Hostname, s.o.Version, s.o.Started, v.Rev, len(v.Domains())}, nil
}

// AddDomain makes the node authoritative for a domain, with the records that a
// Health Domain needs (AS 1.1-f): SOA, NS, MX, and SRV for the node's LDAP
// listener.
func (s *Service) AddDomain(ctx context.Context, req DomainRequest) (Domain, error) {
	d, err := parseDomain(req.Domain)
	if err != nil {
		return Domain{}, err
	}
	addrs := s.o.Listen
	if len(req.Addresses) > 0 {
		if addrs, err = parseAddresses(req.Addresses); err != nil {
			return Domain{}, err
		}
	}
	servers, err := parseServers(d, s.o.Hostname, req.Servers)
	if err != nil {
		return Domain{}, err
	}
	records := zones.DefaultRecords(d, zones.DefaultOptions{Hostname: s.o.Hostname, Addresses: addrs, LDAPPort: s.o.LDAPPort, Servers: servers})
	_, err = s.store.Update(ctx, func(tx *store.Tx) error { return tx.AddDomain(d, records) })
	if err != nil {
		return Domain{}, storeFailure("the domain "+d.String()+" was not added", err)
	}
	return s.ShowDomain(ctx, DomainRequest{Domain: d.String()})
}

func parseAddresses(list []string) ([]netip.Addr, error) {
	addrs := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return nil, &Error{"DN-DOMAIN-002", CodeUsage, "the domain was not added", fmt.Sprintf("%q is no IP address", a), "give addresses like 192.0.2.1 or 2001:db8::1"}
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// parseServers reads the name servers that a domain has besides the node.
func parseServers(d direct.Domain, node string, list []string) ([]zones.NameServer, error) {
	refuse := func(cause, do string) ([]zones.NameServer, error) {
		return nil, &Error{"DN-DOMAIN-004", CodeUsage, "the domain was not added", cause, do}
	}
	var servers []zones.NameServer
	seen := map[direct.Domain]bool{}
	if own, err := direct.ParseDomain(node); err == nil {
		seen[own] = true
	}
	for _, text := range list {
		host, rest, given := strings.Cut(text, "=")
		name, err := direct.ParseDomain(host)
		switch {
		case err != nil:
			return refuse(fmt.Sprintf("%q is no host name: %v", host, err), "give a name server like ns2.example.org, or ns2."+d.String()+"=192.0.2.1,2001:db8::1 where its name lies inside the domain")
		case seen[name]:
			return refuse(name.String()+" is there already", "name each further server once")
		case d.Contains(name.DNSName()) != given:
			return refuse("the addresses of "+name.String()+" are needed if its name lies inside "+d.String()+", and only then", "write ns2."+d.String()+"=192.0.2.1, or ns2.example.org")
		}
		seen[name] = true
		server := zones.NameServer{Name: name.DNSName()}
		if given {
			if server.Addresses, err = parseAddresses(strings.Split(rest, ",")); err != nil {
				return nil, err
			}
		}
		servers = append(servers, server)
	}
	return servers, nil
}

func parseDomain(s string) (direct.Domain, error) {
	d, err := direct.ParseDomain(s)
	if err != nil {
		return d, &Error{"DN-DOMAIN-001", CodeUsage, "no such name", err.Error(), "give a fully qualified domain name such as direct.example.org"}
	}
	return d, nil
}

// domainData gives a domain of ours.
func (s *Service) domainData(name string) (*store.View, *store.DomainData, error) {
	d, err := parseDomain(name)
	if err != nil {
		return nil, nil, err
	}
	v := s.store.View()
	if data := v.Domain(d); data != nil {
		return v, data, nil
	}
	return nil, nil, &Error{"DN-DOMAIN-003", CodeFailed, "nothing was done", d.String() + " is no domain of this node", "add it with `directctl domain add " + d.String() + "`; `directctl domain list` shows the others"}
}

// chosen gives the domain of a name, or all where there is no name, with the
// generation that has them.
func (s *Service) chosen(name string) (*store.View, []direct.Domain, error) {
	if name == "" {
		v := s.store.View()
		return v, v.Domains(), nil
	}
	v, data, err := s.domainData(name)
	if err != nil {
		return nil, nil, err
	}
	return v, []direct.Domain{data.Domain}, nil
}

// ListDomains gives every domain, without records.
func (s *Service) ListDomains(context.Context, struct{}) ([]Domain, error) {
	v := s.store.View()
	list := []Domain{}
	for _, d := range v.Domains() {
		list = append(list, summary(v.Domain(d)))
	}
	return list, nil
}

func summary(data *store.DomainData) Domain {
	return Domain{
		Domain: data.Domain.String(), Created: data.Created.UTC().Truncate(time.Second),
		Certificates: data.Certificates.Len(), Keys: data.Keys.Len(), Anchors: len(anchorsOf(data)),
	}
}

// ShowDomain gives a domain with its records and the lines to hand to the
// parent.
func (s *Service) ShowDomain(ctx context.Context, req DomainRequest) (Domain, error) {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return Domain{}, err
	}
	show := summary(data)
	for _, r := range data.Records {
		show.Records = append(show.Records, fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.Data))
	}
	show.Delegation = append(zones.Delegation(v, data.Domain), zones.DS(data.Domain, data.Signing)...)
	if data.Signing != nil {
		show.DNSSEC = zones.NextSteps(data.Signing)
	}
	show.Transfer = s.shownTransfer(v, data.Domain)
	show.LDAP = s.ldapChecks(ctx, v, data.Domain)
	return show, nil
}

// RemoveDomain removes a domain with its records, certificates, keys and
// anchors.
func (s *Service) RemoveDomain(ctx context.Context, req DomainRequest) (Done, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return Done{}, err
	}
	if _, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.RemoveDomain(data.Domain) }); err != nil {
		return Done{}, storeFailure("the domain "+data.Domain.String()+" was not removed", err)
	}
	return Done{fmt.Sprintf("%s removed with %d certificates, %d keys and %d anchors", data.Domain, data.Certificates.Len(), data.Keys.Len(), len(data.Anchors))}, nil
}
