package yamlfile

import (
	"strings"
	"testing"
)

var poem = Kind{Name: "a poem", Empty: "is empty; poems have words", MaxNodes: 100}

func TestParse(t *testing.T) {
	f, p := Parse([]byte("\xef\xbb\xbfa: 1\nb: [2, 3]\n"), poem)
	if p != nil || len(f.Root.Content) != 1 || len(f.Root.Content[0].Content) != 4 {
		t.Fatalf("%+v, %+v", f, p)
	}
	if f.Source(2) != "b: [2, 3]" || f.Source(0) != "" || f.Source(9) != "" {
		t.Errorf("lines are %q", f.Lines)
	}
}

// Each problem is told with its place, and in words for who wrote the file.
func TestProblems(t *testing.T) {
	for what, c := range map[string]struct {
		text         string
		line, column int
		message      string
	}{
		"nothing":           {"", 0, 0, "is empty; poems have words"},
		"a comment":         {"# a\n", 0, 0, "is empty; poems have words"},
		"null":              {"~\n", 0, 0, "is empty; poems have words"},
		"too large":         {strings.Repeat("# long\n", MaxSize/7+1), 0, 0, "is larger than 1048576 bytes; a poem is a small file"},
		"UTF-16":            {"\xff\xfea\x00", 0, 0, "is UTF-16 text; save it as UTF-8"},
		"Latin 1":           {"a: 1\nb: \xe9\n", 2, 4, "is not UTF-8 text; save the file as UTF-8"},
		"a bell":            {"a: \a\n", 1, 4, "the control character U+0007 is not allowed in a poem"},
		"a tab":             {"a:\n\tb: 1\n", 2, 1, "a tab cannot indent in YAML; use spaces"},
		"a second document": {"a: 1\n---\nb: 2\n", 2, 1, "a second document begins here; a poem is one document"},
		"an open quote":     {"a: 1\nb: \"x\n", 2, 4, "a quote is opened here and not closed"},
		"indentation":       {"a: 1\n  b: 2\n", 2, 3, "a second ': ' cannot be here; quote the value, or check the indentation"},
		"laughs":            {"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: [*b,*b]\n", 1, 0, "too many values; aliases may repeat one another"},
		"an endless alias":  {"a: &a [*a]\n", 1, 8, "the alias *a is inside of what it stands for"},
		"depth":             {"a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), 1, 0, "nested too deeply"},
		"a tag":             {"a: !mine 1\n", 1, 4, "the tag !mine is not supported"},
	} {
		t.Run(what, func(t *testing.T) {
			f, p := Parse([]byte(c.text), poem)
			if p == nil {
				t.Fatalf("no problem: %+v", f)
			}
			if p.Line != c.line || c.column > 0 && p.Column != c.column || p.Message != c.message {
				t.Errorf("got %d:%d: %s", p.Line, p.Column, p.Message)
			}
		})
	}
}

func TestOtherTags(t *testing.T) {
	tagged := poem
	tagged.Tags = true
	if _, p := Parse([]byte("a: !mine 1\n"), tagged); p != nil {
		t.Error(p.Message)
	}
}
