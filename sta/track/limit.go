package track

import (
	"strings"
	"time"
)

const (
	// defaultKeep is how long a story is remembered: longer than any time-out
	// of a notification (hours) and than the question "did it arrive" is asked.
	defaultKeep = 90 * 24 * time.Hour

	// maxNotes bounds the notifications kept for one recipient, and those about
	// nobody for one message. An honest agent sends two or three.
	maxNotes = 16

	// maxText bounds a reason: what an operator needs of a peer's reply.
	maxText = 300

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

// short bounds a text.
func short(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") // the cut may have split a character
	}
	return s
}
