package spackinstall

import "strings"

// concretizeHints say what to do about a message of Spack: the first entry counts
// of which all texts are in the message. A message without an entry has no hint.
var concretizeHints = []struct {
	texts []string
	hint  string
}{
	{[]string{"Required path (", ") does not exist"}, "an include: names that path, seen from the file that includes it; correct it, or say optional: true"},
	{[]string{"cannot concretize", "does not exist"}, "look at the package's name; if it is one of your own, its repository has to be in repos:"},
	{[]string{"cannot load package"}, "correct that package.py; 'spack list' in the image, with the repository, loads it without a build"},
	{[]string{"internal error"}, "one of the packages may depend on a package that no repository has: look at depends_on in those of repos:, and at the names in specs:"},
	{[]string{"environment view at", "non-empty"}, "name a directory in view: that the image does not have, or an empty one"},
	{[]string{"deprecated version"}, "take another version, or say 'config: {deprecated: true}'"},
	{[]string{"buildable:false"}, "name an external of that package in packages: that fits, or let Spack build it"},
	{[]string{"No such variant"}, loosen},
	{[]string{"No version exists that satisfies"}, loosen},
	{[]string{"concretization failed"}, loosen},
	{[]string{"annot satisfy"}, loosen},
	{[]string{"annot select"}, loosen},
	{[]string{"annot set variant"}, loosen},
	{[]string{"conflict"}, loosen},
	{[]string{"is not a valid value"}, loosen},
	{[]string{"alid provider for virtual"}, loosen},
}

const loosen = "loosen a version or variant in specs: or packages:, or name an external package"

// concretizeHint returns what to do about a message of Spack, "" if that is not
// known.
func concretizeHint(why string) string {
	for _, h := range concretizeHints {
		all := true
		for _, text := range h.texts {
			all = all && strings.Contains(why, text)
		}
		if all {
			return h.hint
		}
	}
	return ""
}
