package shellquote

import (
	"os/exec"
	"testing"
)

func TestWordsAreWhatAShellReads(t *testing.T) {
	for _, text := range []string{"", "a", "--file=/x,y:z@1%", "it's", "$HOME `x` \\", "a b", "ä", "~", "*", "two\nlines", "'", "-n"} {
		for _, word := range []string{Word(text), Quoted(text)} {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+word+"x").Output()
			if err != nil || string(out) != text+"x" {
				t.Errorf("%q as %s: a shell reads %q, %v", text, word, out, err)
			}
		}
	}
	if got := Word("/plain-1.0"); got != "/plain-1.0" {
		t.Errorf("a plain word is %s", got)
	}
}
