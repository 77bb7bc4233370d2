package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	bbolt "go.etcd.io/bbolt"
)

// The page layout of bbolt's file format 2, as far as a check needs it. All
// numbers are in the byte order of the machine.
const (
	pageHeader  = 16 // id (8), flags (2), count (2), overflow (4)
	pageElement = 16 // branch: pos, key size, child (8); leaf: flags, pos, key size, value size
	pageBranch  = 0x01
	pageLeaf    = 0x02
	leafBucket  = 0x01 // flag of a leaf element whose value is a bucket
	bucketHead  = 16   // root page (8), sequence (8); a bucket without a root page has its only page behind it
	firstPage   = 2    // the two before it are the meta pages
	// maxDepth: a tree of this height holds more pages than a file can.
	maxDepth = 32
)

// pageCheck walks the page tree of a file before bbolt opens it for writing.
// bbolt walks it too, to find the free pages, but in a goroutine of its own in
// which a page that is not what it should be ends the process.
type pageCheck struct {
	file *os.File
	size int64 // of a page
	end  uint64
	seen map[uint64]struct{}
}

// checkPages checks that every page can be reached once, says what it is, and
// holds its elements in order inside itself.
func checkPages(path string, tx *bbolt.Tx) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(tx.DB().Info().PageSize)
	c := &pageCheck{file: file, size: size, end: uint64(tx.Size() / size), seen: map[uint64]struct{}{}}
	return c.tree(uint64(tx.Cursor().Bucket().Root()), 0, true, span{})
}

// span is where the keys of a page must lie: from low, below high (nil = no end).
type span struct{ low, high []byte }

func damagedPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("page %d: %s: %w", id, fmt.Sprintf(format, args...), ErrDamaged)
}

// tree checks a page and those below it. buckets tells that this is the tree
// that holds the buckets; in the others a value is a value.
func (c *pageCheck) tree(id uint64, depth int, buckets bool, keys span) error {
	if depth > maxDepth {
		return damagedPage(id, "too deep")
	}
	page, err := c.read(id)
	if err != nil {
		return err
	}
	elements, branch, err := elementsOf(id, page)
	if err != nil {
		return err
	}
	if depth > 0 && len(elements) == 0 {
		return damagedPage(id, "empty")
	}
	for i, e := range elements {
		if bytes.Compare(e.key, keys.low) < 0 || keys.high != nil && bytes.Compare(e.key, keys.high) >= 0 ||
			i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return damagedPage(id, "key %d is out of order", i)
		}
		switch {
		case branch:
			below := span{e.key, keys.high}
			if i+1 < len(elements) {
				below.high = elements[i+1].key
			}
			err = c.tree(e.child, depth+1, buckets, below)
		case e.bucket && buckets:
			err = c.bucket(id, e.value)
		case e.bucket || buckets:
			err = damagedPage(id, "element %d: a bucket and a value have changed places", i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the tree of a bucket, or the page that it carries in itself.
func (c *pageCheck) bucket(id uint64, value []byte) error {
	if len(value) < bucketHead {
		return damagedPage(id, "a bucket cut short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, 0, false, span{})
	}
	page := value[bucketHead:]
	if len(page) < pageHeader || binary.NativeEndian.Uint64(page) != 0 {
		return damagedPage(id, "malformed inline bucket")
	}
	elements, branch, err := elementsOf(id, page)
	if err != nil {
		return err
	}
	for i, e := range elements {
		if branch || e.bucket || i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 {
			return damagedPage(id, "malformed inline bucket")
		}
	}
	return nil
}

// read reads a page with its overflow and marks all of it as seen.
func (c *pageCheck) read(id uint64) ([]byte, error) {
	if id < firstPage || id >= c.end {
		return nil, damagedPage(id, "outside of the %d pages", c.end)
	}
	head := make([]byte, pageHeader)
	if _, err := c.file.ReadAt(head, int64(id)*c.size); err != nil {
		return nil, damagedPage(id, "%v", err)
	}
	pages := uint64(binary.NativeEndian.Uint32(head[12:])) + 1
	if binary.NativeEndian.Uint64(head) != id || pages > c.end-id {
		return nil, damagedPage(id, "not the page that it should be")
	}
	for p := id; p < id+pages; p++ {
		if _, twice := c.seen[p]; twice {
			return nil, damagedPage(p, "reached twice")
		}
		c.seen[p] = struct{}{}
	}
	page := make([]byte, int64(pages)*c.size)
	if _, err := c.file.ReadAt(page, int64(id)*c.size); err != nil {
		return nil, damagedPage(id, "%v", err)
	}
	return page, nil
}

// element is one entry of a page.
type element struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool   // of a leaf
}

// elementsOf takes a page apart. Nothing in it reaches outside of it.
func elementsOf(id uint64, page []byte) (list []element, branch bool, err error) {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != pageBranch && flags != pageLeaf || pageHeader+count*pageElement > len(page) {
		return nil, false, damagedPage(id, "type %#x with %d elements", flags, count)
	}
	branch = flags == pageBranch
	list = make([]element, count)
	for i := range list {
		at := pageHeader + i*pageElement
		e := page[at : at+pageElement]
		word := func(n int) uint64 { return uint64(binary.NativeEndian.Uint32(e[4*n:])) }
		pos, keySize, valueSize := word(0), word(1), uint64(0)
		if !branch {
			if word(0)&^leafBucket != 0 {
				return nil, false, damagedPage(id, "element %d of type %#x", i, word(0))
			}
			list[i].bucket = word(0) == leafBucket
			pos, keySize, valueSize = word(1), word(2), word(3)
		} else {
			list[i].child = binary.NativeEndian.Uint64(e[8:])
		}
		from := uint64(at) + pos // positions count from the element
		if from < uint64(pageHeader+count*pageElement) || from+keySize+valueSize > uint64(len(page)) {
			return nil, false, damagedPage(id, "element %d lies outside", i)
		}
		list[i].key = page[from : from+keySize]
		list[i].value = page[from+keySize : from+keySize+valueSize]
	}
	return list, branch, nil
}
