package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/worker"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// base brings a stage to where its first step begins.
func (r *run) base(ctx context.Context, ps *PlannedStage, st *recipe.Stage) (state, error) {
	x := stepRun{run: r, stage: st, planned: ps.Steps[0], n: 1, of: len(ps.Steps)}
	s, planned, err := r.b.planBase(ctx, r.plan, st, r.finished())
	if err != nil {
		return s, err
	}
	if planned.Cached {
		if _, _, ok := bootstrapTool(st.From); ok {
			x.planned.Key = s.key
			r.note(x)
		}
		x.foundCached(s.key)
		return s, nil
	}
	_, _, bootstraps := bootstrapTool(st.From)
	known, ok := state{}, false
	if bootstraps {
		x.planned.Key = s.key
		r.note(x)
		known, ok = r.importedBase(ctx, s)
	} else {
		known, ok = r.lazyBase(ctx, absoluteFrom(st.From, r.plan.Context), st)
	}
	if ok {
		x.foundCached(known.key)
		return known, nil
	}
	start := time.Now()
	r.emit(x.event(progress.StepStart))
	r.count(false)
	if tool, suite, ok := bootstrapTool(st.From); ok {
		s, err = x.bootstrap(ctx, s, tool, suite)
	} else {
		s, err = r.b.fetchBase(ctx, absoluteFrom(st.From, r.plan.Context), baseOptions{
			platform: r.plan.platform(st), pull: r.plan.pull, fetch: true, events: r.emit, event: x.event(progress.Transfer),
		})
	}
	r.emit(ended(ctx, x.event(progress.StepEnd), start, err))
	if err != nil {
		return s, x.explain(ctx, err)
	}
	s.known = true
	return s, nil
}

// bootstrap makes a base from a distribution's mirror, once for all builds
// that ask for the same.
func (x *stepRun) bootstrap(ctx context.Context, s state, tool, suite string) (state, error) {
	b := x.run.b
	unlock, err := b.steps.Lock(ctx, s.key)
	if err != nil {
		return s, err
	}
	defer unlock()
	if rec, ok := b.lookup(s, s.key); ok && !x.run.plan.noCache && x.run.plan.pull != PullAlways {
		s.layer = rec.Layer
		return s, nil
	}
	rec, err := x.runBootstrap(ctx, tool, suite)
	if err == nil {
		err = x.searchRecord(&rec)
	}
	if err == nil {
		x.run.doneHere(s.key)
		err = b.steps.Put(s.key, rec)
	}
	if err := errors.Join(err, x.settle(err == nil)); err != nil {
		return s, err
	}
	s.layer = rec.Layer
	return s, nil
}

func (x *stepRun) runBootstrap(ctx context.Context, tool, suite string) (_ cache.Record, err error) {
	program, err := findTool(tool)
	if err != nil {
		return cache.Record{}, err
	}
	wk, err := x.run.b.works.create("")
	if err != nil {
		return cache.Record{}, err
	}
	defer func() { err = errors.Join(err, wk.release()) }()
	req := &worker.Request{
		Scratch: wk.scratch, PIDNamespace: x.run.isolation.PIDNamespace,
		Args: x.bootstrapArgs(program, suite, wk.root.HostPath()),
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/", "TMPDIR=/tmp",
			"DEBIAN_FRONTEND=noninteractive", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", x.run.plan.epoch),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(x.run.opt.Env)) {
		req.Env = append(req.Env, name+"="+x.run.opt.Env[name])
	}
	if err := x.runLogged(ctx, wk, req); err != nil {
		return cache.Record{}, err
	}
	opt, err := x.diffOptions(wk, req)
	if err != nil {
		return cache.Record{}, err
	}
	opt.Skip = notOfTheBase
	// The tool has made its root open to all, as every base image is.
	if wk.firstRoot, err = wk.rootHeader(); err != nil {
		return cache.Record{}, err
	}
	wk.closed = req.PIDNamespace
	return x.keepDiff(ctx, "", wk, opt)
}

// runLogged runs a program of the host with its output in the step's log.
func (x *stepRun) runLogged(ctx context.Context, wk *work, req *worker.Request) error {
	log, err := x.logFile()
	if err != nil {
		return err
	}
	out := newOutput(x.run.mask, log, withoutChatter(x.lines()))
	opt, err := wk.supervised(worker.Options{Stdout: out, Stderr: out})
	var report worker.Report
	if err == nil {
		report, err = runWorker(ctx, req, opt)
		wk.recordLinks(report)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if report.ExitCode != 0 {
		return &StepError{
			Stage: x.stage.Name, Step: x.n, Text: x.planned.Text, ExitCode: report.ExitCode, Tail: out.Tail(), LogFile: log.Name(),
			Hint: cmp.Or(x.run.b.ids.commandHint(out.Tail()), "check that the mirror can be reached and has that suite and these packages"),
			Err:  bootstrapFailure(out.Tail(), report.ExitCode),
		}
	}
	return nil
}

// mmdebstrapOptions work the same for root, with subordinate ids and with a
// single id. In our namespace we are root as far as mmdebstrap can tell, but
// it cannot mount a devpts (its group may not be mapped), make device nodes or
// clean up after apt as the user _apt; notOfTheBase does the last.
var mmdebstrapOptions = []string{
	"--mode=root", "--format=directory",
	`--aptopt=APT::Sandbox::User "root"`, `--aptopt=APT::Install-Recommends "false"`, "--dpkgopt=force-unsafe-io",
	"--skip=chroot/mount/dev,cleanup/apt",
	`--setup-hook=set -e; mkdir -p "$1/dev"; for n in null zero full random urandom tty; do [ -e "$1/dev/$n" ] || : >"$1/dev/$n"; mount --bind "/dev/$n" "$1/dev/$n"; done`,
	`--customize-hook=set -e; for n in null zero full random urandom tty; do umount "$1/dev/$n"; rm -f "$1/dev/$n"; done`,
}

// debootstrapScript runs debootstrap ($@ after the target, $1) where device
// nodes cannot be made: they are bound from the host, and container=lxc keeps
// debootstrap from trying. It takes one /proc off in the middle of its work,
// so there are two.
const debootstrapScript = `set -e
target=$1; shift
mkdir -p "$target/dev" "$target/proc"
for n in null zero full random urandom tty console ptmx; do
	[ -e "/dev/$n" ] || continue
	: >"$target/dev/$n"; mount --bind "/dev/$n" "$target/dev/$n"
done
mount --rbind /proc "$target/proc"; mount --rbind /proc "$target/proc"
container=lxc "$@"
`

func findTool(tool string) (string, error) {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(path.Join(dir, tool)); err == nil {
			return p, nil
		}
	}
	return "", hostError("bootstrap a base image", fmt.Errorf("%s is not installed", tool), hosthelp.BootstrapTool)
}

func (x *stepRun) bootstrapArgs(program, suite, target string) []string {
	spec := recipe.Bootstrap{}
	if x.stage.Bootstrap != nil {
		spec = *x.stage.Bootstrap
	}
	if spec.Variant == "" {
		spec.Variant = "minbase"
	}
	args := []string{program, "--variant=" + spec.Variant}
	if path.Base(program) == "mmdebstrap" {
		args = append(args, mmdebstrapOptions...)
	} else {
		args = append([]string{"/bin/sh", "-c", debootstrapScript, "debootstrap", target}, args...)
	}
	if arch := strings.Split(x.run.plan.platform(x.stage), "/")[1]; arch != runtime.GOARCH {
		args = append(args, map[bool]string{true: "--architectures=", false: "--arch="}[path.Base(program) == "mmdebstrap"]+arch)
	}
	if len(spec.Packages) > 0 {
		args = append(args, "--include="+strings.Join(spec.Packages, ","))
	}
	if len(spec.Components) > 0 {
		args = append(args, "--components="+strings.Join(spec.Components, ","))
	}
	if spec.Keyring != "" {
		keyring := spec.Keyring
		if !path.IsAbs(keyring) {
			keyring = path.Join(x.run.plan.Context, keyring)
		}
		args = append(args, "--keyring="+keyring)
	}
	args = append(args, suite, target)
	if spec.Mirror != "" {
		args = append(args, spec.Mirror)
	}
	return args
}

// notOfTheBase drops what a bootstrap leaves behind that says when and where
// it was made, or that every container gets anew.
func notOfTheBase(name string) bool {
	dir, base := path.Split(name)
	switch dir {
	case "dev/", "proc/", "sys/", "run/", "tmp/", "var/tmp/", "var/cache/apt/archives/", "var/lib/apt/lists/":
		return true
	case "var/cache/debconf/":
		return strings.HasSuffix(base, "-old")
	case "var/log/":
		return strings.HasSuffix(base, ".log") || base == "faillog" || base == "lastlog" || base == "wtmp" || base == "btmp"
	case "var/log/apt/", "debootstrap/":
		return true
	case "var/cache/apt/":
		return strings.HasSuffix(base, ".bin")
	case "var/lib/dpkg/":
		return strings.HasSuffix(base, "-old") || strings.HasPrefix(base, "lock")
	}
	switch name {
	case "etc/resolv.conf", "etc/hostname", "etc/machine-id", "var/lib/dbus/machine-id", "etc/.pwd.lock",
		"var/cache/ldconfig/aux-cache", "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "debootstrap", "var/lib/systemd/random-seed", ".pdibuild":
		return true
	}
	return false
}
