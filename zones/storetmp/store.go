package store

import (
	"time"

	"directnode/internal/direct"
)

type View struct {
	Rev int64
	m   []*DomainData
}

func NewView(rev int64, m ...*DomainData) *View { return &View{rev, m} }

func (v *View) Domains() []direct.Domain {
	var out []direct.Domain
	for _, d := range v.m {
		out = append(out, d.Domain)
	}
	return out
}

func (v *View) Domain(d direct.Domain) *DomainData {
	for _, x := range v.m {
		if x.Domain == d {
			return x
		}
	}
	return nil
}

type DomainData struct {
	Domain       direct.Domain
	Records      []Record
	Certificates []Certificate
	Created      time.Time
}
type Record struct {
	Name string
	Type string
	TTL  uint32
	Data string
}
type Certificate struct {
	Owner                   direct.Owner
	SHA256                  string
	DER                     []byte
	PublishDNS, PublishLDAP bool
	Bound, HasKey           bool
	Added                   time.Time
}
