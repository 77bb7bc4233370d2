package store

import (
	"crypto/x509"
	"errors"
	"fmt"
)

// Reasons for which a change or a file is refused. They arrive inside a
// *Refusal, which names the object; errors.Is finds them.
var (
	// ErrMalformed: octets that are not the certificate or key they should be.
	ErrMalformed = errors.New("does not parse")
	// ErrNoName: a certificate whose subjectAltName names no owner.
	ErrNoName = errors.New("has no Direct Address and no domain in its subjectAltName")
	// ErrForeign: the owner belongs to no domain of this node.
	ErrForeign = errors.New("belongs to no domain of this node")
	// ErrNotFound: the object of the change is not there.
	ErrNotFound = errors.New("is not there")
	// ErrExists: the object is there already.
	ErrExists = errors.New("is there already")
	// ErrInvalid: a record or a name that cannot be kept.
	ErrInvalid = errors.New("is not valid")
	// ErrLimit: more than limit.go allows.
	ErrLimit = errors.New("is beyond the limit")
	// ErrKeyMismatch: a private key that is not that of the certificate.
	ErrKeyMismatch = errors.New("does not match the certificate")
	// ErrInUse: something else refers to it.
	ErrInUse = errors.New("is in use")
	// ErrNoMasterKey: private keys cannot be handled without a master key.
	ErrNoMasterKey = errors.New("needs the master key, and none was given")
	// ErrWrongMasterKey: the master key is not the one that sealed the keys.
	ErrWrongMasterKey = errors.New("was sealed under another master key")
	// ErrDamaged: what was read is not what was written.
	ErrDamaged = errors.New("is damaged")
	// ErrSchema: written by a version that lays things out differently.
	ErrSchema = errors.New("has a layout that this version does not know")
	// ErrUnservable: Prepare cannot build what the servers would publish. It
	// stands alone, before the reason that Prepare gave.
	ErrUnservable = errors.New("the change is refused")
	// ErrTxOver: a Tx was used after its function had returned.
	ErrTxOver = errors.New("the transaction is over")
)

// Refusal is the error of this package's border: which object was refused,
// for which of the reasons above, and the particulars.
type Refusal struct {
	Object string // "certificate 3f1c… (CN=bob)", "record …", "backup"
	Reason error
	Detail string // may be empty
}

// Error reads "object reason: detail".
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return fmt.Sprintf("%s %v", r.Object, r.Reason)
	}
	return fmt.Sprintf("%s %v: %s", r.Object, r.Reason, r.Detail)
}

// Unwrap gives the reason to errors.Is.
func (r *Refusal) Unwrap() error { return r.Reason }

func refuse(object string, reason error, format string, args ...any) error {
	return &Refusal{object, reason, fmt.Sprintf(format, args...)}
}

// shownSubject bounds what of a foreign subject ends up in an error.
const shownSubject = 100

// certName names a certificate in errors: enough of the fingerprint to find
// it, and its subject where it parses.
func certName(sha string, cert *x509.Certificate) string {
	if cert == nil {
		return fmt.Sprintf("certificate %.16s…", sha)
	}
	return fmt.Sprintf("certificate %.16s… (%.*q)", sha, shownSubject, cert.Subject.String())
}
