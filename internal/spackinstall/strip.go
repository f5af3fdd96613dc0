package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/pdidev/pdibuild/internal/elfkind"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// stripFlags are strip's flags for each kind. Shared libraries keep the symbols
// that the dynamic linker needs; archives keep their symbols and the index, which
// linking needs.
var stripFlags = map[elfkind.Kind]string{
	elfkind.Program: "--strip-all",
	elfkind.Shared:  "--strip-unneeded",
	elfkind.Archive: "--strip-debug --enable-deterministic-archives",
}

// strip removes symbols and debug information from the installed packages, and
// from views that have copies of their files. The binary cache keeps them as they
// were. Programs with data behind them, which strip would cut off, stay as they are.
func (j *Job) strip(ctx context.Context, in *Installation) error {
	if !j.Recipe.Strip {
		return nil
	}
	var prefixes []string
	for _, p := range in.Packages {
		prefixes = append(prefixes, p.Prefix)
	}
	script := "command -v strip >/dev/null || { echo 'no strip in this image' >&2; exit 77; }\n"
	var skipped []string
	// Hard links of a view are the packages' files, so that they come second.
	for i, dirs := range [][]string{prefixes, in.copiedViews} {
		f := &strippable{root: j.step.Root(), lists: map[elfkind.Kind][]string{}}
		for _, dir := range dirs {
			if err := f.add(dir); err != nil {
				return err
			}
		}
		commands, err := j.stripCommands(i, f.lists)
		if err != nil {
			return err
		}
		script += commands
		skipped = append(skipped, f.skipped...)
	}
	if len(skipped) > 0 {
		j.report("not stripped, since data follows the program in the file, which strip would cut off: %s", strings.Join(skipped, ", "))
	}
	cmd := j.command()
	cmd.Args = []string{"/bin/sh", "-c", script}
	err := j.exec(ctx, cmd)
	var step *failure.StepError
	if errors.As(err, &step) && step.ExitCode == 77 {
		j.warn("the image has no strip (package binutils): programs and libraries keep their symbols")
		return nil
	}
	return err
}

// stripCommands are shell commands that strip files of each kind.
func (j *Job) stripCommands(pass int, lists map[elfkind.Kind][]string) (script string, err error) {
	for _, kind := range []elfkind.Kind{elfkind.Program, elfkind.Shared, elfkind.Archive} {
		if len(lists[kind]) == 0 {
			continue
		}
		list := fmt.Sprintf("strip-%d-%d", pass, kind)
		err := j.inHostDir("out", func(root *rootfs.Root) error {
			return root.WriteFile(list, []byte(strings.Join(lists[kind], "\x00")+"\x00"))
		})
		if err != nil {
			return "", err
		}
		script += fmt.Sprintf("xargs -0 -n 50 -P %d strip %s < %s || true\n", j.jobs(), stripFlags[kind], path.Join(mountOut, list))
	}
	return script, nil
}

// A strippable finds what can be stripped.
type strippable struct {
	root *rootfs.Root
	// lists has the files of each kind, and skipped those that strip would
	// damage.
	lists   map[elfkind.Kind][]string
	skipped []string
}

// add adds what is below a directory, or behind a link to one.
func (s *strippable) add(dir string) error {
	dir, err := s.root.Resolve(dir)
	if err != nil {
		return err
	}
	return s.root.Walk(dir, func(f *rootfs.File) error {
		if !f.Info.Mode().IsRegular() {
			return nil
		}
		file, err := s.root.OpenExact(f.Name)
		if err != nil {
			return err
		}
		defer file.Close()
		switch kind := elfkind.Of(file); {
		case kind == elfkind.None:
		case kind != elfkind.Archive && elfkind.Appended(file, f.Info.Size()):
			s.skipped = append(s.skipped, f.Name)
		default:
			s.lists[kind] = append(s.lists[kind], f.Name)
		}
		return nil
	})
}
