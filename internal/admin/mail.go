package admin

import (
	"context"
	"strconv"
	"strings"

	"directnode/internal/direct"
)

// defaultMessages is how many messages a list shows unless told otherwise.
const defaultMessages = 50

// ListMessages gives the newest messages of the mail's story.
func (s *Service) ListMessages(_ context.Context, q MessageQuery) ([]Message, error) {
	if q.Limit <= 0 {
		q.Limit = defaultMessages
	}
	list, err := s.mail.Messages(q.Limit)
	if err != nil {
		return nil, storyFailure(err)
	}
	if list == nil {
		list = []Message{}
	}
	return list, nil
}

// ShowMessage gives the story of one message by its Message-ID, brackets or
// not.
func (s *Service) ShowMessage(_ context.Context, q MessageQuery) (Message, error) {
	id := strings.Trim(q.ID, "<> ")
	m, ok, err := s.mail.Message(id)
	if err != nil {
		return Message{}, storyFailure(err)
	}
	if !ok {
		return Message{}, &Error{"DN-MAIL-001", CodeFailed, "nothing to show", "no message with the Message-ID " + strconv.Quote(id) + " passed this node", "`directctl message list` shows the newest"}
	}
	return m, nil
}

// ListQueue gives what waits.
func (s *Service) ListQueue(context.Context, struct{}) ([]QueueItem, error) {
	list, err := s.mail.Queue().List()
	if err != nil {
		return nil, &Error{"DN-MAIL-004", CodeStore, "the queue was not read", err.Error(), "look at the daemon's log and at the disk of data_dir"}
	}
	if list == nil {
		list = []QueueItem{}
	}
	return list, nil
}

func storyFailure(err error) error {
	return &Error{"DN-MAIL-003", CodeStore, "the mail's story was not read", err.Error(), "look at the daemon's log and at the disk of data_dir"}
}

// RetryQueue makes an item due now.
func (s *Service) RetryQueue(_ context.Context, req QueueRequest) (Done, error) {
	if err := s.mail.Queue().Retry(req.ID); err != nil {
		return Done{}, queueFailure("not retried", req.ID, err)
	}
	return Done{req.ID + " is due now"}, nil
}

// DropQueue gives an item up without telling anybody.
func (s *Service) DropQueue(_ context.Context, req QueueRequest) (Done, error) {
	if err := s.mail.Queue().Drop(req.ID); err != nil {
		return Done{}, queueFailure("not dropped", req.ID, err)
	}
	return Done{req.ID + " is dropped; nobody was told"}, nil
}

func queueFailure(what, id string, err error) error {
	if id == "" {
		id = "an item without a name"
	}
	return &Error{"DN-MAIL-002", CodeFailed, id + " was " + what, err.Error(), "`directctl queue list` shows what waits"}
}

// Discover finds and judges the certificate of an address with the node's own
// resolver and the anchors of one of its domains.
func (s *Service) Discover(ctx context.Context, req DiscoverRequest) (any, error) {
	a, err := direct.ParseAddress(req.Address)
	if err != nil {
		return nil, &Error{"DN-DISCOVER-001", CodeUsage, "nothing was asked", err.Error(), "give an address such as bob@direct.example.org"}
	}
	as, err := s.asker(req.As)
	if err != nil {
		return nil, err
	}
	if s.o.Discover == nil {
		return nil, &Error{"DN-DISCOVER-002", CodeBug, "nothing was asked", "the node has no resolver", "look at the daemon's log"}
	}
	report, err := s.o.Discover(ctx, a, as, req.Record)
	if err != nil {
		return nil, &Error{"DN-DISCOVER-005", CodeUsage, "nothing was asked", err.Error(), "give an address that has a domain name (AS 5.1)"}
	}
	return report, nil
}

// asker decides whose anchors judge.
func (s *Service) asker(name string) (direct.Domain, error) {
	if name != "" {
		_, data, err := s.domainData(name)
		if err != nil {
			return direct.Domain{}, err
		}
		return data.Domain, nil
	}
	domains := s.store.View().Domains()
	switch len(domains) {
	case 0:
		return direct.Domain{}, nil
	case 1:
		return domains[0], nil
	}
	return direct.Domain{}, &Error{"DN-DISCOVER-003", CodeUsage, "nothing was asked", "the node has several domains, each with its own anchors", "say whose anchors decide with --as DOMAIN"}
}
