package spack

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// A ReasonKind is a class of reasons why a package could not be installed.
type ReasonKind int

// The kinds of reasons.
const (
	// ReasonUnknown is none of the others.
	ReasonUnknown ReasonKind = iota
	// ReasonFetch: the sources cannot be had.
	ReasonFetch
	// ReasonChecksum: what was fetched is not what the package names.
	ReasonChecksum
	// ReasonPatch: a patch does not fit the sources.
	ReasonPatch
	// ReasonRecipe: the package's own Python code has failed.
	ReasonRecipe
	// ReasonBuild: a command of the build has failed.
	ReasonBuild
	// ReasonSpace: the disk is full.
	ReasonSpace
)

// A Reason is why a package could not be installed.
type Reason struct {
	Kind ReasonKind
	// Text is one line; "" if the output has none that says it.
	Text string
}

// reasonSigns are what Spack and compilers write, most telling first.
var reasonSigns = []struct {
	kind ReasonKind
	sign *regexp.Regexp
}{
	{ReasonSpace, regexp.MustCompile(`No space left on device`)},
	{ReasonChecksum, regexp.MustCompile(`(?:ChecksumError: )?(\w+ checksum failed for .*)`)},
	{ReasonFetch, regexp.MustCompile(`(?:FetchError: )(.*)|(?:^|\s)(All fetchers failed.*)`)},
	{ReasonPatch, regexp.MustCompile(`(?:Patch (.*) failed)|(\d+ out of \d+ hunks? (?:FAILED|failed).*)|(patch: \*\*\*\* .*)`)},
	{ReasonBuild, regexp.MustCompile(`^> (.*\b(?:error|Error|undefined reference|not found|No such file).*)`)},
	{ReasonBuild, regexp.MustCompile(`(?:^|\s)((?:CMake Error|configure: error|ld: |collect2: error).*)`)},
	{ReasonBuild, makeError},
	{ReasonRecipe, regexp.MustCompile(`^(?:> )?\s*((?:[\w.]+\.)?(?:InstallError|AttributeError|NameError|TypeError|KeyError|ValueError|ImportError|FileNotFoundError|OSError|RuntimeError): .*)`)},
	{ReasonBuild, regexp.MustCompile(`(Command exited with status \d+.*)`)},
}

var (
	// makeError is make's word on a command that has failed, which tells less
	// than the command's own.
	makeError = regexp.MustCompile(`^> (\w*make(?:\[\d+\])?: \*\*\* .*)`)
	// harmless lines look like errors: what make ignores, and a compiler's
	// remarks.
	harmless = regexp.MustCompile(`\(ignored\)$|:\d+: (?:note|warning): `)
	// programSays is a line of a program that gives its name, makeSays of make.
	programSays = regexp.MustCompile(`^(?:> |  )((?:[\w.+-]*/)*[\w.+-]+: \S.*)`)
	makeSays    = regexp.MustCompile(`^(?:> |  )\w*make(?:\[\d+\])?: `)
)

// Reason tells why, from the lines of the log.
func (f Failure) Reason() Reason {
	for _, s := range reasonSigns {
		for i, line := range f.Lines {
			m := s.sign.FindStringSubmatch(line)
			if m == nil || harmless.MatchString(line) || s.sign != makeError && makeError.MatchString(line) {
				continue
			}
			text := cmp.Or(append(m[1:], m[0])...)
			if s.sign == makeError {
				text = cmp.Or(f.saidBefore(i), text)
			}
			return Reason{Kind: s.kind, Text: shortPath(strings.TrimSpace(text), f)}
		}
	}
	return Reason{}
}

// saidBefore is what a program has said just before make said that it failed.
func (f Failure) saidBefore(line int) string {
	for _, before := range slices.Backward(f.Lines[max(line-5, 0):line]) {
		if m := programSays.FindStringSubmatch(before); m != nil && !makeSays.MatchString(before) {
			return m[1]
		}
	}
	return ""
}

// stagePath is a directory that Spack makes for one package.
var stagePath = regexp.MustCompile(`\S*/spack-stage-[^/\s]*/`)

// shortPath takes directories that are gone with the build out of a line.
func shortPath(text string, f Failure) string {
	text = stagePath.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "spack-stage-"+f.Name+"-"+f.Version+"-"+f.Hash, f.Name+"@"+f.Version)
	const longest = 200
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "…"
	}
	return text
}

// Digest is what of the lines a tired person has to read: without the Python
// frames that lead to an error of Spack's own.
func (f Failure) Digest() []string {
	var digest []string
	inTrace := false
	for _, line := range f.Lines {
		text := strings.TrimPrefix(strings.TrimPrefix(line, "> "), "  ")
		switch {
		case strings.HasPrefix(text, "Traceback (most recent call last)"):
			inTrace = true
		case inTrace && (strings.HasPrefix(text, "  ") || text == ""):
		default:
			inTrace = false
			digest = append(digest, line)
		}
	}
	if len(digest) == 0 {
		return f.Lines
	}
	return digest
}
