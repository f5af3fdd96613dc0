package main

import (
	"context"
	"regexp"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/pdidev/pdibuild/pkg/inspect"
)

// look shows an image on the terminal until the person has seen enough.
func (v *inspectVerb) look(ctx context.Context, img *inspect.Image) error {
	m := newTreeModel(img)
	m.color = v.app.env("NO_COLOR") == "" && v.app.env("TERM") != "dumb"
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(v.app.stdin), tea.WithOutput(v.app.stdout)).Run()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A pane is a part of the screen that keys go to.
type pane int

const (
	layersPane pane = iota
	filesPane
)

// A treeModel is the state of the screen, in the manner of bubbletea: Update
// takes a key, View draws. Keys are those that dive has.
type treeModel struct {
	img  *inspect.Image
	view *inspect.View
	rows []inspect.Row
	// collapsed directories by node.
	collapsed map[uint32]bool
	hidden    map[inspect.ChangeKind]bool
	pane      pane
	// layer, file are the lines with the cursor; top is the first line of the
	// files that is on the screen.
	layer, file, top int
	width, height    int
	// typing says that keys go to the filter.
	typing bool
	filter string
	color  bool
}

func newTreeModel(img *inspect.Image) *treeModel {
	m := &treeModel{
		img: img, view: inspect.NewView(img), collapsed: map[uint32]bool{}, hidden: map[inspect.ChangeKind]bool{},
		width: 80, height: 24, layer: max(len(img.Layers)-1, 0),
	}
	m.refresh()
	return m
}

// Init implements tea.Model.
func (m *treeModel) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *treeModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if m.take(msg) {
			return m, tea.Quit
		}
	}
	m.keepInSight()
	return m, nil
}

// take takes one key and says whether it ends the program.
func (m *treeModel) take(msg tea.KeyPressMsg) (quit bool) {
	s := msg.String()
	if s == "ctrl+c" {
		return true
	}
	if m.typing {
		m.typeFilter(msg)
		return false
	}
	if s == "q" || s == "esc" && m.filter == "" {
		return true
	}
	m.key(s)
	return false
}

// typeFilter takes a key while the filter is being written.
func (m *treeModel) typeFilter(msg tea.KeyPressMsg) {
	switch msg.Code {
	case tea.KeyEnter:
		m.typing = false
		return
	case tea.KeyEscape:
		m.typing, m.filter = false, ""
	case tea.KeyBackspace:
		if runes := []rune(m.filter); len(runes) > 0 {
			m.filter = string(runes[:len(runes)-1])
		}
	default:
		if msg.Text == "" {
			return
		}
		m.filter += msg.Text
	}
	m.refilter()
}

// key takes any other key.
func (m *treeModel) key(key string) {
	switch key {
	case "tab":
		m.pane = 1 - m.pane
	case "/", "ctrl+f":
		m.typing, m.pane = true, filesPane
	case "esc":
		m.filter = ""
		m.refilter()
	case "ctrl+a":
		m.toggle(inspect.Added)
	case "ctrl+r":
		m.toggle(inspect.Gone)
	case "ctrl+m", "enter": // a terminal sends the same for both
		m.toggle(inspect.Changed)
	case "ctrl+u":
		m.toggle(inspect.Unmodified)
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.filesHeight())
	case "pgdown":
		m.move(m.filesHeight())
	case "home", "g":
		m.move(-1 << 30)
	case "end", "G":
		m.move(1 << 30)
	case "space", "left", "right", "h", "l", "ctrl+space":
		if m.pane == filesPane {
			m.fold(key)
		}
	}
}

func (m *treeModel) toggle(k inspect.ChangeKind) {
	m.hidden[k] = !m.hidden[k]
	m.refilter()
}

// move moves the cursor of the pane.
func (m *treeModel) move(by int) {
	if m.pane == filesPane {
		m.file = max(min(m.file+by, len(m.rows)-1), 0)
		return
	}
	before := m.layer
	m.layer = max(min(m.layer+by, len(m.img.Layers)-1), 0)
	if m.layer != before {
		m.refresh()
	}
}

// fold collapses and opens directories: space does either, ctrl+space all.
func (m *treeModel) fold(key string) {
	if key == "ctrl+space" {
		all := m.view.Folders()
		close := len(m.collapsed) < len(all)/2
		clear(m.collapsed)
		for _, n := range all {
			if close {
				m.collapsed[n] = true
			}
		}
		m.list()
		return
	}
	if m.file >= len(m.rows) || !m.rows[m.file].Folder {
		return
	}
	n := m.rows[m.file].Node
	closed := !m.collapsed[n]
	switch key {
	case "left", "h":
		closed = true
	case "right", "l":
		closed = false
	}
	if closed {
		m.collapsed[n] = true
	} else {
		delete(m.collapsed, n)
	}
	m.list()
}

// refresh shows the files of another layer.
func (m *treeModel) refresh() {
	if len(m.img.Layers) > 0 {
		m.view.At(m.layer + 1)
	}
	m.refilter()
}

// refilter applies the filters. A filter is a regular expression, or a plain
// text where it is none.
func (m *treeModel) refilter() {
	var hidden []inspect.ChangeKind
	for k, on := range m.hidden {
		if on {
			hidden = append(hidden, k)
		}
	}
	var match func(string) bool
	if m.filter != "" {
		if re, err := regexp.Compile("(?i)" + m.filter); err == nil {
			match = re.MatchString
		} else {
			match = func(path string) bool { return strings.Contains(path, m.filter) }
		}
	}
	m.view.Filter(match, hidden...)
	m.list()
}

// list makes the rows anew; the cursor stays at its path where it can.
func (m *treeModel) list() {
	var at uint32
	if m.file < len(m.rows) {
		at = m.rows[m.file].Node
	}
	m.rows = m.view.Rows(m.collapsed)
	m.file = max(min(m.file, len(m.rows)-1), 0)
	for i, r := range m.rows {
		if r.Node == at {
			m.file = i
		}
	}
}

func (m *treeModel) keepInSight() {
	h := m.filesHeight()
	m.top = max(min(m.top, m.file), m.file-h+1, 0)
}
