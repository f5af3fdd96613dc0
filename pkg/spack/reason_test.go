package spack

import (
	"slices"
	"strings"
	"testing"
)

// The lines are what Spack 1.3 shows of logs of broken packages.
func TestReason(t *testing.T) {
	const trace = "  Traceback (most recent call last):\n    File \"/opt/spack/lib/spack/spack/stage.py\", line 681, in check\n      self.fetcher.check()\n              ^^^^^\n"
	for name, c := range map[string]struct {
		lines, text string
		kind        ReasonKind
		digest      int
	}{
		"compiler": {
			"  ==> app: Executing phase: 'build'\n  cc -c b.c\n> b.c:1:10: fatal error: missing.h: No such file or directory\n      1 | #include \"missing.h\"\n> make: *** [Makefile:5: b.o] Error 1\n  Command exited with status 2:\n      /usr/bin/make",
			"b.c:1:10: fatal error: missing.h: No such file or directory", ReasonBuild, 7,
		},
		"ignored by make": {
			"> make[2]: [Makefile:3509: lto-dump.pod] Error 255 (ignored)\n> src/lex.l:139:1: note: in expansion of macro 'ERROR'\n  build/genhooks -d \\\n  genhooks: No place specified to document hook TARGET_ASM_OPEN_PAREN\n  \n> make[2]: *** [Makefile:2644: s-tm-texi] Error 1\n  make[2]: Leaving directory '/src'\n> make[1]: *** [Makefile:4616: all-gcc] Error 2\n  Command exited with status 2:",
			"genhooks: No place specified to document hook TARGET_ASM_OPEN_PAREN", ReasonBuild, 9,
		},
		"nothing but make": {
			"  make[2]: Entering directory '/src'\n> make[2]: *** [Makefile:5: all] Error 1\n  Command exited with status 2:",
			"make[2]: *** [Makefile:5: all] Error 1", ReasonBuild, 3,
		},
		"checksum": {
			trace + "  spack.fetch_strategy.ChecksumError: sha256 checksum failed for /run/stage/root/spack-stage-app-1.0-abcdefg/hello-1.0.tar.gz\n      Expected aa but got d7. File size = 296 bytes.",
			"sha256 checksum failed for hello-1.0.tar.gz", ReasonChecksum, 2,
		},
		"fetch": {
			trace + "  spack.error.FetchError: All fetchers failed for spack-stage-app-1.0-abcdefg\n      http://127.0.0.1:9/hello-1.0.tar.gz: URLError: <urlopen error [Errno 111] Connection refused>",
			"All fetchers failed for app@1.0", ReasonFetch, 2,
		},
		"patch": {
			"  1 out of 1 hunk FAILED -- saving rejects to file b.c.rej\n  ==> Patch /opt/repos/app/fix.patch failed.\n",
			"1 out of 1 hunk FAILED -- saving rejects to file b.c.rej", ReasonPatch, 2,
		},
		"Python": {
			trace + "> AttributeError: 'App' object has no attribute 'nosuch'\n",
			"AttributeError: 'App' object has no attribute 'nosuch'", ReasonRecipe, 1,
		},
		"own error": {trace + "  spack.error.InstallError: this package is broken", "spack.error.InstallError: this package is broken", ReasonRecipe, 1},
		"full disk": {
			"> cc1: error: error writing to /tmp/cc.s: No space left on device", "No space left on device", ReasonSpace, 1,
		},
		"nothing": {"  all is well", "", ReasonUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := Failure{Name: "app", Version: "1.0", Hash: "abcdefg", Lines: strings.Split(strings.TrimSuffix(c.lines, "\n"), "\n")}
			if got := f.Reason(); got.Kind != c.kind || got.Text != c.text {
				t.Errorf("the reason is %d %q, want %d %q", got.Kind, got.Text, c.kind, c.text)
			}
			digest := f.Digest()
			if len(digest) != c.digest || slices.ContainsFunc(digest, func(line string) bool { return strings.Contains(line, "File \"/opt/spack") }) {
				t.Errorf("the digest is\n%s\nwant %d lines", strings.Join(digest, "\n"), c.digest)
			}
		})
	}
}
