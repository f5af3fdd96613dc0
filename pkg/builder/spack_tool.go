package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pdidev/pdibuild/internal/hosthelp"
)

// spackRepository is where releases of Spack come from.
const spackRepository = "https://github.com/spack/spack.git"

// fetchTool returns the directory of the Spack that the step pins, which is
// fetched once and kept: no image has it.
func (j *spackJob) fetchTool(ctx context.Context) (_ string, err error) {
	address, ref, _ := strings.Cut(j.step.Spack.Git, "#")
	if v := j.step.Spack.Version; v != "" {
		address, ref = spackRepository, "v"+strings.TrimPrefix(v, "v")
	}
	if ref == "" {
		ref = "HEAD"
	}
	tools := j.run.b.spackCache("tools")
	dir := filepath.Join(tools, keyOf(address, ref)[:16])
	if _, err := os.Stat(filepath.Join(dir, "bin/spack")); err == nil {
		markUsed(dir)
		return dir, nil
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return "", hostError("fetch Spack", errors.New("git is not installed"), hosthelp.Git)
	}
	temporary, err := j.run.b.works.begin()
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
			return "", &InputError{
				Subject: "fetch Spack " + ref + " from " + address, Err: fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out))),
				Hint: "look at the address and the version after '#'; without a network, give a directory: 'spack: {path: DIRECTORY}'",
			}
		}
	}
	if _, err := os.Stat(filepath.Join(tmp, "bin/spack")); err != nil {
		return "", &InputError{Subject: "spack: git: " + j.step.Spack.Git, Err: errors.New("the repository has no bin/spack")}
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
}
