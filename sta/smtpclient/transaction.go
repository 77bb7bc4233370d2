package smtpclient

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"directnode/internal/direct"
)

// job is a message on its way, with the verdicts it has got so far.
type job struct {
	from     direct.Address
	to       []direct.Address
	only     direct.Domain // whose turn it is; zero: everybody's
	open     func() (io.ReadCloser, error)
	traits   traits
	fault    error // the message could not be read
	verdicts []error
	done     []bool
}

func (c *Client) newJob(from direct.Address, to []direct.Address, open func() (io.ReadCloser, error)) *job {
	j := &job{from: from, to: to, open: open, verdicts: make([]error, len(to)), done: make([]bool, len(to))}
	j.traits, j.fault = inspect(open)
	return j
}

// domains are the recipients' domains in order of appearance.
func (j *job) domains() []direct.Domain {
	var list []direct.Domain
	seen := map[direct.Domain]bool{}
	for _, a := range j.to {
		if d := a.Domain(); !seen[d] {
			seen[d] = true
			list = append(list, d)
		}
	}
	return list
}

// pending are the recipients whose turn it is and who have no verdict yet, at
// most n of them, as indices.
func (j *job) pending(n int) []int {
	var list []int
	for i, a := range j.to {
		if !j.done[i] && (j.only.IsZero() || a.Domain() == j.only) && len(list) < n {
			list = append(list, i)
		}
	}
	return list
}

func (j *job) left() int { return len(j.pending(len(j.to))) }

// unreadable says why the message cannot be sent to anybody, if so.
func (j *job) unreadable(host string) *Error {
	switch {
	case j.fault == nil:
		return nil
	case errors.Is(j.fault, errNUL):
		// RFC 3463 §3.7: 5.6.0, something about the content; it will not change.
		return refusal(host, StepLocal, 554, [3]int{5, 6, 0}, "The message holds a NUL octet")
	}
	return &Error{host, StepLocal, j.fault}
}

// verdict settles one recipient.
func (j *job) verdict(i int, err *Error) {
	j.done[i] = true
	if err != nil {
		j.verdicts[i] = err
	}
}

// settle gives all pending recipients the same verdict.
func (j *job) settle(err *Error) {
	for _, i := range j.pending(len(j.to)) {
		j.verdict(i, err)
	}
}

// transaction sends the message to up to maxRecipients pending recipients. It
// settles those the server has spoken about; an error is for all the others and
// means that the session is over.
func (s *session) transaction(j *job) *Error {
	line, err := s.mailLine(j)
	if err != nil {
		return err
	}
	batch := j.pending(maxRecipients)
	accepted, err := s.envelope(j, line, batch)
	if err != nil || len(accepted) == 0 {
		return s.reset(err)
	}
	r, err := s.command(StepData, "DATA", s.t.DataInit)
	switch {
	case err != nil:
		return err
	case r.code != 354:
		err := s.said(StepData, r)
		if err.nextHost() {
			return err
		}
		for _, i := range accepted {
			j.verdict(i, err)
		}
		return s.reset(nil)
	}
	err = s.message(j)
	for _, i := range accepted {
		j.verdict(i, err)
	}
	if s.broken {
		return err
	}
	return nil
}

// mailLine is the MAIL command, or the reason why this server cannot take the
// message at all.
func (s *session) mailLine(j *job) (string, *Error) {
	line := "MAIL FROM:<>"
	if !j.from.IsZero() {
		line = "MAIL FROM:<" + j.from.String() + ">"
	}
	if limit, offered := s.ext["SIZE"]; offered {
		// RFC 1870 §4: no number or 0 means that there is no fixed limit.
		if n, err := strconv.ParseInt(limit, 10, 64); err == nil && n > 0 && j.traits.size > n {
			return "", refusal(s.host, StepMail, 552, [3]int{5, 3, 4}, fmt.Sprintf("The message has %d octets, the server takes %d", j.traits.size, n))
		}
		line += fmt.Sprintf(" SIZE=%d", j.traits.size)
	}
	if j.traits.eightBit {
		if _, offered := s.ext["8BITMIME"]; !offered {
			// RFC 6152 §3: convert or give up. Converting would break signatures.
			return "", refusal(s.host, StepMail, 554, [3]int{5, 6, 3}, "The message has 8-bit content and the server does not take it")
		}
		line += " BODY=8BITMIME"
	}
	return line, nil
}

// envelope sends MAIL and RCPT, at once where the server allows (RFC 2920). It
// settles the recipients that are refused and returns the others. The commands
// of a full batch are below 40 KiB, less than what is under way in a TCP
// connection, and the replies less still, so that neither side waits to write.
func (s *session) envelope(j *job, mailLine string, batch []int) (accepted []int, _ *Error) {
	_, pipelining := s.ext["PIPELINING"]
	lines := []string{mailLine}
	for _, i := range batch {
		lines = append(lines, "RCPT TO:<"+j.to[i].String()+">")
	}
	if pipelining {
		s.arm(s.t.Command)
		if err := s.write(StepMail, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
			return nil, err
		}
	}
	exchange := func(step Step, line string) (reply, *Error) {
		if pipelining {
			return s.read(step, s.t.Command)
		}
		return s.command(step, line, s.t.Command)
	}
	r, err := exchange(StepMail, lines[0])
	if err != nil {
		return nil, err
	}
	refused := r.code != 250
	if refused {
		err = s.said(StepMail, r)
		if !pipelining || s.broken {
			return nil, err
		}
	}
	for n, i := range batch {
		r, failed := exchange(StepRcpt, lines[n+1])
		switch {
		case failed != nil && refused:
			return nil, err
		case failed != nil:
			return nil, failed
		case refused:
			// Replies to recipients of a transaction that does not exist.
		case r.code == 250 || r.code == 251:
			accepted = append(accepted, i)
		case r.code == 421:
			return nil, s.said(StepRcpt, r)
		default:
			j.verdict(i, s.said(StepRcpt, r))
			if s.broken {
				return nil, s.said(StepRcpt, r)
			}
		}
	}
	return accepted, err
}

// reset makes the session ready for another transaction, unless it ends here.
func (s *session) reset(err *Error) *Error {
	if err != nil || s.broken {
		return err
	}
	r, err := s.command("RSET", "RSET", s.t.Command)
	if err == nil && r.code != 250 {
		err = s.said("RSET", r)
	}
	return err
}

// message sends the content and waits for the answer, which is the verdict on
// all accepted recipients.
func (s *session) message(j *job) *Error {
	body, err := j.open()
	if err != nil {
		// The server waits for a message: without its end there is none.
		return s.failed(StepLocal, err)
	}
	defer body.Close()
	if failed := s.transfer(body); failed != nil {
		return failed
	}
	r, failed := s.read(StepMessage, s.t.Final)
	switch {
	case failed != nil:
		failed.Err = fmt.Errorf("no answer to the message, which may have arrived: %w", failed.Err)
		return failed
	case r.code/100 != 2:
		return s.said(StepMessage, r)
	}
	return nil
}

// transfer writes the content block by block, each under its own deadline.
func (s *session) transfer(body io.Reader) *Error {
	var e encoder
	in, out := make([]byte, blockSize), make([]byte, 0, 2*blockSize)
	for {
		n, err := body.Read(in)
		out = e.encode(out[:0], in[:n])
		last := errors.Is(err, io.EOF)
		switch {
		case last:
			out = e.finish(out)
		case err != nil:
			return s.failed(StepLocal, err)
		}
		if !cleanLines(out) {
			return s.failed(StepLocal, errBareLineEnd)
		}
		s.arm(s.t.Block)
		if _, err := s.conn.Write(out); err != nil {
			return s.interrupted(err)
		}
		if last {
			return nil
		}
	}
}

// interrupted says why a server stopped taking the message: by its own words,
// if it left some before it closed.
func (s *session) interrupted(err error) *Error {
	if r, failed := s.read(StepMessage, quitTimeout); failed == nil && r.code >= 400 {
		s.broken = true
		return &Error{s.host, StepMessage, r.mail()}
	}
	return s.failed(StepMessage, err)
}
