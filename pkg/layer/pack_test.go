package layer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pdidev/pdibuild/pkg/layer"
)

// trees makes n trees whose sizes are spread as those of packages are: a few
// of hundreds of megabytes, many of some kilobytes.
func trees(n int, seed uint64) []layer.Item {
	r := rand.New(rand.NewPCG(seed, 1))
	items := make([]layer.Item, n)
	for i := range items {
		items[i] = layer.Item{Name: fmt.Sprintf("package-%03d", i), Size: int64(1) << (12 + r.IntN(17))}
	}
	return items
}

// layers names the trees of each layer, with their sizes: a layer with the
// same text has the same digest.
func layers(items []layer.Item, packs [][]int) []string {
	var all []string
	for _, p := range packs {
		text := ""
		for _, i := range p {
			text += fmt.Sprintf("%s:%d ", items[i].Name, items[i].Size)
		}
		all = append(all, text)
	}
	return all
}

func bytesOf(items []layer.Item) int64 {
	var n int64
	for _, i := range items {
		n += i.Size
	}
	return n
}

// changedBytes are those of layers that are in after and not in before.
func changedBytes(before, after []layer.Item, limit int) int64 {
	old := layers(before, layer.Pack(before, limit))
	var changed int64
	packs := layer.Pack(after, limit)
	for n, text := range layers(after, packs) {
		if slices.Contains(old, text) {
			continue
		}
		for _, i := range packs[n] {
			changed += after[i].Size
		}
	}
	return changed
}

func TestPackTakesEveryTreeOnce(t *testing.T) {
	for _, n := range []int{0, 1, 79, 80, 81, 200, 1000} {
		for _, limit := range []int{-1, 0, 1, 2, 7, 80, 100} {
			items := trees(n, 7)
			packs := layer.Pack(items, limit)
			if len(packs) > max(limit, 1) {
				t.Errorf("%d trees in %d layers, want at most %d", n, len(packs), limit)
			}
			all := slices.Concat(packs...)
			slices.Sort(all)
			if len(all) != n || len(slices.Compact(all)) != n {
				t.Errorf("%d trees, limit %d: the layers have %d", n, limit, len(all))
			}
		}
	}
}

func TestPackDoesNotDependOnTheOrder(t *testing.T) {
	items := trees(200, 3)
	want := layers(items, layer.Pack(items, 100))
	rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	if got := layers(items, layer.Pack(items, 100)); !slices.Equal(got, want) {
		t.Error("another order of trees gives other layers")
	}
}

// pushed is how many bytes of layers are new when each tree changes once, one
// after the other, in terms of the trees' own bytes.
func pushed(items []layer.Item, limit int) float64 {
	var sum int64
	for _, p := range layer.Pack(items, limit) {
		for _, i := range p {
			sum += items[i].Size * int64(len(p))
		}
	}
	return float64(sum) / float64(bytesOf(items))
}

// With as many layers as trees nothing is pushed in vain. With half as many,
// trees of one size cannot do better than 2; sizes as packages have them can.
func TestPackPushesLittleInVain(t *testing.T) {
	alike := make([]layer.Item, 200)
	for i := range alike {
		alike[i] = layer.Item{Name: fmt.Sprintf("package-%03d", i), Size: 2 << 20}
	}
	for _, c := range []struct {
		name  string
		items []layer.Item
		limit int
		most  float64
	}{
		{"of one size", alike, 200, 1},
		{"of one size", alike, 100, 2.5},
		{"of 4 kB to 256 MB", trees(200, 1), 100, 1.1},
		{"of 4 kB to 256 MB", trees(200, 2), 100, 1.1},
		{"of 4 kB to 256 MB", trees(400, 3), 100, 1.6},
	} {
		got := pushed(c.items, c.limit)
		t.Logf("%d trees %s in %d layers: %.2f times the changed bytes", len(c.items), c.name, c.limit, got)
		if got > c.most {
			t.Errorf("%d trees %s in %d layers: %.2f times the changed bytes are new, want at most %.2f", len(c.items), c.name, c.limit, got, c.most)
		}
	}
}

// Packages of one name and size have layers of their own as others do.
func TestPackPartsNamesakes(t *testing.T) {
	items := make([]layer.Item, 10)
	for i := range items {
		items[i] = layer.Item{Name: "same", Size: 100}
	}
	for _, limit := range []int{1, 4, 10, 100} {
		if packs := layer.Pack(items, limit); len(packs) != min(limit, 10) {
			t.Errorf("limit %d: ten trees of one name and size are in %v", limit, packs)
		}
	}
}

// TestPackIsStable measures what the package promises: with 200 trees, the
// bytes of layers with new digests when one tree changes, appears or goes.
func TestPackIsStable(t *testing.T) {
	var worst, sum float64
	rounds := 0
	for seed := range uint64(50) {
		before := trees(200, seed)
		n := int(seed*37) % len(before)
		changed := slices.Clone(before)
		changed[n].Size += changed[n].Size/10 + 1
		appeared := append(slices.Clone(before), layer.Item{Name: "package-new", Size: 1 << 20})
		gone := slices.Delete(slices.Clone(before), n, n+1)
		for _, c := range []struct {
			name  string
			after []layer.Item
			own   int64 // bytes that have to be new
		}{{"changed", changed, changed[n].Size}, {"appeared", appeared, 1 << 20}, {"gone", gone, 0}} {
			extra := float64(changedBytes(before, c.after, 100)-c.own) / float64(bytesOf(before))
			worst, sum, rounds = max(worst, extra), sum+extra, rounds+1
			if extra > 0.05 {
				t.Errorf("seed %d, one tree %s: %.1f %% of all bytes are in new layers beside its own", seed, c.name, 100*extra)
			}
		}
	}
	t.Logf("bytes in new layers beside the tree's own, of all bytes: mean %.2f %%, worst %.2f %%", 100*sum/float64(rounds), 100*worst)
	if mean := sum / float64(rounds); mean > 0.0025 {
		t.Errorf("on average %.2f %% of all bytes move without need", 100*mean)
	}
}
