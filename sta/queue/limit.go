package queue

import "time"

const (
	// maxHeader is what the header of a message may have; Postfix's
	// header_size_limit is the same. The header is held in memory until admit
	// has judged it.
	maxHeader = 100 << 10

	// defaultMaxBytes is the largest message on the wire. 25 MB of attachments,
	// which the large mail providers allow, twice base64-encoded (in the inner
	// message and around the CMS object) are just below it.
	defaultMaxBytes = 48 << 20

	// seenFor is how long the identity of a delivered message is remembered. A
	// peer gives up after five days (RFC 5321 §4.5.4.1), so that nothing that
	// is sent again in good faith comes later.
	seenFor = 14 * 24 * time.Hour

	// defaultKeep is how long an inbound message that nobody may have is kept,
	// encrypted as it came, for the operator to look into.
	defaultKeep = 7 * 24 * time.Hour

	// defaultMaxHeld bounds what refused messages take together. To be refused
	// needs no key and no name, so that without it a stranger fills the disk in
	// an hour. It is room for thousands of ordinary messages.
	defaultMaxHeld = 1 << 30

	// heldBlock is what a file takes at least, and what it is counted in.
	heldBlock = 4 << 10

	// defaultMinFree is the space that stays for what was taken before: mailbox
	// copies, notifications and the commits of the indexes. It is more than the
	// largest message.
	defaultMinFree = 64 << 20

	// defaultPerDomain is how many things run at a time for one
	// correspondent's domain, or for what one peer has sent: few enough that 50 dead hosts do not fill a
	// pool, and what receiving nodes accept from one peer without throttling.
	defaultPerDomain = 4

	// Pools. Deliveries wait for the network; inbound messages decrypt and look
	// up certificates; publishing is disk work.
	maxOutbound = 200
	maxInbound  = 16
	maxPublish  = 16

	// defaultDrain is what running handlers get after Run was cancelled, before
	// their context is cancelled too: below the 90 s that service managers wait.
	defaultDrain = 20 * time.Second

	// maxErrorText bounds what a peer's reply may take in the index.
	maxErrorText = 500

	// maxBatch bounds the transactions of many callers that share one commit.
	maxBatch = 500

	// pruneEvery and maxPrune: how often old rows are looked for, and how many
	// go in one transaction, so that no other commit waits long.
	pruneEvery = time.Hour
	maxPrune   = 5000

	// indexRetry is the pause after the index could not be written (disk full):
	// the effect stands, its record does not, and the handler will be called
	// again.
	indexRetry = time.Minute

	// maxID bounds the names of messages, which are file names.
	maxID = 64

	// lockTimeout: bbolt has its own lock below ours and would wait for ever.
	lockTimeout = time.Second

	// mmapSize is large enough that the index of a busy node is never remapped
	// under its readers. It is address space, not memory.
	mmapSize = 64 << 20
)
