package layer

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// An Item is a tree that Pack puts into a layer together with others.
type Item struct {
	// Name stays the same when the tree's content changes. It decides which
	// layer a small tree is in.
	Name string
	// Size in bytes.
	Size int64
}

// Pack distributes trees over at most limit layers and returns the trees of
// each layer as indices of items. It is meant for trees that change one by one:
// the distribution is a function of names and sizes alone, and hardly changes
// when one tree changes, appears or goes.
//
// As long as there are no more trees than layers, each has its own. Else the
// larger half of the layers is for the largest trees, one each: those of at
// least a power of two bytes, so that small differences in size decide nothing.
// The other trees are distributed by hashes of their names. Layers, and trees
// in a layer, are in the order of names, and then of items.
func Pack(items []Item, limit int) [][]int {
	limit = max(limit, 1)
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(items[a].Name, items[b].Name) })
	if len(items) <= limit {
		packs := make([][]int, 0, len(items))
		for _, i := range order {
			packs = append(packs, []int{i})
		}
		return packs
	}
	shared := max(limit/2, 1)
	large := largeSize(items, limit-shared)
	var packs [][]int
	mixed := make([][]int, shared)
	for _, i := range order {
		if large > 0 && items[i].Size >= large {
			packs = append(packs, []int{i})
			continue
		}
		n := bucket(items[i].Name, shared)
		mixed[n] = append(mixed[n], i)
	}
	for _, m := range mixed {
		if len(m) > 0 {
			packs = append(packs, m)
		}
	}
	slices.SortFunc(packs, func(a, b []int) int { return cmp.Compare(slices.Index(order, a[0]), slices.Index(order, b[0])) })
	return packs
}

// largeSize is the smallest power of two that no more than limit items reach.
// 0 means that none may.
func largeSize(items []Item, limit int) int64 {
	if limit < 1 {
		return 0
	}
	size := int64(1)
	for {
		n := 0
		for _, i := range items {
			if i.Size >= size {
				n++
			}
		}
		if n <= limit {
			return size
		}
		if size > 1<<61 {
			return 0
		}
		size *= 2
	}
}

// bucket is the same for the same name on every machine and in every version.
func bucket(name string, n int) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return int(h.Sum64() % uint64(n))
}
