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

// strip removes symbols and debug information from the installed packages. The
// binary cache keeps them as they were.
func (j *Job) strip(ctx context.Context, in *Installation) error {
	if !j.Recipe.Strip {
		return nil
	}
	lists := map[elfkind.Kind][]string{}
	for _, p := range in.Packages {
		if err := j.sortByKind(p.Prefix, lists); err != nil {
			return err
		}
	}
	script := "command -v strip >/dev/null || { echo 'no strip in this image' >&2; exit 77; }\n"
	for _, kind := range []elfkind.Kind{elfkind.Program, elfkind.Shared, elfkind.Archive} {
		if len(lists[kind]) == 0 {
			continue
		}
		list := fmt.Sprintf("strip-%d", kind)
		err := j.inHostDir("out", func(root *rootfs.Root) error {
			return root.WriteFile(list, []byte(strings.Join(lists[kind], "\x00")+"\x00"))
		})
		if err != nil {
			return err
		}
		script += fmt.Sprintf("xargs -0 -n 50 -P %d strip %s < %s || true\n", j.jobs(), stripFlags[kind], path.Join(mountOut, list))
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

// sortByKind finds what can be stripped below a prefix.
func (j *Job) sortByKind(prefix string, lists map[elfkind.Kind][]string) error {
	return j.step.Root().Walk(prefix, func(f *rootfs.File) error {
		if !f.Info.Mode().IsRegular() {
			return nil
		}
		file, err := j.step.Root().OpenExact(f.Name)
		if err != nil {
			return err
		}
		defer file.Close()
		if kind := elfkind.Of(file); kind != elfkind.None {
			lists[kind] = append(lists[kind], f.Name)
		}
		return nil
	})
}
