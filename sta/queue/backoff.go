package queue

import (
	"errors"
	"hash/fnv"
	"net"
	"slices"
	"strings"
	"time"
)

// Schedule says when to try again and when to give up. The zero value means
// DefaultSchedule.
type Schedule struct {
	// Delays are the pauses after the first, second, … failure; the last one
	// is used for all further ones.
	Delays []time.Duration
	// Lifetime is how long a message is tried at all, counted from its
	// arrival. One last attempt is made when it ends.
	Lifetime time.Duration
}

// DefaultSchedule begins quickly, because a Direct message is waited for and
// most failures are a restart on the other side, and gives up after two days:
// RFC 5321 §4.5.4.1 speaks of four to five days for mail that nobody is told
// about, but the sender of health information must hear earlier that it did
// not arrive.
func DefaultSchedule() Schedule {
	return Schedule{
		Delays: []time.Duration{
			time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
			time.Hour, 2 * time.Hour, 4 * time.Hour,
		},
		Lifetime: 48 * time.Hour,
	}
}

// orDefault fills what is not set.
func (s Schedule) orDefault() Schedule {
	d := DefaultSchedule()
	if len(s.Delays) == 0 {
		s.Delays = d.Delays
	}
	if s.Lifetime <= 0 {
		s.Lifetime = d.Lifetime
	}
	return s
}

// after returns when to try again something that was created at created and
// has now, at at, failed for the n-th time, n counting from 1. Up to a fifth
// of the pause is added, chosen by key and n, so that what failed together
// does not come back together. ok is false when the lifetime is over.
func (s Schedule) after(n int, created, at time.Time, key string) (next time.Time, ok bool) {
	end := created.Add(s.Lifetime)
	if !at.Before(end) {
		return time.Time{}, false
	}
	next = at.Add(s.pause(n, key))
	if next.After(end) {
		next = end // the last attempt
	}
	return next, true
}

// pause is after without an end: for what may not be given up.
func (s Schedule) pause(n int, key string) time.Duration {
	d := s.Delays[min(max(n, 1), len(s.Delays))-1]
	h := fnv.New32a()
	h.Write([]byte(key))
	h.Write([]byte{byte(n)})
	return d + time.Duration(uint64(d)/5*uint64(h.Sum32()%1000)/1000)
}

// waits tells whether something that is due at next is to be left alone at at.
// A time that is further away than any pause was set by a clock that has been
// put back since, and does not count.
func (s Schedule) waits(next, at time.Time) bool {
	longest := slices.Max(s.Delays)
	return next.After(at) && next.Sub(at) <= longest+longest/5
}

// permanent reports whether an error says of itself that trying again is in
// vain: it has a method Temporary that returns false. Trouble of the network
// (net.Error, whose Temporary is deprecated and false even for a refused
// connection) is never permanent.
func permanent(err error) bool {
	var t interface{ Temporary() bool }
	if !errors.As(err, &t) {
		return false
	}
	if _, network := t.(net.Error); network {
		return false
	}
	return !t.Temporary()
}

// errorText is the part of an error that the index keeps.
func errorText(err error) string {
	s := err.Error()
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") // the cut may have split a character
	}
	return s
}
