package builder

import (
	"errors"
	"regexp"
	"slices"
)

// compilerLacks is what gcc, g++ and gfortran say where the distribution's part
// of a compiler is not there: the C library's headers and start files, the
// assembler and the linker. A compiler from Spack has none of them.
var compilerLacks = regexp.MustCompile(`stdio\.h: No such file|(?:Scrt|crt)[1in]\.o|cannot (?:find|execute) .(?:ld|as|collect2)\b|cannot find -l(?:c|m)\b`)

// compilerHint says what a compiler needs that does not work in the image.
func compilerHint(err error) error {
	var step *StepError
	if !errors.As(err, &step) || !slices.ContainsFunc(step.Tail, compilerLacks.MatchString) {
		return err
	}
	hinted := *step
	hinted.Hint = "the image lacks what compilers take from the distribution, headers of the C library, an assembler and a linker: install them in this stage, on Debian and Ubuntu libc6-dev and binutils"
	return &hinted
}
