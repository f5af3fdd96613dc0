package builder

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/signature"

	"github.com/pdidev/pdibuild/internal/imagetransfer"
	"github.com/pdidev/pdibuild/internal/ownership"
)

// Facts are what a builder has found out about its host.
type Facts struct {
	// Driver of the store, and the program that mounts for it, if any.
	Driver, MountProgram string
	// OverlayErr says why the kernel's overlay cannot be used where the driver
	// is vfs; nil when it could be.
	OverlayErr error
	// PodmanVFS is why podman of this user takes vfs in the same store, and so
	// does not see the images; "" if it does.
	PodmanVFS string
	// Root is the graph root.
	Root string
	// Hardlinks says that layers are made of hard links where possible.
	Hardlinks bool
	// SingleID says that there is one user id.
	SingleID bool
	// Isolation is how steps are run, and why so; with IsolationErr none can.
	Isolation    string
	Runtime      string
	IsolationErr error
	// OwnershipErr says why file owners cannot be emulated.
	OwnershipErr error
	// Policy and RegistriesConf are the files in use; empty means the built-in
	// default.
	Policy, RegistriesConf       string
	PolicyErr, RegistriesConfErr error
	// Credentials are the registries that there are credentials for.
	Credentials    []string
	CredentialsErr error
}

// Facts looks at the host. It runs a trial command, and asks no registry.
func (b *Builder) Facts(ctx context.Context) Facts {
	f := Facts{Driver: b.store.GraphDriverName(), Root: b.store.GraphRoot(), Hardlinks: b.stages, SingleID: b.ids.single, PodmanVFS: b.podmanTakesVFS()}
	for _, option := range b.store.GraphOptions() {
		name, value, _ := strings.Cut(option, "=")
		if strings.HasSuffix(name, "mount_program") {
			f.MountProgram = value
		}
	}
	if f.Driver == "vfs" {
		f.OverlayErr = b.store.TryOverlay()
	}
	choice, err := b.tryIsolations(ctx, IsolationAuto)
	f.Isolation, f.Runtime, f.IsolationErr = choice.String(), choice.Runtime, err
	f.OwnershipErr = b.tryOwnership(ctx)
	b.configFacts(&f)
	return f
}

// tryOwnership runs a command whose owners are emulated.
func (b *Builder) tryOwnership(ctx context.Context) error {
	temporary, err := b.works.begin()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temporary, "try-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sup, err := ownership.Start(ownership.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = sup.Close() }() // the command is gone
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	return sup.Run(exec.CommandContext(ctx, "/bin/chown", "4321:4321", file)) // PATH may be empty
}

func (b *Builder) configFacts(f *Facts) {
	sys := b.remote.SystemContext("")
	f.Policy, f.RegistriesConf = b.remote.Policy, b.remote.RegistriesConf
	own := filepath.Join(b.store.GraphRoot(), "pdibuild")
	if f.Policy == "" {
		f.Policy = imagetransfer.OnHost("policy.json")
	}
	if filepath.Dir(f.Policy) == own {
		f.Policy = ""
	}
	_, f.PolicyErr = signature.DefaultPolicy(sys)
	if f.RegistriesConf == "" {
		f.RegistriesConf = imagetransfer.OnHost("registries.conf")
	}
	if filepath.Dir(f.RegistriesConf) == own {
		f.RegistriesConf = ""
	}
	_, f.RegistriesConfErr = sysregistriesv2.GetRegistries(sys)
	f.Credentials, f.CredentialsErr = b.remote.LoggedIn()
}
