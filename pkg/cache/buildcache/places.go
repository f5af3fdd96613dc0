package buildcache

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A placer finds the places where packages were installed in files, and
// replaces them by where they are now. The rules are those of Spack's
// relocate_text.py, so that both do the same.
type placer struct {
	old, new []string
}

// places are those that the files of a package may name, which are its own,
// those of what it depends on, that of sbang, and last the tree, which is the
// start of most others.
func (b *buildinfo) places() *placer {
	p := &placer{}
	for _, hash := range slices.Sorted(maps.Keys(b.HashToPrefix)) {
		p.move(b.HashToPrefix[hash], "")
	}
	p.move(b.SbangPath, "")
	p.move(b.BuildPath, "")
	return p
}

// move says that what was at one place is at another now. Who says something
// first is right.
func (p *placer) move(from, to string) {
	if from == "" || from == to || slices.Contains(p.old, from) {
		return
	}
	p.old, p.new = append(p.old, from), append(p.new, to)
}

// starts says whether a path is at or below one of the places.
func (p *placer) starts(name string) bool {
	return slices.ContainsFunc(p.old, func(old string) bool { return strings.HasPrefix(name, old) })
}

// next finds the first place that data names from start on: which one, and
// where. Of several at one spot it is the one that was told first.
func (p *placer) next(data []byte, start int, found []int) (which, at int) {
	which, at = -1, len(data)
	for i, old := range p.old {
		if found[i] < start {
			found[i] = len(data)
			if n := bytes.Index(data[start:], []byte(old)); n >= 0 {
				found[i] = start + n
			}
		}
		if found[i] < at {
			which, at = i, found[i]
		}
	}
	return which, at
}

func (p *placer) unknown() []int {
	found := make([]int, len(p.old))
	for i := range found {
		found[i] = -1
	}
	return found
}

// in says whether a text names one of the places.
func (p *placer) in(text []byte) bool {
	changed := false
	p.eachInText(text, func(int, int) { changed = true })
	return changed
}

// eachInText calls do for each place that a text names. A path that only ends
// like one is another path.
func (p *placer) eachInText(text []byte, do func(which, at int)) {
	found := p.unknown()
	for start := 0; ; {
		which, at := p.next(text, start, found)
		if which < 0 {
			return
		}
		before := at
		for before > start && isWord(text[before-1]) {
			before--
		}
		if before > 0 && (text[before-1] == '/' || isWord(text[before-1])) {
			start = at + 1
			continue
		}
		do(which, at)
		start = at + len(p.old[which])
		for start < len(text) && (isWord(text[start]) || text[start] == '/') {
			start++
		}
	}
}

func isWord(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// text returns a text with all places replaced.
func (p *placer) text(text []byte) []byte {
	var out []byte
	done := 0
	p.eachInText(text, func(which, at int) {
		out = append(append(out, text[done:at]...), p.new[which]...)
		done = at + len(p.old[which])
	})
	return append(out, text[done:]...)
}

// link returns where a symbolic link goes now.
func (p *placer) link(target string) string {
	for i, old := range p.old {
		if rest, ok := strings.CutPrefix(target, old); ok {
			return p.new[i] + rest
		}
	}
	return target
}

// commonTail is how much of a string's end has to stay as it is: compilers and
// linkers let strings share their ends.
const commonTail = 7

// binary replaces all places in a program, in which nothing can move: what
// becomes shorter gets slashes before it, or a string ends earlier.
func (p *placer) binary(data []byte) error {
	found := p.unknown()
	for start := 0; ; {
		which, at := p.next(data, start, found)
		if which < 0 {
			return nil
		}
		before, after := p.old[which], p.new[which]
		end := at + len(before)
		shorter := len(before) - len(after)
		if shorter < 0 {
			return fmt.Errorf("%s is longer than %s and has no room in a program; take a shorter path, or make the cache in a tree with config:install_tree:padded_length", after, before)
		}
		tail := data[end:min(end+commonTail+1, len(data))]
		rest := bytes.IndexByte(tail, 0)
		replacement := strings.Repeat("/", shorter) + after
		switch {
		case rest < 0 || rest >= commonTail || lastBytes(before, commonTail-rest) == lastBytes(after, commonTail-rest):
		case shorter > commonTail:
			replacement = after + string(tail[:rest+1])
		default:
			return fmt.Errorf("%s and %s have different ends and about the same length, so that one can't replace the other in a program; take a shorter path, or make the cache in a tree with config:install_tree:padded_length", after, before)
		}
		copy(data[at:], replacement)
		if rest >= 0 {
			end += rest + 1
		}
		start = end
	}
}

func lastBytes(s string, n int) string { return s[max(0, len(s)-n):] }
