package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/envlayers"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// The programs that compilers have to make. Each fails unless the language's
// own library works. DECLARE and USED are filled in by proofs.
const (
	proofC = "#include <stdio.h>\n#include <math.h>\nDECLARE" +
		"int main(int argc, char **argv) { (void)argv; return printf(\"C %.1f%s\\n\", sqrt(3.0 + argc), USED) > 0 ? 0 : 1; }\n"
	proofCXX = "#include <iostream>\n#include <string>\n#include <vector>\nDECLARE" +
		"int main() { std::vector<std::string> v{\"C\", \"++\"}; for (auto &s : v) std::cout << s; std::cout << USED << std::endl; return std::cout ? 0 : 1; }\n"
	proofFC = "program proof\n  print *, 'Fortran', sqrt(4.0)\nend program\n"
)

// proofDir is where the proof's program is, in the image.
const proofDir = "/run/pdibuild-proof"

// A proof is a program that a compiler has to make.
type proof struct{ compiler, file, source, flags string }

// proofs are those of the compilers that the stage names. Where there is a
// library, the programs of C and C++ are linked with it.
func proofs(c recipe.Compiler, l *envlayers.Linkable) []proof {
	declare, used, flags := "", `""`, ""
	if l != nil {
		declare = "#ifdef __cplusplus\nextern \"C\"\n#endif\nvoid " + l.Symbol + "(void);\nvoid (*volatile needed)(void) = " + l.Symbol + ";\n"
		used = fmt.Sprintf("(needed ? %q : %q)", " with lib"+l.Name, "")
		flags = " -L" + shellquote.Quoted(l.Dir) + " -l" + l.Name
	}
	fill := strings.NewReplacer("DECLARE", declare, "USED", used).Replace
	all := []proof{
		{c.CC, "proof.c", fill(proofC), "-lm" + flags},
		{c.CXX, "proof.cc", fill(proofCXX), strings.TrimSpace(flags)},
		{c.FC, "proof.f90", proofFC, ""},
	}
	return slices.DeleteFunc(all, func(p proof) bool { return p.compiler == "" })
}

// proveCompiler compiles, links and runs a program with each compiler that
// the stage names, as the final user, in a directory that is thrown away. A
// compiler that is of use links with what the environments have brought.
func (x *stepRun) proveCompiler(ctx context.Context, s state, c recipe.Compiler) error {
	library, err := x.linkable(s)
	if err != nil {
		return fmt.Errorf("look for a library to link with: %w", err)
	}
	for _, p := range proofs(c, library) {
		if err := x.proveOne(ctx, s, p, library); err != nil {
			return err
		}
	}
	return nil
}

func (x *stepRun) proveOne(ctx context.Context, s state, p proof, l *envlayers.Linkable) (err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wk.release()) }()
	temporary, err := x.run.b.works.begin()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temporary, "proof-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, p.file), []byte(p.source), 0o644)); err != nil {
		return err
	}
	s = s.clone()
	s.applyImageSettings(x.stage)
	req, err := x.runCommand(ctx, s, wk, command{
		argv: []string{"/bin/sh", "-c", p.script(l)}, workdir: "/",
		add: []worker.Mount{
			{Type: "bind", Source: dir, Target: proofDir},
			{Type: "tmpfs", Target: "/tmp"},
		},
	})
	return x.keepFailed(ctx, failure{wk, req, s, err})
}

// script compiles the program and runs it.
func (p proof) script(l *envlayers.Linkable) string {
	run := "/tmp/pdibuild-proof"
	if l != nil {
		run = "LD_LIBRARY_PATH=" + shellquote.Quoted(l.Dir) + `"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ` + run
	}
	return fmt.Sprintf("%s %s/%s -o /tmp/pdibuild-proof %s && %s", p.compiler, proofDir, p.file, p.flags, run)
}

// linkable returns the library that needs the fewest others of the stage's
// environments: what is proven is the compiler. It is nil if there is none.
func (x *stepRun) linkable(s state) (best *envlayers.Linkable, err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.bench.give(wk, true)) }()
	var candidates []string
	for _, step := range x.stage.Steps {
		if e, ok := step.(recipe.Environment); ok {
			for _, p := range x.run.finished()[e.From].installation(e.Name).Packages {
				found, _ := wk.root.Glob(path.Join(rootfs.QuoteMeta(p.Prefix), "lib*", "lib*.so")) // the pattern is right
				candidates = append(candidates, found...)
			}
		}
	}
	return envlayers.ChooseLinkable(wk.root, candidates), nil
}
