package secret

// An automaton finds any of a number of patterns in one pass over the data
// (Aho and Corasick, 1975). Where no pattern has begun it leaps ahead, by what
// two bytes say about the patterns that may end in them (Wu and Manber, 1994).
// Its memory grows with the patterns' length alone, so keys of some kilobytes
// in a dozen forms are no problem.
type automaton struct {
	nodes []node // the first is the root
	root  [256]int32
	// window is the length of the shortest pattern, 255 at most. leap says,
	// for the last two bytes of a window, how far the next one may move.
	window int
	leap   [1 << 16]uint8
}

type node struct {
	child, sibling, fail int32
	depth                int32 // how many bytes lead here
	longest              int32 // length of the longest pattern that ends here
	hit                  hit   // of that pattern
	char                 byte
}

// A hit tells patterns apart.
type hit struct {
	label int
	form  string
}

func newAutomaton() *automaton { return &automaton{nodes: make([]node, 1)} }

// add adds a pattern of at least two bytes. The first hit of a pattern counts.
func (a *automaton) add(pattern string, h hit) {
	at := int32(0)
	for i := range len(pattern) {
		next := a.child(at, pattern[i])
		if next == 0 {
			next = int32(len(a.nodes))
			a.nodes = append(a.nodes, node{char: pattern[i], depth: int32(i + 1), sibling: a.nodes[at].child})
			a.nodes[at].child = next
		}
		at = next
	}
	if n := &a.nodes[at]; n.longest == 0 {
		n.longest, n.hit = n.depth, h
	}
	if a.window == 0 || len(pattern) < a.window {
		a.window = min(len(pattern), 255)
	}
}

func (a *automaton) child(at int32, c byte) int32 {
	for n := a.nodes[at].child; n != 0; n = a.nodes[n].sibling {
		if a.nodes[n].char == c {
			return n
		}
	}
	return 0
}

// compile makes the automaton ready for use, after the last add.
func (a *automaton) compile() {
	for n := a.nodes[0].child; n != 0; n = a.nodes[n].sibling {
		a.root[a.nodes[n].char] = n
	}
	for i := range a.leap {
		a.leap[i] = uint8(max(a.window-1, 0))
	}
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for n := a.nodes[at].child; n != 0; n = a.nodes[n].sibling {
			a.link(at, n)
			queue = append(queue, n)
		}
	}
}

// link completes a node after those that are less deep.
func (a *automaton) link(parent, n int32) {
	this := &a.nodes[n]
	if parent == 0 {
		return // its fail is the root
	}
	this.fail = a.step(a.nodes[parent].fail, this.char)
	if suffix := a.nodes[this.fail]; this.longest == 0 && suffix.longest > 0 {
		this.longest, this.hit = suffix.longest, suffix.hit
	}
	if far := a.window - int(this.depth); far >= 0 {
		pair := uint16(a.nodes[parent].char) | uint16(this.char)<<8
		a.leap[pair] = min(a.leap[pair], uint8(far))
	}
}

func (a *automaton) empty() bool { return a.window == 0 }

// step returns the state after c: the longest beginning of a pattern that ends
// there.
func (a *automaton) step(state int32, c byte) int32 {
	for state != 0 {
		if next := a.child(state, c); next != 0 {
			return next
		}
		state = a.nodes[state].fail
	}
	return a.root[c]
}

// skip returns the next position from i on at which a pattern may begin, when
// none has begun before i.
func (a *automaton) skip(data []byte, i int) int {
	last := a.window - 1
	for i+last < len(data) {
		far := a.leap[uint16(data[i+last-1])|uint16(data[i+last])<<8]
		if far == 0 {
			return i
		}
		i += int(far)
	}
	return i
}
