package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// Handler serves the orders: POST /v1/NOUN.VERB with a JSON request, a JSON
// answer; two orders move a backup as it is.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	order(s, mux, "status", s.Status)
	order(s, mux, "domain.add", s.AddDomain)
	order(s, mux, "domain.list", s.ListDomains)
	order(s, mux, "domain.show", s.ShowDomain)
	order(s, mux, "domain.remove", s.RemoveDomain)
	order(s, mux, "domain.transfer", s.SetTransfer)
	order(s, mux, "tsig.add", s.AddTSIGKey)
	order(s, mux, "tsig.list", s.ListTSIGKeys)
	order(s, mux, "tsig.show", s.ShowTSIGKey)
	order(s, mux, "tsig.remove", s.RemoveTSIGKey)
	order(s, mux, "cert.import", s.ImportCertificates)
	order(s, mux, "cert.list", s.ListCertificates)
	order(s, mux, "cert.show", s.ShowCertificates)
	order(s, mux, "cert.remove", s.RemoveCertificate)
	order(s, mux, "anchor.add", s.AddAnchor)
	order(s, mux, "anchor.list", s.ListAnchors)
	order(s, mux, "anchor.remove", s.RemoveAnchor)
	order(s, mux, "bundle.add", s.AddBundle)
	order(s, mux, "bundle.list", s.ListBundles)
	order(s, mux, "bundle.refresh", s.RefreshBundles)
	order(s, mux, "bundle.remove", s.RemoveBundle)
	order(s, mux, "zone.import", s.ImportZone)
	order(s, mux, "zone.export", s.ExportZone)
	order(s, mux, "zone.check", s.CheckZone)
	order(s, mux, "dnssec.enable", s.EnableDNSSEC)
	order(s, mux, "dnssec.status", s.DNSSECStatus)
	order(s, mux, "dnssec.roll", s.RollDNSSEC)
	order(s, mux, "dnssec.ds-seen", s.DSSeen)
	order(s, mux, "dnssec.disable", s.DisableDNSSEC)
	order(s, mux, "ldif.import", s.ImportLDIF)
	order(s, mux, "ldif.export", s.ExportLDIF)
	order(s, mux, "message.list", s.ListMessages)
	order(s, mux, "message.show", s.ShowMessage)
	order(s, mux, "queue.list", s.ListQueue)
	order(s, mux, "queue.retry", s.RetryQueue)
	order(s, mux, "queue.drop", s.DropQueue)
	order(s, mux, "discover", s.Discover)
	order(s, mux, "store.check", s.CheckStore)
	order(s, mux, "doctor", s.Doctor)
	s.streamed(mux, "cert.import", s.streamCertificates)
	s.streamed(mux, "zone.import", s.streamZone)
	s.streamed(mux, "ldif.import", s.streamLDIF)
	s.written(mux, "zone.export", s.WriteZone)
	s.written(mux, "ldif.export", s.WriteLDIF)
	mux.HandleFunc("POST /v1/backup", s.serveBackup)
	mux.HandleFunc("POST /v1/restore", s.serveRestore)
	return s.recovered(mux)
}

// recovered turns a panic in an order into an answer and a log line: the
// operator must be able to tell a fault inside from a daemon that is not there.
func (s *Service) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { // ours: an answer that cannot be ended
				panic(p)
			}
			s.o.Log.Error("an order panicked", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			s.answerError(w, strings.TrimPrefix(r.URL.Path, "/v1/"), errors.New("an unexpected fault"))
		}()
		next.ServeHTTP(w, r)
	})
}

// order puts one order on the mux. Every order is logged with its outcome,
// none with its content.
func order[Req, Ans any](s *Service, mux *http.ServeMux, name string, do func(context.Context, Req) (Ans, error)) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		var req Req
		if err := decode(w, r, &req); err != nil {
			s.answerError(w, name, notUnderstood(name, err))
			return
		}
		ans, err := do(r.Context(), req)
		if err != nil {
			s.answerError(w, name, err)
			return
		}
		s.o.Log.Info("order", "order", name, "ms", time.Since(start).Milliseconds())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ans)
	})
}

// decode reads a request: one JSON value of the order's fields and nothing else.
func decode(w http.ResponseWriter, r *http.Request, req any) error {
	if r.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(req); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the request")
	}
	return nil
}

func notUnderstood(name string, err error) *Error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge(name)
	}
	return &Error{"DN-ADMIN-001", CodeUsage, "the order " + name + " was not understood", err.Error(), "use a directctl of the daemon's version"}
}

func tooLarge(name string) *Error {
	return &Error{"DN-ADMIN-006", CodeUsage, "the order " + name + " was not carried out", fmt.Sprintf("it has more than %d MiB", maxBody>>20), "give fewer or smaller files at once"}
}

// answerError writes an error object. One that is not ours is a fault inside.
func (s *Service) answerError(w http.ResponseWriter, name string, err error) {
	e := s.errorOf(name, err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(map[string]*Error{"error": e})
}

func (s *Service) errorOf(name string, err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{"DN-ADMIN-002", CodeBug, "the order " + name + " failed", err.Error(), "look at the daemon's log"}
	}
	s.o.Log.Warn("order refused", "order", name, "id", e.ID, "why", e.Why)
	return e
}

func (s *Service) serveBackup(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.Backup(r.Context(), w); err != nil {
		s.o.Log.Error("backup broke off", "why", err.Error())
		// The client must not take what it has for a whole body.
		panic(http.ErrAbortHandler)
	}
	s.o.Log.Info("order", "order", "backup", "ms", time.Since(start).Milliseconds())
}

func (s *Service) serveRestore(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	body := http.MaxBytesReader(w, r.Body, maxBackup)
	done, err := s.Restore(r.Context(), body)
	// A client that still sends would take a closed connection for a daemon
	// that is not there, and never read why it was refused.
	_, _ = io.Copy(io.Discard, body)
	if err != nil {
		s.answerError(w, "restore", err)
		return
	}
	s.o.Log.Info("order", "order", "restore", "ms", time.Since(start).Milliseconds())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(done)
}
