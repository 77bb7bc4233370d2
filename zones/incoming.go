package zones

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Incoming is a zone as another server sends it: all of it (RFC 5936 §2.2) or
// what changed (RFC 1995 §4). Take reads it record by record, Apply makes records
// of the store of it.
type Incoming struct {
	apex Name
	have *uint32 // the version that was asked from; nil = asked for all

	state  incomingState
	soa    incomingRecord // the first record: what the zone is after all of it
	serial uint32         // of soa
	at     uint32         // the version that the steps have led to

	steps  []incomingStep
	count  int
	octets int
}

// incomingState is what the next record may be.
type incomingState uint8

const (
	incomingBegin  incomingState = iota // the SOA that the zone will have
	incomingSecond                      // a step's SOA, or the second record of all
	incomingWhole                       // any record, or the SOA that ends it
	incomingGone                        // what a step removes, or its new SOA
	incomingCome                        // what a step adds, the next step's SOA, or the SOA that ends it
	incomingDone
)

// incomingRecord is a record in wire form.
type incomingRecord struct {
	owner Name
	typ   uint16
	ttl   uint32
	data  string
}

// incomingStep is one change: what goes, then what comes. All of a zone is one
// step that removes nothing.
type incomingStep struct{ gone, come []incomingRecord }

// NewIncoming begins a transfer of a zone. have is the version that it was asked
// from by IXFR, nil for AXFR.
func NewIncoming(apex Name, have *uint32) *Incoming { return &Incoming{apex: apex, have: have} }

// Done tells that the last record was there.
func (in *Incoming) Done() bool { return in.state == incomingDone }

// UpToDate tells that the server said, by a SOA alone, that nothing changed. It
// is to be asked when the first message has been read.
func (in *Incoming) UpToDate() bool {
	return in.state == incomingSecond && in.have != nil && int32(*in.have-in.serial) >= 0
}

// Whole tells a zone that was sent whole.
func (in *Incoming) Whole() bool { return len(in.steps) == 1 && in.steps[0].gone == nil }

// Serial is the version that the zone will have.
func (in *Incoming) Serial() uint32 { return in.serial }

// Take reads the next record.
func (in *Incoming) Take(rr dns.RR) error {
	r, err := in.record(rr)
	if err != nil {
		return err
	}
	if in.count++; in.count > maxIncomingRecords {
		return fmt.Errorf("it has more than %d records", maxIncomingRecords)
	}
	if in.octets += len(r.owner) + recordHeadOctets + len(r.data); in.octets > maxIncomingOctets {
		return fmt.Errorf("it has more than %d octets", maxIncomingOctets)
	}
	serial := uint32(0)
	soa := r.typ == dns.TypeSOA
	if soa {
		serial = binary.BigEndian.Uint32([]byte(r.data[len(r.data)-soaFixed:]))
	}
	switch in.state {
	case incomingBegin:
		if !soa {
			return errors.New("it does not begin with a SOA (RFC 5936 §2.2)")
		}
		in.soa, in.serial, in.state = r, serial, incomingSecond
		return nil
	case incomingSecond:
		return in.second(r, soa, serial)
	case incomingWhole:
		if !soa {
			in.last().come = append(in.last().come, r)
			return nil
		}
		return in.end(serial)
	case incomingGone:
		if !soa {
			in.last().gone = append(in.last().gone, r)
			return nil
		}
		in.last().come = append(in.last().come, r)
		in.at, in.state = serial, incomingCome
		return nil
	case incomingCome:
		switch {
		case !soa:
			in.last().come = append(in.last().come, r)
			return nil
		case in.at == in.serial:
			return in.end(serial)
		}
		return in.step(r, serial)
	}
	return errors.New("something follows its end")
}

// recordHeadOctets is type, class, TTL and length.
const recordHeadOctets = 10

func (in *Incoming) last() *incomingStep { return &in.steps[len(in.steps)-1] }

// second tells steps from a whole zone (RFC 1995 §4).
func (in *Incoming) second(r incomingRecord, soa bool, serial uint32) error {
	if soa && in.have != nil {
		in.at = *in.have
		return in.step(r, serial)
	}
	if soa {
		return errors.New("a zone that holds nothing but a SOA")
	}
	in.steps = []incomingStep{{come: []incomingRecord{in.soa, r}}}
	in.state = incomingWhole
	return nil
}

// step begins a step with the SOA of the version that it starts from.
func (in *Incoming) step(r incomingRecord, serial uint32) error {
	if serial != in.at {
		return fmt.Errorf("a step from version %d where %d is (RFC 1995 §4)", serial, in.at)
	}
	in.steps = append(in.steps, incomingStep{gone: []incomingRecord{r}})
	in.state = incomingGone
	return nil
}

func (in *Incoming) end(serial uint32) error {
	if serial != in.serial {
		return fmt.Errorf("it begins with version %d and ends with %d", in.serial, serial)
	}
	in.state = incomingDone
	return nil
}

// record checks one record and brings it into our form.
func (in *Incoming) record(rr dns.RR) (incomingRecord, error) {
	h := rr.Header()
	owner, err := ParseName(h.Name)
	if err != nil {
		return incomingRecord{}, err
	}
	fail := func(format string, args ...any) (incomingRecord, error) {
		return incomingRecord{}, fmt.Errorf("%s %s: %s", owner, typeString(h.Rrtype), fmt.Sprintf(format, args...))
	}
	switch {
	case h.Class != dns.ClassINET:
		return fail("class %d; only IN is served", h.Class)
	case !owner.within(in.apex):
		return fail("it lies outside %s", in.apex)
	case h.Rrtype == dns.TypeSOA && owner != in.apex:
		return fail("a SOA below the apex")
	case signedType(h.Rrtype):
		return fail("the zone is signed by its primary; certificates cannot be added to it here without breaking the signatures. Let the primary give it unsigned, and sign it here")
	}
	if why := refusedType(h.Rrtype); why != "" {
		return fail("%s", why)
	}
	name := h.Name
	h.Name = "." // packRData wants it
	data, err := packRData(rr)
	h.Name = name
	if err != nil {
		return fail("%v", err)
	}
	if h.Rrtype == dns.TypeSOA && len(data) < soaFixed+2 {
		return fail("it is cut short")
	}
	return incomingRecord{owner, h.Rrtype, h.Ttl, string(data)}, nil
}

// signedType tells the types that only a signed zone has.
func signedType(rrtype uint16) bool {
	switch rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		return true
	}
	return false
}

// Apply gives the records that the zone has after the transfer. held are those of
// before, which steps are applied to. An error of steps means that the versions
// do not fit: then all of the zone is needed.
func (in *Incoming) Apply(held []store.Record) ([]store.Record, error) {
	if !in.Done() {
		return nil, errors.New("the transfer is not whole")
	}
	var out recordSet
	if !in.Whole() {
		for _, r := range held {
			w, err := wireRecord(r)
			if err != nil {
				return nil, err
			}
			out.add(w)
		}
	}
	for _, s := range in.steps {
		for _, r := range s.gone {
			if r.typ == dns.TypeSOA {
				out.soa = nil // its version was compared
			} else if !out.remove(r) {
				return nil, fmt.Errorf("%s %s: a step removes a record that is not there", r.owner, typeString(r.typ))
			}
		}
		for _, r := range s.come {
			out.add(r)
		}
	}
	return out.records()
}

// key is what makes two records the same one: the TTL does not.
func (r incomingRecord) key() string {
	return string(r.owner) + string(binary.BigEndian.AppendUint16(nil, r.typ)) + r.data
}

// recordSet is records by what makes them the same one. The SOA stands alone: each
// of a hundred thousand steps replaces it, and must not look for it.
type recordSet struct {
	soa *incomingRecord
	all map[string]incomingRecord
}

func (s *recordSet) add(r incomingRecord) {
	if r.typ == dns.TypeSOA {
		s.soa = &r
		return
	}
	if s.all == nil {
		s.all = make(map[string]incomingRecord)
	}
	s.all[r.key()] = r
}

func (s *recordSet) remove(r incomingRecord) bool {
	_, there := s.all[r.key()]
	delete(s.all, r.key())
	return there
}

// records are those of the store, in the order of names, types and data.
func (s *recordSet) records() ([]store.Record, error) {
	sorted := make([]incomingRecord, 0, len(s.all)+1)
	if s.soa != nil {
		sorted = append(sorted, *s.soa)
	}
	for _, r := range s.all {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b incomingRecord) int { return strings.Compare(a.key(), b.key()) })
	out := make([]store.Record, 0, len(sorted))
	for _, r := range sorted {
		typ, text := typeString(r.typ), ""
		var err error
		if r.typ == dns.TypeCERT {
			typ, text = fmt.Sprintf("TYPE%d", r.typ), genericText([]byte(r.data)) // as zone text is taken
		} else if text, err = rdataText(r.typ, []byte(r.data)); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.owner, typeString(r.typ), err)
		}
		out = append(out, store.Record{Name: r.owner.String(), Type: typ, TTL: r.ttl, Data: text})
	}
	return out, nil
}

// wireRecord is a record of the store in wire form.
func wireRecord(r store.Record) (incomingRecord, error) {
	fail := func(err error) (incomingRecord, error) {
		return incomingRecord{}, fmt.Errorf("%s %s: %w", r.Name, r.Type, err)
	}
	owner, err := ParseName(r.Name)
	if err != nil {
		return fail(err)
	}
	typ, ok := parseType(r.Type)
	if !ok {
		return fail(errors.New("unknown type"))
	}
	tokens, err := tokenize(r.Data)
	if err != nil {
		return fail(err)
	}
	data, err := parseRData(typ, tokens, ".")
	if err != nil {
		return fail(err)
	}
	return incomingRecord{owner, typ, r.TTL, string(data)}, nil
}

// Timers are what a SOA asks of a secondary (RFC 1035 §3.3.13), in seconds.
type Timers struct{ Refresh, Retry, Expire uint32 }

// TimersOf reads the SOA among the records of a domain.
func TimersOf(records []store.Record) (Timers, bool) {
	for _, r := range records {
		if r.Type != "SOA" {
			continue
		}
		w, err := wireRecord(r)
		if err != nil || len(w.data) < soaFixed {
			return Timers{}, false
		}
		n := []byte(w.data[len(w.data)-soaFixed:])
		return Timers{binary.BigEndian.Uint32(n[4:]), binary.BigEndian.Uint32(n[8:]), binary.BigEndian.Uint32(n[12:])}, true
	}
	return Timers{}, false
}

// conflict tells what is wrong with a certificate among the records, which is
// one that the primary publishes itself: where this node publishes certificates
// at the name, two would have a say. The same certificate is no conflict, and no
// second record.
func (b *builder) conflict(name Name, wire []byte) (same bool, reason string) {
	for _, c := range b.published(name) {
		if bytes.Equal(c.DER, wire[certHead:]) {
			return true, ""
		}
	}
	if list := b.published(name); len(list) > 0 {
		return false, fmt.Sprintf("the zone's primary publishes a certificate here, and this node others of %s; remove one of them", list[0].Owner)
	}
	return false, ""
}

// published are the certificates that our domains publish at a name.
func (b *builder) published(name Name) []store.Certificate {
	var list []store.Certificate
	for _, d := range append([]*store.DomainData{b.zone.from.data}, b.zone.from.parents...) {
		o, err := direct.OwnerFromDNSName(name.String(), d.Domain)
		if err != nil {
			continue // nobody can have the name
		}
		for _, c := range d.Certificates.Owned(o) {
			if c.PublishDNS {
				list = append(list, c)
			}
		}
	}
	return list
}
