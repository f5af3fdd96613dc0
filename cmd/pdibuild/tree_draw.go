package main

import (
	"fmt"
	"io/fs"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/pdidev/pdibuild/pkg/inspect"
)

// Sizes of the screen's parts.
const (
	sideBySide  = 100 // columns from which on the panes are beside each other
	layersWidth = 46
	stackedRows = 7 // lines of the layers when they are above the files
)

func (m *treeModel) beside() bool { return m.width >= sideBySide }

// filesHeight is how many files the screen has room for.
func (m *treeModel) filesHeight() int {
	h := m.height - 3 // two headings and the help
	if !m.beside() {
		h -= m.stackedLayers() + 1
	}
	return max(h, 1)
}

func (m *treeModel) stackedLayers() int { return min(stackedRows, len(m.img.Layers)) }

// View implements tea.Model.
func (m *treeModel) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

// text is what is on the screen.
func (m *treeModel) text() string {
	title := m.paint("1", fit(" "+visibleText(m.img.Name), m.width))
	lines := []string{title}
	if m.beside() {
		left := append(m.layerLines(layersWidth, min(len(m.img.Layers), max(m.filesHeight()-12, 3))), "")
		left = append(left, m.detailLines(layersWidth)...)
		right := m.fileLines(m.width - layersWidth - 3)
		for i := range m.filesHeight() + 1 {
			l, r := "", ""
			if i < len(left) {
				l = left[i]
			}
			if i < len(right) {
				r = right[i]
			}
			lines = append(lines, pad(l, layersWidth)+" │ "+r)
		}
	} else {
		lines = append(lines, m.layerLines(m.width, m.stackedLayers())...)
		right := m.fileLines(m.width)
		for len(right) < m.filesHeight()+1 {
			right = append(right, "")
		}
		lines = append(lines, right...)
	}
	return strings.Join(append(lines, m.helpLine()), "\n")
}

// layerLines are the heading and the layers around the cursor.
func (m *treeModel) layerLines(width, room int) []string {
	lines := []string{m.heading(fmt.Sprintf("Layers (%d)", len(m.img.Layers)), m.pane == layersPane, width)}
	first := max(min(m.layer-room/2, len(m.img.Layers)-room), 0)
	for i := first; i < min(first+room, len(m.img.Layers)); i++ {
		l := m.img.Layers[i]
		text := fit(fmt.Sprintf("%8s  %s", inspect.SizeText(l.Size), l.ShownStep()), width)
		if i == m.layer {
			text = m.paint("7", pad(text, width))
		}
		lines = append(lines, text)
	}
	return lines
}

// detailLines say more about the layer and the image.
func (m *treeModel) detailLines(width int) []string {
	if len(m.img.Layers) == 0 {
		return []string{"the image has no layers"}
	}
	l := m.img.Layers[m.layer]
	lines := []string{m.heading(fmt.Sprintf("Layer %d", l.Number), false, width)}
	step := ansi.Hardwrap(l.ShownStep(), width, true)
	lines = append(lines, firstLines(strings.Split(step, "\n"), 4)...)
	lines = append(lines,
		fmt.Sprintf("%d added, %d changed, %d removed", l.Added, l.Changed, l.Removed),
		fmt.Sprintf("%s hidden by later layers", inspect.SizeText(l.Wasted)),
		fit(l.Digest, width))
	w := m.img.Waste(1)
	return append(lines, "", m.heading("Image", false, width),
		fmt.Sprintf("%s hidden (%.1f %%)", inspect.SizeText(w.Hidden), w.Percent),
		fmt.Sprintf("%s in duplicates", inspect.SizeText(w.Duplicate)))
}

func firstLines(lines []string, n int) []string { return lines[:min(n, len(lines))] }

// fileLines are the heading and the files that are in sight.
func (m *treeModel) fileLines(width int) []string {
	heading := "Files"
	var hides []string
	for _, k := range []inspect.ChangeKind{inspect.Added, inspect.Gone, inspect.Changed, inspect.Unmodified} {
		if m.hidden[k] {
			hides = append(hides, string(k))
		}
	}
	if hides != nil {
		heading += " without " + strings.Join(hides, ", ")
	}
	if m.filter != "" || m.typing {
		heading += " that fit " + visibleText(m.filter)
		if m.typing {
			heading += "▏"
		}
	}
	lines := []string{m.heading(heading, m.pane == filesPane, width)}
	for i := m.top; i < min(m.top+m.filesHeight(), len(m.rows)); i++ {
		text := fit(m.fileLine(m.rows[i], width), width)
		switch {
		case i == m.file && m.pane == filesPane:
			text = m.paint("7", pad(text, width))
		case m.rows[i].Change == inspect.Added:
			text = m.paint("32", text)
		case m.rows[i].Change == inspect.Changed:
			text = m.paint("33", text)
		case m.rows[i].Change == inspect.Gone:
			text = m.paint("31", text)
		}
		lines = append(lines, text)
	}
	if len(m.rows) == 0 {
		lines = append(lines, "nothing to show")
	}
	return lines
}

// fileLine is a file as ls and tree show it, with a sign of its change, which
// those see who see no color.
func (m *treeModel) fileLine(r inspect.Row, width int) string {
	sign := map[inspect.ChangeKind]string{inspect.Added: "+", inspect.Changed: "~", inspect.Gone: "-"}[r.Change]
	branch := "  "
	if r.Folder {
		branch = "▾ "
		if m.collapsed[r.Node] {
			branch = "▸ "
		}
	}
	name := r.Name
	if r.Kind == "directory" {
		name += "/"
	}
	line := fmt.Sprintf("%1s %8s  %s%s%s", sign, inspect.SizeText(r.Size), strings.Repeat("  ", min(r.Depth, 40)), branch, name)
	if width < sideBySide/2 {
		return line
	}
	return fmt.Sprintf("%s %9s %s", modeText(r), fmt.Sprintf("%d:%d", r.UID, r.GID), line)
}

// modeText is the mode as ls has it.
func modeText(r inspect.Row) string {
	mode := fs.FileMode(r.Mode & 0o777)
	text := []byte(mode.String())
	switch r.Kind {
	case "directory":
		text[0] = 'd'
	case "link":
		text[0] = 'l'
	}
	for _, special := range []struct {
		bit   uint32
		place int
		sign  byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if r.Mode&special.bit != 0 {
			text[special.place] = special.sign
		}
	}
	return string(text)
}

func (m *treeModel) helpLine() string {
	help := " Tab pane · ↑↓ move · space fold · ^A added ^R removed ^M modified ^U unmodified · / filter · q quit"
	if m.typing {
		help = " type a regular expression · Enter keeps it · Esc drops it"
	}
	return m.paint("2", fit(help, m.width))
}

func (m *treeModel) heading(text string, active bool, width int) string {
	mark := "─ "
	if active {
		mark = "━ "
	}
	text = fit(mark+text, width)
	text += ansi.Truncate(" "+strings.Repeat(mark[:len(mark)-1], width), max(width-ansi.StringWidth(text), 0), "")
	if active {
		return m.paint("1;36", text)
	}
	return text
}

// paint adds color where there may be some. Reverse is no color, but the
// cursor: it stays.
func (m *treeModel) paint(code, text string) string {
	if !m.color && code != "7" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// fit cuts a text to a width, as a terminal counts it.
func fit(text string, width int) string { return ansi.Truncate(text, max(width, 0), "…") }

// pad makes a text, which may have colors, as wide as width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-ansi.StringWidth(colors.Replace(text)), 0))
}

var colors = strings.NewReplacer("\x1b[7m", "", "\x1b[1;36m", "", "\x1b[0m", "")

// visibleText is a text of the image or of the person, without what a terminal
// would obey.
func visibleText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '�'
		}
		return r
	}, text)
}
