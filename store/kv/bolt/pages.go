package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	bbolt "go.etcd.io/bbolt"
)

// The page layout of bbolt's file format 2, as far as a check needs it. All
// numbers are in the byte order of the machine.
const (
	pageHeader  = 16 // id (8), flags (2), count (2), overflow (4)
	pageElement = 16 // branch: pos, key size, child (8); leaf: flags, pos, key size, value size
	pageBranch  = 0x01
	pageLeaf    = 0x02
	pageFree    = 0x10
	leafBucket  = 0x01            // flag of a leaf element whose value is a bucket
	bucketHead  = 16              // root page (8), sequence (8); a bucket without a root page has its only page behind it
	firstPage   = 2               // the two before it are the meta pages
	metaFree    = pageHeader + 32 // behind magic, version, page size, flags and the root bucket: the page of the free list
	metaTxid    = metaFree + 16
	noFreeList  = 1<<64 - 1 // the file was written without its free list
	manyFree    = 0xffff    // the count of a list of free pages that stands in its first entry
	// maxDepth: a tree of this height holds more pages than a file can.
	maxDepth = 32
)

// pageCheck walks the page tree of a file before bbolt opens it for writing.
// bbolt would meet a page that is not what it should be in the middle of a
// change, or in a goroutine of its own, and end the process. It goes through the
// file as it lies in the page cache and looks at keys and lengths, not at
// values: these have check sums of their own, which every reader compares.
type pageCheck struct {
	file []byte
	size uint64 // of a page
	end  uint64
	seen []uint64 // a bit for each page
	data func(key, stored []byte) error
	root uint64 // page of the data, once it is found; 0: they lie inside of another
}

// checkPages checks that every page can be reached once, says what it is, and
// holds its elements in order inside itself; that no page in use counts as free;
// and that the data are as many as the state says, with the sum that it says.
func checkPages(path string, tx *bbolt.Tx, st state) (in inspected, err error) {
	file, err := os.Open(path)
	if err != nil {
		return in, err
	}
	defer file.Close()
	mapped, err := syscall.Mmap(int(file.Fd()), 0, int(tx.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return in, fmt.Errorf("map %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = syscall.Munmap(mapped) // nothing was written
		}
	}()
	if len(mapped) >= minLoan {
		_ = syscall.Madvise(mapped, madvPopulateRead) // advice
	}
	size := uint64(tx.DB().Info().PageSize)
	c := &pageCheck{file: mapped, size: size, end: uint64(len(mapped)) / size}
	c.seen = make([]uint64, c.end/64+1)
	var keys int64
	var sum uint64
	c.data = func(k, v []byte) error {
		if len(v) < dataHeader {
			return fmt.Errorf("key %q: cut short: %w", k, ErrDamaged)
		}
		if rev := int64(binary.BigEndian.Uint64(v)); rev < 1 || rev > st.rev {
			return fmt.Errorf("key %q: revision %d, the store is at %d: %w", k, rev, st.rev, ErrDamaged)
		}
		keys++
		sum += entrySum(k, v)
		return nil
	}
	if err := c.tree(uint64(tx.Cursor().Bucket().Root()), 0, true, span{}, nil); err != nil {
		return in, err
	}
	if keys != st.keys || sum != st.sum {
		return in, fmt.Errorf("%d keys (sum %x) where %d (sum %x) were written: %w", keys, sum, st.keys, st.sum, ErrDamaged)
	}
	if err := c.free(uint64(tx.ID())); err != nil {
		return in, err
	}
	return inspected{file: mapped, size: size, txid: uint64(tx.ID()), root: c.root}, nil
}

// span is where the keys of a page must lie: from low, below high (nil = no end).
type span struct{ low, high []byte }

func damagedPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("page %d: %s: %w", id, fmt.Sprintf(format, args...), ErrDamaged)
}

// tree checks a page and those below it. buckets tells that this is the tree
// that holds the buckets; in the others a value is a value, for visit.
func (c *pageCheck) tree(id uint64, depth int, buckets bool, keys span, visit func(key, value []byte) error) error {
	if depth > maxDepth {
		return damagedPage(id, "too deep")
	}
	raw, err := c.read(id)
	if err != nil {
		return err
	}
	p, err := pageOf(id, raw)
	if err != nil {
		return err
	}
	if depth > 0 && p.count == 0 {
		return damagedPage(id, "empty")
	}
	before := keys.low
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return err
		}
		if c := bytes.Compare(e.key, before); c < 0 || c == 0 && i > 0 || keys.high != nil && bytes.Compare(e.key, keys.high) >= 0 {
			return damagedPage(id, "key %d is out of order", i)
		}
		before = e.key
		switch {
		case p.branch:
			below := span{e.key, keys.high}
			if i+1 < p.count {
				next, err := p.element(i + 1)
				if err != nil {
					return err
				}
				below.high = next.key
			}
			err = c.tree(e.child, depth+1, buckets, below, visit)
		case e.bucket && buckets:
			err = c.bucket(id, e)
		case e.bucket || buckets:
			err = damagedPage(id, "element %d: a bucket and a value have changed places", i)
		case visit != nil:
			err = visit(e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the tree of a bucket, or the page that it carries in itself.
func (c *pageCheck) bucket(id uint64, b element) error {
	if len(b.value) < bucketHead {
		return damagedPage(id, "a bucket cut short")
	}
	visit := c.data
	if string(b.key) != bucketData {
		visit = nil
	}
	if root := binary.NativeEndian.Uint64(b.value); root != 0 {
		if visit != nil {
			c.root = root
		}
		return c.tree(root, 0, false, span{}, visit)
	}
	raw := b.value[bucketHead:]
	if len(raw) < pageHeader || binary.NativeEndian.Uint64(raw) != 0 {
		return damagedPage(id, "malformed inline bucket")
	}
	p, err := pageOf(id, raw)
	if err != nil {
		return err
	}
	var before []byte
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return err
		}
		if p.branch || e.bucket || i > 0 && bytes.Compare(before, e.key) >= 0 {
			return damagedPage(id, "malformed inline bucket")
		}
		before = e.key
		if visit != nil {
			if err := visit(e.key, e.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// read gives a page with its overflow and marks all of it as seen.
func (c *pageCheck) read(id uint64) ([]byte, error) {
	if id < firstPage || id >= c.end {
		return nil, damagedPage(id, "outside of the %d pages", c.end)
	}
	raw := c.file[id*c.size:]
	pages := uint64(binary.NativeEndian.Uint32(raw[12:])) + 1
	if binary.NativeEndian.Uint64(raw) != id || pages > c.end-id {
		return nil, damagedPage(id, "not the page that it should be")
	}
	for p := id; p < id+pages; p++ {
		if c.mark(p) {
			return nil, damagedPage(p, "reached twice")
		}
	}
	return raw[:pages*c.size], nil
}

// mark tells whether a page was seen before.
func (c *pageCheck) mark(p uint64) (again bool) {
	again = c.seen[p/64]>>(p%64)&1 != 0
	c.seen[p/64] |= 1 << (p % 64)
	return again
}

// free checks the list of free pages that a transaction sees. A page in use
// that counts as free would be overwritten.
func (c *pageCheck) free(txid uint64) error {
	for id := range uint64(firstPage) {
		meta := c.file[id*c.size:]
		if binary.NativeEndian.Uint64(meta[metaTxid:]) != txid {
			continue
		}
		list := binary.NativeEndian.Uint64(meta[metaFree:])
		if list == noFreeList {
			return nil
		}
		return c.freeList(list)
	}
	return damagedPage(0, "no meta page of transaction %d", txid)
}

func (c *pageCheck) freeList(id uint64) error {
	raw, err := c.read(id)
	if err != nil {
		return err
	}
	count, ids := uint64(binary.NativeEndian.Uint16(raw[10:])), raw[pageHeader:]
	if count == manyFree {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if binary.NativeEndian.Uint16(raw[8:]) != pageFree || count > uint64(len(ids)/8) {
		return damagedPage(id, "not a list of free pages")
	}
	for i := range count {
		p := binary.NativeEndian.Uint64(ids[8*i:])
		if p < firstPage || p >= c.end || c.mark(p) {
			return damagedPage(p, "counts as free and is none or in use")
		}
	}
	return nil
}

// page is a page of a tree.
type page struct {
	id     uint64
	raw    []byte
	count  int
	branch bool
}

func pageOf(id uint64, raw []byte) (page, error) {
	flags, count := binary.NativeEndian.Uint16(raw[8:]), int(binary.NativeEndian.Uint16(raw[10:]))
	if flags != pageBranch && flags != pageLeaf || pageHeader+count*pageElement > len(raw) {
		return page{}, damagedPage(id, "type %#x with %d elements", flags, count)
	}
	return page{id, raw, count, flags == pageBranch}, nil
}

// element is one entry of a page.
type element struct {
	key, value []byte
	child      uint64 // of a branch
	bucket     bool   // of a leaf
}

// element takes one element out of a page. Nothing in it reaches outside.
func (p *page) element(i int) (e element, err error) {
	at := pageHeader + i*pageElement
	head := p.raw[at : at+pageElement]
	word := func(n int) uint64 { return uint64(binary.NativeEndian.Uint32(head[4*n:])) }
	pos, keySize, valueSize := word(0), word(1), uint64(0)
	if p.branch {
		e.child = binary.NativeEndian.Uint64(head[8:])
	} else {
		if word(0)&^leafBucket != 0 {
			return e, damagedPage(p.id, "element %d of type %#x", i, word(0))
		}
		e.bucket = word(0) == leafBucket
		pos, keySize, valueSize = word(1), word(2), word(3)
	}
	from := uint64(at) + pos // positions count from the element
	if from < uint64(pageHeader+p.count*pageElement) || from+keySize+valueSize > uint64(len(p.raw)) {
		return e, damagedPage(p.id, "element %d lies outside", i)
	}
	e.key = p.raw[from : from+keySize]
	e.value = p.raw[from+keySize : from+keySize+valueSize]
	return e, nil
}
