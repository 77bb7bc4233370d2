package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// Orders that take files too large for one JSON value are streamed: POST
// /v1/stream/NOUN.VERB with the request as one JSON line, then each file as a
// JSON line of its name and size and the octets themselves. The answer is one
// Event a line; the last is the answer or the error.

// fileHead is the line before a file.
type fileHead struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`            // below 0: to the end of the request
	Fault string `json:"fault,omitempty"` // why the tool could not read it; nothing follows
}

// maxHead bounds one JSON line of a streamed request: a path has 4,096 octets.
const maxHead = 64 << 10

// streamed puts an order on the mux.
func (s *Service) streamed(mux *http.ServeMux, name string, do func(context.Context, ImportRequest, *bufio.Reader, Reporter) (ImportResult, error)) {
	mux.HandleFunc("POST /v1/stream/"+name, func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		out := &eventWriter{w: w, control: http.NewResponseController(w), patience: s.o.patience()}
		// A client that still sends reads no answer.
		body := http.MaxBytesReader(w, r.Body, s.o.maxImport())
		in := bufio.NewReaderSize(body, maxHead)
		defer func() { _, _ = io.Copy(io.Discard, body) }()
		var req ImportRequest
		if err := readLine(in, &req); err != nil {
			s.answerError(w, name, notUnderstood(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		beat := out.beat()
		ans, err := do(r.Context(), req, in, out.send)
		beat()
		if err != nil {
			_, _ = io.Copy(io.Discard, body)
			e := s.errorOf(name, s.overLimit(name, err))
			out.send(Event{Error: e})
			return
		}
		s.o.Log.Info("order", "order", name, "ms", time.Since(start).Milliseconds())
		out.send(Event{Answer: &ans})
	})
}

// written puts an order on the mux whose answer is a text, written as it is
// made: POST /v1/text/NOUN.VERB.
func (s *Service) written(mux *http.ServeMux, name string, do func(io.Writer, ExportRequest) error) {
	mux.HandleFunc("POST /v1/text/"+name, func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		var req ExportRequest
		if err := decode(w, r, &req); err != nil {
			s.answerError(w, name, notUnderstood(name, err))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		out := &counted{w: w}
		err := do(out, req)
		switch {
		case err != nil && out.n == 0:
			s.answerError(w, name, err)
			return
		case err != nil:
			_ = s.errorOf(name, err) // into the log
			// The client must not take what it has for a whole text.
			panic(http.ErrAbortHandler)
		}
		s.o.Log.Info("order", "order", name, "ms", time.Since(start).Milliseconds())
	})
}

// counted counts what is written through it.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// overLimit says which limit a request crossed.
func (s *Service) overLimit(name string, err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{"DN-ADMIN-006", CodeUsage, "the order " + name + " was not carried out", fmt.Sprintf("it has more than %d octets", large.Limit), "give fewer or smaller files at once, or raise admin.max_import_bytes"}
	}
	return err
}

// readLine reads one JSON value from a line of its own.
func readLine(in *bufio.Reader, v any) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("a line of more than %d octets", maxHead)
		}
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// oneText takes the only file of a request into a file without a name, so that
// a slow client keeps nobody waiting while the change is made.
func (s *Service) oneText(in *bufio.Reader) (src Source, done func(), err error) {
	var head fileHead
	if err := readLine(in, &head); err != nil {
		return src, nil, fmt.Errorf("the head of the file: %w", err)
	}
	f, err := os.CreateTemp(s.o.TempDir, "import-*")
	if err != nil {
		return src, nil, fmt.Errorf("a place for the file: %w", err)
	}
	done = func() { _ = f.Close() } // it is gone with that
	if err := errors.Join(os.Remove(f.Name()), copyText(f, in, head.Size)); err != nil {
		done()
		return src, nil, err
	}
	// The end is seen, too: from then on the server notices a client that leaves.
	if _, err := in.Peek(1); !errors.Is(err, io.EOF) {
		done()
		return src, nil, cmp.Or(err, errMore)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return Source{head.Name, f, size}, done, err
}

// errMore refuses what cannot be the file that was announced.
var errMore = errors.New("something follows the file")

func copyText(f io.Writer, in io.Reader, size int64) error {
	if size < 0 {
		_, err := io.Copy(f, in)
		return err
	}
	if _, err := io.CopyN(f, in, size); err != nil {
		return fmt.Errorf("the file broke off: %w", err)
	}
	return nil
}

func (s *Service) streamZone(ctx context.Context, req ImportRequest, in *bufio.Reader, report Reporter) (ImportResult, error) {
	src, done, err := s.oneText(in)
	if err != nil {
		return ImportResult{}, s.notTaken(err)
	}
	defer done()
	return s.ImportZoneText(ctx, req, src, report)
}

func (s *Service) streamLDIF(ctx context.Context, req ImportRequest, in *bufio.Reader, report Reporter) (ImportResult, error) {
	src, done, err := s.oneText(in)
	if err != nil {
		return ImportResult{}, s.notTaken(err)
	}
	defer done()
	return s.ImportLDIFText(ctx, req, src, report)
}

func (s *Service) streamCertificates(ctx context.Context, req ImportRequest, in *bufio.Reader, report Reporter) (ImportResult, error) {
	total := int64(0)
	for {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			break
		}
		f, err := readFrame(in, maxCertFiles-total)
		if err != nil {
			return ImportResult{}, s.notTaken(err)
		}
		total += int64(len(f.Name) + len(f.Data))
		req.Files = append(req.Files, f)
	}
	return s.importCertificates(ctx, req, report)
}

// readFrame reads one file into memory.
func readFrame(in *bufio.Reader, room int64) (File, error) {
	var head fileHead
	if err := readLine(in, &head); err != nil {
		return File{}, fmt.Errorf("the head of a file: %w", err)
	}
	f := File{Name: head.Name, Fault: head.Fault}
	if head.Fault != "" {
		return f, nil
	}
	if head.Size < 0 || head.Size > room {
		return File{}, &http.MaxBytesError{Limit: maxCertFiles}
	}
	f.Data = make([]byte, head.Size)
	if _, err := io.ReadFull(in, f.Data); err != nil {
		return File{}, fmt.Errorf("the file %s broke off: %w", head.Name, err)
	}
	return f, nil
}

// notTaken is why the files of an order are not here.
func (s *Service) notTaken(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return &Error{"DN-ADMIN-007", CodeTemporary, "nothing was imported", err.Error(), "see that the disk of data_dir has room for the file, then give the order again"}
}

// eventWriter writes events, each at once.
type eventWriter struct {
	control  *http.ResponseController
	patience time.Duration // for who reads nothing

	mu   sync.Mutex // owns what follows
	w    io.Writer
	last time.Time
}

func (o *eventWriter) send(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = time.Now()
	// Who went away, or reads nothing, is noticed by the order's context.
	_ = o.control.SetWriteDeadline(o.last.Add(o.patience))
	_ = json.NewEncoder(o.w).Encode(e)
	_ = o.control.Flush()
}

// beatEvery is how often an order that has nothing to tell says that it is
// still at work.
const beatEvery = 2 * time.Second

// beat says so until the returned function is called.
func (o *eventWriter) beat() (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(beatEvery)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
			}
			o.mu.Lock()
			quiet := time.Since(o.last) >= beatEvery
			o.mu.Unlock()
			if quiet {
				o.send(Event{Progress: &Progress{Stage: StageStoring}})
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}
