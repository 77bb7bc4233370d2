package track

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// defaultKeep is how long a story is remembered: longer than any time-out
	// of a notification (hours) and than the question "did it arrive" is asked.
	defaultKeep = 90 * 24 * time.Hour

	// keepRefused is how long an inbound message is remembered that came to
	// nobody: as long as the queue holds it. Strangers make as many as they like.
	keepRefused = 7 * 24 * time.Hour

	// maxNotes bounds the notifications kept for one recipient, and those about
	// nobody for one message. An honest agent sends two or three.
	maxNotes = 16

	// maxText bounds a reason: what an operator needs of a peer's reply.
	maxText = 300

	// maxPeerText bounds what a peer's notification says of a failure. It comes
	// out of an encrypted message and may repeat what was in ours.
	maxPeerText = 200

	// maxKeyID is the length up to which a Message-ID stands in a key as it is;
	// longer ones by their hash. With two addresses of 254 octets a key stays
	// below the 1,024 octets of the store.
	maxKeyID = 400

	// maxList bounds what List returns at once.
	maxList = 10_000

	// pruneEvery and maxPrune: how often old stories are looked for, and how
	// many go at a time, so that no message waits long for it.
	pruneEvery = time.Hour
	maxPrune   = 1000

	// pruneBatch is how many go in one transaction, each of which waits for the
	// disk: a message that happens to be the one to prune waits for ten.
	pruneBatch = 100

	// maxConflicts is how often a change begins again because another one
	// came first. Each conflict means that somebody else got through.
	maxConflicts = 100
)

// short makes one line of a text, of at most most characters. What a terminal
// would obey and a reader not see is a space.
func short(s string, most int) string {
	printable := func(r rune) rune {
		if unicode.IsGraphic(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}
	s = strings.Join(strings.Fields(strings.Map(printable, s)), " ")
	n := 0
	for i := range s {
		if n == most {
			return s[:i]
		}
		n++
	}
	return s
}
