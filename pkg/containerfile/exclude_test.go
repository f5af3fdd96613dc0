package containerfile

import (
	"slices"
	"testing"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

func TestExcluding(t *testing.T) {
	for _, c := range []struct{ step, sources, exclude []string }{
		{[]string{"d", "*.pyc"}, []string{"d"}, []string{"*.pyc"}},
		{[]string{"/d/", "!keep"}, []string{"d"}, []string{"!keep"}},
		{[]string{".", "*.pyc"}, []string{"."}, []string{"*.pyc"}},
		{[]string{"*", "*.pyc"}, []string{"*"}, []string{"*.pyc"}},
		{[]string{"/d/*", "*.pyc", "!a.pyc"}, []string{"d/*"}, []string{"*.pyc", "!a.pyc", "d/*.pyc", "!d/a.pyc"}},
		{[]string{"/d/**/*.so"}, []string{"/d/*/*.so"}, nil},
		{[]string{"/d/"}, []string{"/d/"}, nil},
	} {
		sources, exclude := excluding(recipe.Copy{Sources: c.step[:1], Exclude: c.step[1:]})
		if !slices.Equal(sources, c.sources) || !slices.Equal(exclude, c.exclude) {
			t.Errorf("%q: %q without %q", c.step, sources, exclude)
		}
	}
}
