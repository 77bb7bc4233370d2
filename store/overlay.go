package store

import "slices"

// overlay is a sorted list with changes on top: what a transaction edits. The
// list below is never touched.
type overlay[T item] struct {
	base    []T
	changes map[string]map[string]*T // owner → sha → item, nil = removed
	count   int
}

// find returns the item as changed so far.
func (o *overlay[T]) find(id ident) (T, bool) {
	if changed, ok := o.changes[id.owner][id.sha]; ok {
		if changed == nil {
			var none T
			return none, false
		}
		return *changed, true
	}
	return o.below(id)
}

// below returns the item as it was before the transaction.
func (o *overlay[T]) below(id ident) (T, bool) {
	if i, found := position(o.base, id); found {
		return o.base[i], true
	}
	var none T
	return none, false
}

func (o *overlay[T]) put(v T)         { o.change(v.ident(), &v) }
func (o *overlay[T]) remove(id ident) { o.change(id, nil) }

func (o *overlay[T]) change(id ident, v *T) {
	if o.changes == nil {
		o.changes = map[string]map[string]*T{}
	}
	if o.changes[id.owner] == nil {
		o.changes[id.owner] = map[string]*T{}
	}
	if _, again := o.changes[id.owner][id.sha]; !again {
		o.count++
	}
	o.changes[id.owner][id.sha] = v
}

// changed lists what the transaction changed, sorted.
func (o *overlay[T]) changed() []ident {
	ids := make([]ident, 0, o.count)
	for owner, shas := range o.changes {
		for sha := range shas {
			ids = append(ids, ident{owner, sha})
		}
	}
	slices.SortFunc(ids, ident.compare)
	return ids
}

// merged is the list with the changes in it. Runs between two changes are
// copied as a whole, so that one change in a million costs one copy.
func (o *overlay[T]) merged() []T {
	if o.count == 0 {
		return o.base
	}
	list := make([]T, 0, len(o.base)+o.count)
	from := 0
	for _, id := range o.changed() {
		i, found := position(o.base[from:], id)
		list = append(list, o.base[from:from+i]...)
		from += i
		if found {
			from++
		}
		if v := o.changes[id.owner][id.sha]; v != nil {
			list = append(list, *v)
		}
	}
	return append(list, o.base[from:]...)
}
