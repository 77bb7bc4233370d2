package bolt

import "time"

const (
	// lockTimeout is how long Open waits for a process that is just leaving.
	// Longer would only delay the answer that somebody else must be asked.
	lockTimeout = time.Second
	// lockPoll is how often it looks in that time.
	lockPoll = 50 * time.Millisecond
	// fileMode: nobody but the service's own user reads what it stores.
	fileMode = 0o600
	// pageSize of new files. A certificate with its key takes about 1.4 KB: of
	// these, two fit into a page of 4 KiB and eleven into one of this size.
	pageSize = 16 << 10
	// bulkOps is how many operations make a transaction one that fills a file:
	// its pages are filled to bulkFill, for what is next goes behind them.
	bulkOps  = 1000
	bulkFill = 0.95
	// maxBatchTxns and maxBatchBytes bound how many waiting transactions one
	// commit takes along: enough for every concurrent session to share the
	// two fdatasyncs, small enough to keep the first of them waiting briefly.
	maxBatchTxns  = 1024
	maxBatchBytes = 64 << 20
	// initialMmap is address space, not memory. While the file fits into it
	// a growing write never has to wait for the readers to leave the map.
	initialMmap = 1 << 30
	// maxFollowEvents and maxFollowBytes end a read of the history early, at
	// the next whole revision, so that no watcher holds a read transaction
	// (and with it the pages it sees) for long.
	maxFollowEvents = 512
	maxFollowBytes  = 1 << 20
	// releaseCommits is after how many commits the pages that they touched are
	// given back: some megabytes' worth.
	releaseCommits = 32
	// releaseEvery is how many octets a Stream reads before it looks whether it
	// is still wanted.
	releaseEvery = 64 << 20
	// maxProblems ends a check that finds nothing but damage.
	maxProblems = 100
)
