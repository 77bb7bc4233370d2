// Package admin carries out the administrator's orders.
//
// An order is a typed request in and a typed answer out: it validates what it
// was given and changes the store in one transaction (flow 5 of docs/FLOWS.md).
// The HTTP handler and the client below only move JSON over the daemon's Unix
// socket; a console or another tool would stand on the same orders. Errors are
// objects with a stable id, the exit code of the tool, and one line each of
// what happened, why, and what to do.
package admin

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"directnode/internal/direct"
	"directnode/store"
)

// Mail is what orders ask of the mail's side of the node.
type Mail interface {
	Messages(limit int) ([]Message, error)
	Message(id string) (Message, bool, error)
	Queue() QueueOrders
}

// QueueOrders is what orders ask of the queue.
type QueueOrders interface {
	List() ([]QueueItem, error)
	Retry(id string) error
	Drop(id string) error
}

// Options tell the service about its node.
type Options struct {
	Hostname string       // default MX target and SOA MNAME
	Listen   []netip.Addr // addresses of the node, for records inside a domain
	LDAPPort uint16       // 0: no LDAP listener, no SRV record
	Version  string       // of the program
	Started  time.Time    // for status
	Discover DiscoverFunc // nil: no resolver
	Fetch    FetchFunc    // nil: no bundles by URL

	Probe     Prober    // nil: the node cannot look at itself
	Listeners Listeners // that Probe asks

	// Secondary tells how a domain follows its primaries; nil: nobody knows.
	Secondary func(direct.Domain) Secondary

	MaxImport int64  // octets of one order that streams files; 0: 2 GiB
	TempDir   string // where such files wait; empty: that of the system

	Patience time.Duration // for a client that does not read what it is told; 0: 10 s

	Log *slog.Logger
}

func (o *Options) maxImport() int64 {
	if o.MaxImport <= 0 {
		return defaultImport
	}
	return o.MaxImport
}

func (o *Options) patience() time.Duration {
	if o.Patience <= 0 {
		return defaultPatience
	}
	return o.Patience
}

// DiscoverFunc finds and judges a certificate with the node's own resolver and
// the anchors of the domain that asks.
type DiscoverFunc func(ctx context.Context, a direct.Address, as direct.Domain, record bool) (DiscoverResponse, error)

// Service carries out orders. Its fields never change.
type Service struct {
	store *store.Store
	mail  Mail
	o     Options
	looks *looks
}

// New makes a service on a store.
func New(s *store.Store, m Mail, o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{s, m, o, new(looks)}
}

// Error is a refused or failed order, as people and programs see it.
type Error struct {
	ID   string `json:"id"`   // stable, for example DN-CERT-004
	Code int    `json:"code"` // the tool's exit code
	What string `json:"what"`
	Why  string `json:"why"`
	Do   string `json:"do"`
}

// Error is what, why and what to do on one line.
func (e *Error) Error() string {
	return e.What + ": " + e.Why + "; " + e.Do
}

// The exit codes that orders give.
const (
	CodeOK        = 0
	CodeFailed    = 1
	CodeUsage     = 2
	CodeWarnings  = 3
	CodeTemporary = 20
	CodeStore     = 40
	CodeBug       = 70
)
