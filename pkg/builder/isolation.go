package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/atomicfile"
	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/worker"
)

// An isolationChoice is how commands of a build are run, and why so.
type isolationChoice struct {
	// Runtime is an OCI runtime's path; "" means chroot.
	Runtime string
	// PIDNamespace says whether commands get a process namespace.
	PIDNamespace bool
	Reason       string
}

func (c isolationChoice) String() string {
	name := "chroot"
	if c.Runtime != "" {
		name = "oci, " + c.Runtime
	}
	if !c.PIDNamespace {
		name += ", without a process namespace"
	}
	return name + " (" + c.Reason + ")"
}

// chooseIsolation finds out what works here by trying it, and remembers the
// answer until the runtime or the kernel changes or the host restarts.
func (b *Builder) chooseIsolation(ctx context.Context, want Isolation) (isolationChoice, error) {
	memo := filepath.Join(b.store.RunRoot(), "pdibuild-isolation.json")
	id := isolationFingerprint(want, b.ids)
	if c, ok := readIsolation(memo, id); ok {
		return c, nil
	}
	c, err := b.tryIsolations(ctx, want)
	if err != nil {
		return c, err
	}
	data, err := json.Marshal(isolationMemo{ID: id, Choice: c})
	if err == nil {
		_ = atomicfile.Write(memo, data, 0o600) // without it, the next build tries again
	}
	return c, nil
}

type isolationMemo struct {
	ID     string
	Choice isolationChoice
}

func readIsolation(path, id string) (isolationChoice, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return isolationChoice{}, false
	}
	var memo isolationMemo
	if err := json.Unmarshal(data, &memo); err != nil || memo.ID != id {
		return isolationChoice{}, false
	}
	return memo.Choice, true
}

func isolationFingerprint(want Isolation, ids identity) string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	parts := []string{"with seccomp", string(want), fmt.Sprint(ids), strings.TrimSpace(string(boot))}
	for _, r := range runtimes() {
		if info, err := os.Stat(r); err == nil {
			parts = append(parts, r, info.ModTime().Format(time.RFC3339Nano))
		}
	}
	return keyOf(parts...)
}

// runtimes are the OCI runtimes of this host, the better one first.
func runtimes() []string {
	var found []string
	for _, name := range []string{"crun", "runc"} {
		path, err := exec.LookPath(name)
		for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"} {
			if err != nil {
				path, err = exec.LookPath(filepath.Join(dir, name))
			}
		}
		if err == nil {
			found = append(found, path)
		}
	}
	return found
}

func (b *Builder) tryIsolations(ctx context.Context, want Isolation) (isolationChoice, error) {
	c := isolationChoice{PIDNamespace: true, Reason: "as asked for"}
	err := b.try(ctx, c)
	if errors.Is(err, worker.ErrNoPIDNamespace) {
		c.PIDNamespace = false
		err = b.try(ctx, c)
	}
	if err != nil {
		return c, hostError("run commands in a root file system of their own", err, hosthelp.Sandbox)
	}
	if want == IsolationChroot {
		return c, nil
	}
	if want != IsolationOCI && b.ids.single {
		c.Reason = "this user has a single id, which an OCI runtime cannot map to other users"
		return c, nil
	}
	var why []string
	for _, r := range runtimes() {
		oci := isolationChoice{Runtime: r, PIDNamespace: c.PIDNamespace, Reason: strings.Join(append([]string{"it works here"}, why...), "; ")}
		err := b.try(ctx, oci)
		if err == nil {
			return oci, nil
		}
		why = append(why, fmt.Sprintf("%s: %v", filepath.Base(r), err))
	}
	if len(why) == 0 {
		why = append(why, "neither crun nor runc is installed")
	}
	c.Reason = strings.Join(why, "; ")
	if want == IsolationOCI {
		return c, hostError("run an OCI runtime", errors.New(c.Reason), hosthelp.Runtime)
	}
	return c, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// try runs a command in the host's own root, which every host has.
func (b *Builder) try(ctx context.Context, c isolationChoice) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	temporary, err := b.works.begin()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temporary, "try-*")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	var out bytes.Buffer
	req := &worker.Request{
		Root: "/", Scratch: dir, Runtime: c.Runtime, PIDNamespace: c.PIDNamespace,
		Args: []string{"/bin/true"}, Env: []string{defaultPath}, Cwd: "/",
		Capabilities: worker.DefaultCapabilities(),
	}
	report, err := runWorker(ctx, req, worker.Options{Stdout: &out, Stderr: &out})
	if err != nil {
		return err
	}
	if report.ExitCode != 0 {
		return fmt.Errorf("exit status %d: %s", report.ExitCode, lastLine(out.String()))
	}
	return nil
}

// runWorker runs a command in a process of its own. When that fails, callers of
// this package find its own errors: a *CommandError, or a *HostError.
func runWorker(ctx context.Context, req *worker.Request, opt worker.Options) (worker.Report, error) {
	once := *req
	// A secret can replace a variable of the image.
	once.Env = uniqueEnv(req.Env)
	report, err := worker.Run(ctx, &once, opt)
	var start *worker.StartError
	var owner *worker.OwnershipError
	var point *worker.MountPointError
	switch {
	case errors.As(err, &point):
		err = &InputError{Err: point, Hint: "choose another target, or make a fitting file or directory there before"}
	case errors.As(err, &start):
		err = &CommandError{ExitCode: start.ExitCode, Err: start.Err}
	case errors.As(err, &owner):
		err = hostError("emulate file ownership", owner.Err, hosthelp.Seccomp)
	}
	return report, err
}
