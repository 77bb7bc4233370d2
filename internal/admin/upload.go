package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Upload is a file that the client sends without holding it.
type Upload struct {
	Name  string
	Size  int64 // below 0: nobody knows; only for one that is alone
	About int64 // for the bar, where nobody knows the size
	Open  func() (io.ReadCloser, error)
	Fault string // why it cannot be read; it is named to the daemon so
}

// Import gives an order that takes files: zone.import, ldif.import,
// cert.import. What the daemon tells meanwhile goes to report, and so does how
// much of the files it has. Errors are *Error, or those of reading a file.
func (c *Client) Import(ctx context.Context, name string, req ImportRequest, files []Upload, report Reporter) (ImportResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	go func() {
		err := sendFiles(w, req, files, report)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) { // closed: there is an answer already
			cancel(err)
		}
		w.CloseWithError(err)
	}()
	defer r.Close()
	// The transport waits for a body that waits for a pipe nobody writes to.
	unhook := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer unhook()
	res, err := c.post(ctx, "stream/"+name, r)
	if err == nil {
		defer res.Body.Close()
		var ans ImportResult
		if ans, err = c.follow(ctx, name, res.Body, report); err == nil {
			return ans, nil
		}
	}
	// A file that cannot be read, or whatever else the caller ended it for.
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() {
		return ImportResult{}, cause
	}
	return ImportResult{}, err
}

// sendFiles writes a streamed request.
func sendFiles(out io.Writer, req ImportRequest, files []Upload, report Reporter) error {
	w := bufio.NewWriterSize(out, 256<<10)
	enc := json.NewEncoder(w)
	if err := enc.Encode(req); err != nil {
		return err
	}
	total := int64(0)
	for _, f := range files {
		total += max(f.Size, f.About, 0)
	}
	sent := &sender{w: w, total: total, report: report}
	for _, f := range files {
		if err := enc.Encode(fileHead{f.Name, f.Size, f.Fault}); err != nil {
			return err
		}
		if f.Fault != "" {
			continue
		}
		if err := sent.file(f); err != nil {
			return err
		}
	}
	return w.Flush()
}

// sender counts what was sent.
type sender struct {
	w           io.Writer
	done, total int64
	told        time.Time
	report      Reporter
}

func (s *sender) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.done += int64(n)
	if time.Since(s.told) >= progressEvery {
		s.told = time.Now()
		s.report.send(Event{Progress: &Progress{StageSending, s.done, s.total}})
	}
	return n, err
}

func (s *sender) file(f Upload) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if f.Size < 0 {
		_, err := io.Copy(s, r)
		return err
	}
	n, err := io.CopyN(s, r, f.Size)
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s has %d octets, and had %d before: it changed while it was read", f.Name, n, f.Size)
	case err != nil:
		return err
	}
	switch _, err := io.ReadFull(r, make([]byte, 1)); {
	case err == nil:
		return fmt.Errorf("%s has more than the %d octets that it had before: it changed while it was read", f.Name, f.Size)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// follow reads events up to the answer.
func (c *Client) follow(ctx context.Context, name string, body io.Reader, report Reporter) (ImportResult, error) {
	dec := json.NewDecoder(body)
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return ImportResult{}, c.brokenOff(ctx, name, err)
		}
		switch {
		case e.Error != nil:
			return ImportResult{}, e.Error
		case e.Answer != nil:
			return *e.Answer, nil
		}
		report.send(e)
	}
}
