package layer

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
)

// An Item is a tree that Pack puts into a layer together with others.
type Item struct {
	// Name stays the same when the tree's content changes. It decides which
	// layer a small tree is in. Several items of one name are told apart by
	// their order.
	Name string
	// Size in bytes.
	Size int64
}

// Pack distributes trees over at most limit layers and returns the trees of
// each layer as indices of items. It is meant for trees that change one by one:
// the distribution is a function of names and sizes alone, and hardly changes
// when one tree changes, appears or goes.
//
// A layer with n trees is new whenever one of them is: once each of them has
// changed, it has been new n times. So what a layer costs is its size times n.
// All trees begin in one layer. Then the layer that costs most is parted until
// there are limit layers, or every tree has its own: first by the binary
// logarithm of the trees' sizes, so that small differences in size decide
// nothing and large trees part from small ones, then by hashes of the names.
// Another tree makes one of these decisions another one, seldom more.
//
// Layers, and trees in a layer, are in the order of names, and then of items.
func Pack(items []Item, limit int) [][]int {
	if len(items) == 0 {
		return nil
	}
	order, keys := make([]int, len(items)), make([]partKey, len(items))
	seen := map[string]int{}
	for i, item := range items {
		order[i], keys[i] = i, newPartKey(item, seen[item.Name])
		seen[item.Name]++
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(items[a].Name, items[b].Name) })
	var done []*group
	open := groups{newGroup(keys, order)}
	for len(open) > 0 {
		costliest := heap.Pop(&open).(*group)
		if len(done)+len(open)+2 > limit {
			done = append(append(done, costliest), open...)
			break
		}
		low, high, ok := costliest.part(keys)
		if !ok {
			done = append(done, costliest)
			continue
		}
		heap.Push(&open, low)
		heap.Push(&open, high)
	}
	place := make([]int, len(items))
	for n, i := range order {
		place[i] = n
	}
	packs := make([][]int, 0, len(done))
	for _, g := range done {
		packs = append(packs, g.items)
	}
	slices.SortFunc(packs, func(a, b []int) int { return cmp.Compare(place[a[0]], place[b[0]]) })
	return packs
}

// A group of trees is in one layer.
type group struct {
	items []int // in the order of names
	// first is the smallest key, which no other group has.
	first partKey
	cost  float64
	// bit is the next one by which the group may be parted.
	bit int
}

func newGroup(keys []partKey, members []int) *group {
	g := &group{items: members, first: keys[members[0]]}
	var size float64
	for _, i := range members {
		key := keys[i]
		if key.compare(g.first) < 0 {
			g.first = key
		}
		size += float64(uint64(1) << key.class)
	}
	if len(members) > 1 {
		g.cost = size * float64(len(members))
	}
	return g
}

// part parts a group by the first bit of the keys that not all of it share.
func (g *group) part(keys []partKey) (low, high *group, ok bool) {
	if len(g.items) == 1 {
		return nil, nil, false
	}
	for bit := g.bit; bit < keyBits; bit++ {
		var halves [2][]int
		for _, i := range g.items {
			n := keys[i].bit(bit)
			halves[n] = append(halves[n], i)
		}
		if len(halves[0]) == 0 || len(halves[1]) == 0 {
			continue
		}
		low, high = newGroup(keys, halves[0]), newGroup(keys, halves[1])
		low.bit, high.bit = bit+1, bit+1
		return low, high, true
	}
	return nil, nil, false
}

// A partKey is what parts trees. It is the same for the same name and size on
// every machine and in every version.
type partKey struct {
	class uint8 // the binary logarithm of the size
	hash  uint64
}

const (
	classBits = 6
	keyBits   = classBits + 64
)

// newPartKey returns the key of the nth item of its name, counted from 0.
func newPartKey(i Item, nth int) partKey {
	h := fnv.New64a()
	_, _ = h.Write([]byte(i.Name)) // never fails
	if nth > 0 {
		_, _ = fmt.Fprintf(h, "\x00%d", nth)
	}
	// The upper bits of FNV are alike for names that end alike.
	mixed := h.Sum64() * 0x9e3779b97f4a7c15
	mixed ^= mixed >> 32
	mixed *= 0x9e3779b97f4a7c15
	return partKey{class: uint8(bits.Len64(uint64(max(i.Size, 1))) - 1), hash: mixed}
}

// bit returns a bit of the key, counted from the most important one.
func (k partKey) bit(n int) int {
	if n < classBits {
		return int(k.class>>(classBits-1-n)) & 1
	}
	return int(k.hash>>(keyBits-1-n)) & 1
}

func (k partKey) compare(other partKey) int {
	return cmp.Or(cmp.Compare(k.class, other.class), cmp.Compare(k.hash, other.hash))
}

// groups is a heap with the costliest group on top.
type groups []*group

func (g groups) Len() int      { return len(g) }
func (g groups) Swap(i, j int) { g[i], g[j] = g[j], g[i] }

// Less orders by cost, and where that is the same by key.
func (g groups) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(g[j].cost, g[i].cost), g[i].first.compare(g[j].first)) < 0
}

// Push adds a group.
func (g *groups) Push(x any) { *g = append(*g, x.(*group)) }

// Pop removes the last group.
func (g *groups) Pop() any {
	last := (*g)[len(*g)-1]
	*g = (*g)[:len(*g)-1]
	return last
}
