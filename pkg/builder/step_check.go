package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pdidev/pdibuild/pkg/recipe"
)

// performCheck runs a command in the finished root, in a working layer that
// is thrown away.
func (x *stepRun) performCheck(ctx context.Context, s state, step recipe.Check) (err error) {
	wk, err := x.bench.take(s.layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, wk.release()) }()
	s = s.clone()
	s.applyImageSettings(x.stage)
	_, req, err := x.runCommand(ctx, s, wk, command{
		argv: argv(step.Command, x.stage.Shell), env: step.Env, user: step.User, workdir: step.Workdir,
	})
	return x.keepFailed(ctx, failure{wk, req, s.layer, err})
}

// The programs that compilers have to make. Each fails unless the language's
// own library works.
const (
	proofC = "#include <stdio.h>\n#include <math.h>\n" +
		"int main(int argc, char **argv) { (void)argv; return printf(\"C %.1f\\n\", sqrt(3.0 + argc)) > 0 ? 0 : 1; }\n"
	proofCXX = "#include <iostream>\n#include <string>\n#include <vector>\n" +
		"int main() { std::vector<std::string> v{\"C\", \"++\"}; for (auto &s : v) std::cout << s; std::cout << std::endl; return std::cout ? 0 : 1; }\n"
	proofFC = "program proof\n  print *, 'Fortran', sqrt(4.0)\nend program\n"
)

// proveCompiler compiles, links and runs a program with each compiler that
// the stage names, as the final user, in a directory that is thrown away.
func (x *stepRun) proveCompiler(ctx context.Context, s state, c recipe.Compiler) error {
	proofs := []proof{
		{c.CC, "proof.c", proofC, "-lm"},
		{c.CXX, "proof.cc", proofCXX, ""},
		{c.FC, "proof.f90", proofFC, ""},
	}
	for _, p := range proofs {
		if p.compiler == "" {
			continue
		}
		if err := x.proveOne(ctx, s, p); err != nil {
			return err
		}
	}
	return nil
}

// A proof is a program that a compiler has to make.
type proof struct{ compiler, file, source, flags string }

func (x *stepRun) proveOne(ctx context.Context, s state, p proof) (err error) {
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
	script := fmt.Sprintf("%s /run/pdibuild-proof/%s -o /tmp/pdibuild-proof %s && /tmp/pdibuild-proof", p.compiler, p.file, p.flags)
	s = s.clone()
	s.applyImageSettings(x.stage)
	_, req, err := x.runCommand(ctx, s, wk, command{
		argv: []string{"/bin/sh", "-c", script}, workdir: "/",
		add: []workerMount{
			{Type: "bind", Source: dir, Target: "/run/pdibuild-proof"},
			{Type: "tmpfs", Target: "/tmp"},
		},
	})
	return x.keepFailed(ctx, failure{wk, req, s.layer, err})
}
