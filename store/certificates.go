package store

import (
	"slices"

	"directnode/internal/direct"
)

// Certificates are the certificates of one domain. The zero value holds none.
// It never changes; reading it needs no lock.
type Certificates struct{ list []Certificate }

// NewCertificates makes a table of certificates that are in no store: of a
// zone's text, or of a test. All belong to one domain.
func NewCertificates(list ...Certificate) Certificates {
	list = slices.Clone(list)
	for i := range list {
		list[i].SHA256 = Fingerprint(list[i].DER)
		list[i].key = list[i].Owner.Key()
	}
	sortItems(list)
	return Certificates{slices.CompactFunc(list, func(a, b Certificate) bool { return a.ident() == b.ident() })}
}

// Len counts them. One that belongs to two owners counts twice.
func (c Certificates) Len() int { return len(c.list) }

// All yields all of them, those of one owner one after the other. The order of
// the owners means nothing; it is the same for as long as the process runs.
func (c Certificates) All(yield func(Certificate) bool) {
	for _, x := range c.list {
		if !yield(x) {
			return
		}
	}
}

// Sorted yields all of them by owner key, then SHA256: for those who read. It
// costs a sort.
func (c Certificates) Sorted(yield func(Certificate) bool) { c.All(yield) }

// Owned lists the certificates of one owner, by SHA256.
func (c Certificates) Owned(o direct.Owner) []Certificate { return owned(c.list, o.Key()) }

// Find lists the certificates with this fingerprint, one for each owner.
func (c Certificates) Find(sha string) []Certificate {
	var found []Certificate
	for _, x := range c.list {
		if x.SHA256 == sha {
			found = append(found, x)
		}
	}
	return found
}

// Keys are the sealed private keys of one domain. The zero value holds none.
// It never changes; reading it needs no lock.
type Keys struct{ list []Key }

// Len counts them.
func (k Keys) Len() int { return len(k.list) }

// Sorted yields all of them by owner key, then CertSHA256.
func (k Keys) Sorted(yield func(Key) bool) {
	for _, x := range k.list {
		if !yield(x) {
			return
		}
	}
}

// Owned lists the keys of one owner, by CertSHA256.
func (k Keys) Owned(o direct.Owner) []Key { return owned(k.list, o.Key()) }
