package inspect

import (
	"archive/tar"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// A block is one rectangle of a treemap, and what is in it.
type block struct {
	Name string `json:"n"`
	Size int64  `json:"s"`
	// Hidden are the bytes of it that nobody sees.
	Hidden int64   `json:"w,omitempty"`
	About  string  `json:"a,omitempty"`
	Blocks []block `json:"c,omitempty"`
}

// smallestShare of the whole has a block of its own; what is smaller is
// together in one.
const smallestShare = 1500

// layerBlocks are the layers with the directories in each.
func (img *Image) layerBlocks() block {
	all := block{Name: "all layers"}
	for _, l := range img.Layers {
		all.Size += l.Content
	}
	t := img.table
	sizes, hidden := make([]int64, len(t.nodes)), make([]int64, len(t.nodes))
	for i, l := range img.Layers {
		clear(sizes)
		clear(hidden)
		for j := img.counts[i].first; j < img.counts[i].end; j++ {
			e := t.entries.at(j)
			if e.kind != tar.TypeReg || e.inode != j {
				continue
			}
			sizes[e.node] += e.size
			if e.links == 0 {
				hidden[e.node] += e.size
			}
		}
		img.sumUp(sizes)
		img.sumUp(hidden)
		b := img.blockOf(rootNode, sizes, hidden, max(all.Size/smallestShare, 1))
		b.Name, b.About = fmt.Sprintf("layer %d", l.Number), l.Step
		if len(l.Packages) > 0 {
			b.Name = l.Packages[0]
			if more := len(l.Packages) - 1; more > 0 {
				b.Name += fmt.Sprintf(" and %d more", more)
			}
		}
		all.Hidden += b.Hidden
		all.Blocks = append(all.Blocks, b)
	}
	return all
}

// directoryBlocks are the directories of the image as it is in the end.
func (img *Image) directoryBlocks() block {
	sizes := img.directorySizes()
	return img.blockOf(rootNode, sizes, make([]int64, len(sizes)), max(sizes[rootNode]/smallestShare, 1))
}

// packageBlocks are the packages: those of Spack, and the distribution's as
// large as they say they are.
func (img *Image) packageBlocks() block {
	all := block{Name: "all packages"}
	add := func(kind string, list []block) {
		slices.SortStableFunc(list, largerFirst)
		b := block{Name: kind, Blocks: list}
		for _, p := range list {
			b.Size += p.Size
		}
		if b.Size > 0 {
			all.Size += b.Size
			all.Blocks = append(all.Blocks, b)
		}
	}
	var spack, debian []block
	for _, p := range img.Spack {
		if !p.External {
			spack = append(spack, block{Name: p.Name + "@" + p.Version, Size: p.Size, About: p.Prefix})
		}
	}
	for _, p := range img.Debian {
		debian = append(debian, block{Name: p.Name, Size: p.Size, About: p.Version})
	}
	add("Spack", spack)
	add("Debian", debian)
	slices.SortStableFunc(all.Blocks, largerFirst)
	return all
}

// largerFirst is the order in which tiles become near squares.
func largerFirst(x, y block) int { return cmp.Compare(y.Size, x.Size) }

// sumUp adds to each directory what is below. A node comes after its parent.
func (img *Image) sumUp(sizes []int64) {
	for n := len(sizes) - 1; n > 0; n-- {
		sizes[img.table.nodes[n].parent] += sizes[n]
	}
}

// blockOf makes the block of a node. A directory with nothing but another
// directory is one block with it; what Spack pads a path with is there once.
func (img *Image) blockOf(n uint32, sizes, hidden []int64, least int64) block {
	t := img.table
	b := block{Name: t.names[t.nodes[n].name], Size: sizes[n], Hidden: hidden[n]}
	rest := sizes[n]
	var restHidden int64
	for c := t.nodes[n].child; c != noNode; c = t.nodes[c].sibling {
		if sizes[c] < least {
			restHidden += hidden[c]
			continue
		}
		rest -= sizes[c]
		b.Blocks = append(b.Blocks, img.blockOf(c, sizes, hidden, least))
	}
	if rest > 0 && len(b.Blocks) > 0 {
		b.Blocks = append(b.Blocks, block{Name: "smaller ones", Size: rest, Hidden: min(restHidden, rest)})
	}
	if len(b.Blocks) == 1 && rest == 0 {
		only := b.Blocks[0]
		switch {
		case b.Name == "", b.Name == spack.Placeholder && strings.HasPrefix(only.Name, b.Name):
		default:
			only.Name = b.Name + "/" + only.Name
		}
		return only
	}
	slices.SortStableFunc(b.Blocks, largerFirst)
	return b
}
