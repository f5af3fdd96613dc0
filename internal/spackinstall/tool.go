package spackinstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/failure"
)

// spackRepository has the releases of Spack.
const spackRepository = "https://github.com/spack/spack.git"

// fetchTool returns the directory of the Spack that the step pins. It is fetched
// once and kept on the host: no image has it.
func (j *Job) fetchTool(ctx context.Context) (_ string, err error) {
	address, ref, _ := strings.Cut(j.Recipe.Spack.Git, "#")
	if v := j.Recipe.Spack.Version; v != "" {
		address, ref = spackRepository, "v"+strings.TrimPrefix(v, "v")
	}
	if ref == "" {
		ref = "HEAD"
	}
	tools := j.Store.Path("tools")
	dir := filepath.Join(tools, stepkey.Of(address, ref)[:16])
	if _, err := os.Stat(filepath.Join(dir, "bin/spack")); err == nil {
		_ = cache.Touch(dir)
		return dir, nil
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return "", failure.Host("fetch Spack", errors.New("git is not installed"), hosthelp.Git)
	}
	temporary, err := j.Temporary()
	if err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(temporary, "spack-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	for _, args := range [][]string{{"init", "-q"}, {"fetch", "-q", "--depth", "1", address, ref}, {"checkout", "-q", "FETCH_HEAD"}} {
		cmd := exec.CommandContext(ctx, git, append([]string{"-C", tmp}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", &failure.InputError{
				Subject: "fetch Spack " + ref + " from " + address, Err: fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out))),
				Hint: "look at the address and the version after '#'; without a network, give a directory: 'spack: {path: DIRECTORY}'",
			}
		}
	}
	if _, err := os.Stat(filepath.Join(tmp, "bin/spack")); err != nil {
		return "", &failure.InputError{Subject: "spack: git: " + j.Recipe.Spack.Git, Err: errors.New("the repository has no bin/spack")}
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
}
