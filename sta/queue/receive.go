package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"directnode/internal/mail"

	bolt "go.etcd.io/bbolt"
)

// Receive stores an inbound message. admit gets the header, with the empty
// line that ends it, as soon as it is complete; its error is returned as it
// is, and then nothing was stored. When Receive returns nil the message is
// durable and the server may answer 250, taking responsibility (RFC 5321
// §4.2.5). id is env.ID, or a new name where that is empty.
//
// ErrTooLarge and ErrHeaderTooLarge say that a limit was passed, ErrNoSpace
// that the disk is too full to take anything. Every other error means that the message could not be stored now.
func (q *Queue) Receive(ctx context.Context, env mail.Envelope, r io.Reader, admit func(header []byte) error) (id string, err error) {
	if err := q.usable(ctx); err != nil {
		return "", err
	}
	if err := q.roomy(); err != nil {
		return "", err
	}
	now := time.Now()
	id = env.ID
	if id == "" {
		id = NewID(now)
	} else if !validID(id) {
		return "", fmt.Errorf("queue: %q cannot be the name of a message", id)
	}
	br := bufio.NewReaderSize(r, 32<<10)
	header, err := readHeader(br)
	if err != nil {
		return "", err
	}
	if admit != nil {
		if err := admit(header); err != nil {
			return "", err
		}
	}
	if err := q.receive(id, env, io.MultiReader(bytes.NewReader(header), br), now); err != nil {
		return "", err
	}
	return id, nil
}

func (q *Queue) receive(id string, env mail.Envelope, r io.Reader, now time.Time) error {
	defer q.hold(id)()
	if err := q.unused(id); err != nil {
		return err
	}
	size, err := q.write(id, "receive", func(w io.Writer) error {
		n, err := io.Copy(w, io.LimitReader(r, q.o.MaxBytes+1))
		if err == nil && n > q.o.MaxBytes {
			err = fmt.Errorf("%w: more than %d octets", ErrTooLarge, q.o.MaxBytes)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("queue: store %s: %w", id, err)
	}
	if err := q.syncSpool(); err != nil {
		q.remove(id)
		return fmt.Errorf("queue: store %s: %w", id, err)
	}
	q.o.crash("receive.synced")
	if q.o.Archive != "" {
		q.archive(id, env)
	}
	row := inboundRow{Envelope: rowOfEnvelope(env), Size: size, Created: now, retry: retry{State: stateDue, Next: now}}
	if err := q.update(func(tx *bolt.Tx) error { return put(tx, bktInbound, id, row) }); err != nil {
		q.remove(id)
		return fmt.Errorf("queue: store %s: %w", id, err)
	}
	q.o.crash("receive.committed")
	q.schedule(inboundTask(id, row.Envelope), now)
	return nil
}

// unused makes sure that a name that the caller chose does not overwrite a
// message.
func (q *Queue) unused(id string) error {
	return q.db.View(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bktInbound, bktOutbound} {
			if tx.Bucket(b).Get([]byte(id)) != nil {
				return fmt.Errorf("queue: there is a message %s already", id)
			}
		}
		return nil
	})
}

// readHeader reads up to and including the empty line after the header
// (RFC 5322 §2.1), or to the end of a message without a body. A bare LF ends a
// line here, so that no reading of the message has more header than this one.
func readHeader(br *bufio.Reader) ([]byte, error) {
	var header []byte
	for lineStart := true; ; {
		line, err := br.ReadSlice('\n')
		header = append(header, line...)
		if len(header) > maxHeader {
			return nil, fmt.Errorf("%w: more than %d octets", ErrHeaderTooLarge, maxHeader)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // a long line goes on
			lineStart = false
		case err == io.EOF:
			return header, nil
		case err != nil:
			return nil, fmt.Errorf("queue: read the header: %w", err)
		case lineStart && len(bytes.TrimRight(line, "\r\n")) == 0:
			return header, nil
		default:
			lineStart = true
		}
	}
}
