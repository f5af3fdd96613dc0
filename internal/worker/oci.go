package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/pdidev/pdibuild/internal/seccomp"
)

// runWithRuntime runs the command with an OCI runtime. The root has been
// arranged already; the bundle is in the private tmpfs, so that nothing of it,
// not even the environment, is ever on a disk.
func runWithRuntime(req *Request, r *root) (int, error) {
	spec := runtimeSpec(req, r.path)
	data, err := json.Marshal(spec)
	if err != nil {
		return 0, fmt.Errorf("describe the container: %w", err)
	}
	bundle := filepath.Join(req.Scratch, "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		return 0, fmt.Errorf("prepare the container: %w", err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		return 0, fmt.Errorf("prepare the container: %w", err)
	}
	args := []string{req.Runtime, "--root", filepath.Join(req.Scratch, "state")}
	if strings.Contains(filepath.Base(req.Runtime), "crun") {
		args = append(args, "--cgroup-manager=disabled")
	}
	// The name is the scratch directory's: unique, also among other builds.
	name := "pdibuild-" + strings.TrimSuffix(filepath.Base(req.Scratch), ".d")
	args = append(args, "run", "--bundle", bundle, name)
	cmd := &exec.Cmd{Path: req.Runtime, Args: args, Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=" + req.Scratch}}
	return runCommand(cmd, req, (*exec.Cmd).Start)
}

func runtimeSpec(req *Request, rootPath string) *specs.Spec {
	caps, groups := req.Capabilities, req.Groups
	if req.SingleID { // the kernel would not set them, the supervisor shows them
		groups = nil
	}
	linux := &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	return &specs.Spec{
		Version:  "1.0.2", // older runtimes refuse newer ones, and nothing newer is used
		Hostname: stepHostname,
		Root:     &specs.Root{Path: rootPath},
		Process: &specs.Process{
			Args: req.Args, Env: req.Env, Cwd: req.Cwd,
			User:         specs.User{UID: req.UID, GID: req.GID, AdditionalGids: groups},
			Capabilities: linux,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			},
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readOnlyPaths,
			Seccomp:       seccomp.Profile(caps),
		},
	}
}

// DefaultCapabilities are podman's and buildah's for a build; an empty list
// would mean none, and then not even mkdir /opt works.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

// capabilityNames maps the kernel's numbers to the names of the OCI
// specification, such as CAP_CHOWN.
func capabilityNames() map[capability.Cap]string {
	names := map[capability.Cap]string{}
	for _, c := range capability.ListKnown() {
		names[c] = "CAP_" + strings.ToUpper(c.String())
	}
	return names
}
