// Package spackinstall does the spack step: it reads the step's inputs from the
// build context, lets Spack concretize the environment, fetches what binary
// caches have, lets Spack install the rest, and describes the result for the
// steps that build on it.
package spackinstall

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackmirror"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// Where a spack step puts its results in the image. They are the places that
// `spack containerize` uses, because scripts rely on them.
const (
	environmentDir = "/opt/spack-environment"
	viewRoot       = "/opt/views/view"
	// InstallRoot is the install tree, unless the environment names another.
	InstallRoot = "/opt/software"
)

// Where a spack step sees directories of the host. None of them stays.
const (
	mountRoot    = "/run/pdibuild-spack"
	mountTool    = mountRoot + "/root"
	mountConfig  = mountRoot + "/config"
	mountCache   = mountRoot + "/buildcache"
	mountSources = mountRoot + "/sources"
	mountStage   = mountRoot + "/stage"
	mountOut     = mountRoot + "/out"
	mountIndexes = mountRoot + "/indexes"
)

// A Step is what a job asks of the step that runs it.
type Step interface {
	// Run runs a command in the step's working layer, and returns its
	// environment. An exit status other than 0 is a *failure.StepError.
	Run(ctx context.Context, cmd Command) (env []string, err error)
	// Root is the working layer.
	Root() *rootfs.Root
	// Emit reports progress of the step.
	Emit(e progress.Event)
	// SaveLog keeps a log beside the step's own, masked, and returns its file;
	// "" if it cannot be kept.
	SaveLog(name string, log io.Reader) (file string)
}

// A Command is run as root in the working layer.
type Command struct {
	Args      []string
	Env       map[string]string
	Mounts    []worker.Mount
	NoNetwork bool
	// Output gets the command's masked output besides the log; may be nil.
	Output io.Writer
}

// Settings are what a job works with.
type Settings struct {
	Recipe recipe.SpackInstall
	Inputs *Inputs
	// LockKey is what the result of concretizing is kept under.
	LockKey string
	// Store is what spack steps share, Mirrors where packages come from.
	Store   *spackmirror.Store
	Mirrors *spackmirror.Mirrors
	// HostDir is a new directory of the host, for what this step alone sees.
	HostDir string
	// Getenv returns variables of the stage's image.
	Getenv func(name string) (string, bool)
	// Temporary returns a directory of the host for temporary files.
	Temporary func() (string, error)
	// CheckSources removes damaged source archives, and ShowWarnings shows
	// the warnings of the store and of CheckSources.
	CheckSources, ShowWarnings func()
}

// A Job is a spack step that is executed.
type Job struct {
	Settings
	step Step
	// dir is the environment's directory in the image.
	dir string
	// tool is the spack program, as a path in the image, and version its
	// version.
	tool, version string
	lock          *spack.Lock
	lockData      []byte
	// indexes are mirrors that have nothing but the index of one of the
	// environment's.
	indexes map[string]any
	// mirrors are those of the environment's configuration.
	mirrors []spack.Mirror
	// cached are the hashes of the packages in the local binary cache,
	// installed those that need not be installed, with their prefixes.
	cached    map[string]bool
	installed map[string]string
	// developed are the hashes of packages that are built anew whatever binary
	// caches have.
	developed map[string]bool
	// packages follows the installation.
	packages *packageWatch
	// env is the environment of the last command.
	env []string
	// failedDir and failedBuild are what Failed returns.
	failedDir   string
	failedBuild bool
}

// New returns a job that has not begun.
func New(step Step, s Settings) *Job {
	j := &Job{Settings: s, step: step, dir: environmentDir, mirrors: s.Inputs.mirrors}
	if s.Recipe.Name != "" {
		j.dir += "-" + s.Recipe.Name
	}
	return j
}

// Install installs the environment: Spack concretizes it, packages come from
// binary caches as far as these have them, and Spack builds the rest.
func (j *Job) Install(ctx context.Context) error {
	for _, do := range []func(context.Context) error{j.prepare, j.concretize, j.fetch, j.install} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Failed returns, after Install has failed, the directory in the working layer
// where the failed package was built, "" if none was, and whether its build had
// begun.
func (j *Job) Failed() (dir string, built bool) { return j.failedDir, j.failedBuild }

// Describe describes what was installed, strips it if the recipe wants that, and
// writes the script that activates it for the stage's run steps.
func (j *Job) Describe(ctx context.Context) (*Installation, error) {
	in, err := j.installation(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.strip(ctx, in); err != nil {
		return nil, err
	}
	return in, j.step.Root().WriteFile(in.ActivateScript(), []byte(in.Activation.Script()))
}

// command is a call of spack in the environment.
func (j *Job) command(args ...string) Command {
	cmd := Command{
		Args: append([]string{j.tool, "--color=never", "-C", mountConfig}, args...), NoNetwork: j.Recipe.Network == "none",
		Env: map[string]string{"TERM": "dumb", "SPACK_COLOR": "never"},
	}
	cmd.Mounts = []worker.Mount{
		{Type: "bind", Source: filepath.Join(j.HostDir, "config"), Target: mountConfig},
		{Type: "bind", Source: filepath.Join(j.HostDir, "indexes"), Target: mountIndexes},
		{Type: "bind", Source: filepath.Join(j.HostDir, "stage"), Target: mountStage, Write: true},
		{Type: "bind", Source: filepath.Join(j.HostDir, "out"), Target: mountOut, Write: true},
	}
	for _, c := range []struct{ dir, target string }{{"sources", mountSources}, {"buildcache", mountCache}} {
		cmd.Mounts = append(cmd.Mounts, worker.Mount{Type: "bind", Source: j.Store.Path(c.dir), Target: c.target, Write: true})
	}
	if j.Inputs.tool != "" {
		cmd.Mounts = append(cmd.Mounts, worker.Mount{Type: "bind", Source: j.Inputs.tool, Target: mountTool})
		cmd.Env["SPACK_ROOT"] = mountTool
	}
	return cmd
}

// exec runs a command in the working layer.
func (j *Job) exec(ctx context.Context, cmd Command) error {
	env, err := j.step.Run(ctx, cmd)
	j.env = env
	return err
}

// capture runs a call of spack and returns its standard output.
func (j *Job) capture(ctx context.Context, args ...string) ([]byte, error) {
	cmd := j.command(args...)
	cmd.Args = append([]string{"/bin/sh", "-c", `exec "$@" > ` + path.Join(mountOut, "captured"), "sh"}, cmd.Args...)
	if err := j.exec(ctx, cmd); err != nil {
		return nil, err
	}
	var out []byte
	err := j.inHostDir("out", func(root *rootfs.Root) (err error) {
		out, err = root.ReadFile("captured")
		return err
	})
	return out, err
}

// writeScript writes a script for Spack's Python, and returns its path in the image.
func (j *Job) writeScript(name string, script []byte) (string, error) {
	err := j.inHostDir("config", func(root *rootfs.Root) error { return root.WriteFile(name, script) })
	return path.Join(mountConfig, name), err
}

// inHostDir opens a directory that commands may write to: links there may lead
// anywhere.
func (j *Job) inHostDir(dir string, do func(*rootfs.Root) error) error {
	root, err := rootfs.Open(filepath.Join(j.HostDir, dir))
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

func (j *Job) warn(text string) { j.step.Emit(progress.Event{Kind: progress.Warning, Text: text}) }

func (j *Job) report(format string, args ...any) {
	j.step.Emit(progress.Event{Kind: progress.Info, Text: fmt.Sprintf(format, args...)})
}

// makeHostDirs makes the directories that only this step sees.
func (j *Job) makeHostDirs() error {
	for _, sub := range []string{"config", "stage", "out", "indexes"} {
		if err := os.Mkdir(filepath.Join(j.HostDir, sub), 0o755); err != nil {
			return err
		}
	}
	return nil
}
