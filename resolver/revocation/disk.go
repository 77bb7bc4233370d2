package revocation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"directnode/internal/durable"
	"directnode/resolver/fetch"
)

// Every file of the folder is a head of one line of JSON and then the list or the response as it came. Names are digests: a URL may hold
// anything. The folder is a cache: whatever is damaged or missing is fetched again.
const (
	listPrefix   = "crl-"
	answerPrefix = "ocsp-"
	maxHeadLine  = 64 << 10 // two certificates in base64
)

// head is the first line of a file.
type head struct {
	URL        string    `json:"url"`
	Fetched    time.Time `json:"fetched"`
	Used       time.Time `json:"used"`
	Issuer     []byte    `json:"issuer"`
	Cert       []byte    `json:"cert,omitempty"`       // ocsp
	ThisUpdate time.Time `json:"this_update,omitzero"` // crl
	Until      time.Time `json:"until,omitzero"`       // crl
}

func listFile(url string) string {
	sum := sha256.Sum256([]byte(url))
	return listPrefix + hex.EncodeToString(sum[:])
}

func answerFile(id string) string { return answerPrefix + id }

func (s *Service) path(name string) string { return filepath.Join(s.dir, name) }

// find reads the heads of what is kept. Files that are none of ours, or damaged, are removed: nobody else writes there.
func (s *Service) find() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		isList := strings.HasPrefix(name, listPrefix)
		if !isList && !strings.HasPrefix(name, answerPrefix) {
			if durable.IsTemp(name) {
				s.dropFile(name)
			}
			continue
		}
		h, size, err := s.readHead(name)
		if err != nil || isList && name != listFile(h.URL) || len(s.lists) >= maxLists || len(s.answers) >= maxAnswers {
			s.dropFile(name)
			continue
		}
		if isList {
			s.lists[h.URL] = &list{url: h.URL, issuer: h.Issuer, fetched: h.Fetched, used: h.Used, octets: size, thisUpdate: h.ThisUpdate, until: h.Until}
		} else {
			s.answers[strings.TrimPrefix(name, answerPrefix)] = &answer{url: h.URL, fetched: h.Fetched, used: h.Used}
		}
	}
	return nil
}

// open opens a file behind its head.
func (s *Service) open(name string) (h head, body *bufio.Reader, f durable.File, err error) {
	if f, err = s.fs.OpenFile(s.path(name), os.O_RDONLY, 0); err != nil {
		return h, nil, nil, err
	}
	body = bufio.NewReaderSize(f, maxHeadLine)
	line, err := body.ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err != nil {
		f.Close()
		return h, nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return h, body, f, nil
}

func (s *Service) readHead(name string) (head, int64, error) {
	h, _, f, err := s.open(name)
	if err != nil {
		return h, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return h, 0, err
	}
	return h, info.Size(), nil
}

// loadList reads a list that is kept. Its signature is checked again when it is used.
func (s *Service) loadList(url string) (*CRL, head, error) {
	h, body, f, err := s.open(listFile(url))
	if err != nil {
		return nil, h, err
	}
	defer f.Close()
	c, err := ReadCRL(body)
	return c, h, err
}

// loadAnswer reads a responder's answer that is kept, and checks it as it was checked when it came.
func (s *Service) loadAnswer(id string) (Answer, error) {
	h, body, f, err := s.open(answerFile(id))
	if err != nil {
		return Answer{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxOCSP+1))
	if err != nil {
		return Answer{}, err
	}
	cert, issuer, err := h.pair()
	if err != nil {
		return Answer{}, err
	}
	if identity(cert, issuer) != id {
		return Answer{}, errors.New("it is about another certificate")
	}
	return ReadAnswer(raw, cert, issuer, nil, h.Fetched)
}

// pair gives the certificate and its issuer.
func (h head) pair() (cert, issuer *x509.Certificate, err error) {
	if issuer, err = x509.ParseCertificate(h.Issuer); err != nil {
		return nil, nil, err
	}
	cert, err = x509.ParseCertificate(h.Cert)
	return cert, issuer, err
}

// download fetches a list, into the folder if there is one, and keeps it if it is accepted. size is that of the file.
func (s *Service) download(ctx context.Context, url string, issuer *x509.Certificate, now time.Time) (c *CRL, size int64, err error) {
	if s.dir == "" {
		var body bytes.Buffer
		if _, err := s.fetch.Save(ctx, fetch.CRL, url, &body); err != nil {
			return nil, 0, err
		}
		if c, err = ReadCRL(&body); err == nil {
			err = s.accept(url, c, issuer)
		}
		return c, 0, err
	}
	// The head tells times that stand in the list: they are put into it once the list is read, in a second file that is then complete.
	// What is fetched goes to the disk as it comes, for a list may have 64 MiB.
	raw, err := durable.WriteTemp(s.fs, s.dir, 0o600, func(w io.Writer) error {
		_, err := s.fetch.Save(ctx, fetch.CRL, url, w)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	defer s.dropFile(filepath.Base(raw))
	f, err := s.fs.OpenFile(raw, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	c, err = ReadCRL(f)
	f.Close()
	if err == nil {
		err = s.accept(url, c, issuer)
	}
	if err != nil {
		return nil, 0, err
	}
	h := head{URL: url, Fetched: now.UTC(), Used: now.UTC(), Issuer: issuer.Raw, ThisUpdate: c.ThisUpdate.UTC(), Until: c.until().UTC()}
	if err := s.makeRoom(url, c.Octets); err != nil {
		return nil, 0, err
	}
	return c, c.Octets, s.writeList(raw, h)
}

// writeList copies what was fetched behind its head.
func (s *Service) writeList(raw string, h head) error {
	f, err := s.fs.OpenFile(raw, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.write(listFile(h.URL), h, f)
}

func (s *Service) write(name string, h head, body io.Reader) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.fs, s.path(name), 0o600, func(w io.Writer) error {
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		_, err := io.Copy(w, body)
		return err
	})
}

func (s *Service) saveAnswer(q *question, url string, raw []byte) error {
	h := head{URL: url, Fetched: q.now.UTC(), Used: q.now.UTC(), Issuer: q.issuer.Raw, Cert: q.cert.Raw}
	return s.write(answerFile(q.id), h, bytes.NewReader(raw))
}

// makeRoom removes the lists that were used longest ago until one more fits.
func (s *Service) makeRoom(url string, octets int64) error {
	if octets > maxListOctets {
		return errLarge
	}
	for {
		s.mu.Lock()
		total, count := octets, 1
		var oldest *list
		for _, l := range s.lists {
			if l.url == url {
				continue
			}
			total += l.octets
			count++
			if oldest == nil || l.used.Before(oldest.used) {
				oldest = l
			}
		}
		if oldest == nil || total <= maxListOctets && count <= maxLists {
			s.mu.Unlock()
			return nil
		}
		delete(s.lists, oldest.url)
		s.mu.Unlock()
		s.dropFile(listFile(oldest.url))
	}
}

// dropFile removes a file. One that cannot be removed costs its place on the disk, and the operator is told.
func (s *Service) dropFile(name string) {
	if err := s.fs.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a file of the revocation folder was not removed", "file", name, "err", err)
	}
}
