package builder

import (
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// The files that distributions ship. They apply on hosts that have none.
const (
	defaultPolicy     = `{"default": [{"type": "insecureAcceptAnything"}]}` + "\n"
	defaultRegistries = `unqualified-search-registries = ["docker.io"]` + "\n" + `short-name-mode = "permissive"` + "\n"
)

// hostConfigDirs are where containers/image looks for policy.json and
// registries.conf.
func hostConfigDirs() []string {
	dirs := []string{"/etc/containers", "/usr/share/containers"}
	if config, err := os.UserConfigDir(); err == nil {
		dirs = append([]string{filepath.Join(config, "containers")}, dirs...)
	}
	return dirs
}

func onHost(name string) bool { return firstOnHost(name) != "" }

// firstOnHost is the file that applies, "" where there is none.
func firstOnHost(name string) string {
	for _, dir := range hostConfigDirs() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// ensurePolicy returns the signature policy to use; "" leaves it to the host's.
func (b *Builder) ensurePolicy(dir string) (string, error) {
	if b.registries.RegistriesConf == "" && !onHost("registries.conf") {
		b.registries.RegistriesConf = filepath.Join(dir, "registries.conf")
		if err := ensureFile(b.registries.RegistriesConf, defaultRegistries); err != nil {
			return "", err
		}
	}
	if b.registries.SignaturePolicy != "" {
		return b.registries.SignaturePolicy, nil
	}
	if onHost("policy.json") {
		return "", nil
	}
	path := filepath.Join(dir, "policy.json")
	return path, ensureFile(path, defaultPolicy)
}

// ensureFile leaves a file alone that is right: another build may read it.
func ensureFile(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return atomicfile.Write(path, []byte(content), 0o600)
}

// transferContext makes contexts fit for moving images and for reading archives:
// large files go to this process's own temporary directory, which the next one
// removes when this one is killed.
func (b *Builder) transferContext(contexts ...*types.SystemContext) error {
	dir, err := b.works.begin()
	for _, sys := range contexts {
		sys.BigFilesTemporaryDir = dir
	}
	return err
}

// systemContext is what the containers libraries need to know to ask for an
// image; see transferContext.
func (b *Builder) systemContext(platform string) *types.SystemContext {
	r := b.registries
	sys := &types.SystemContext{
		SignaturePolicyPath:      b.policyPath,
		SystemRegistriesConfPath: r.RegistriesConf,
		DockerCertPath:           r.CertDir,
		DockerRegistryUserAgent:  "pdibuild",
		// It remembers what layers are called when they are compressed, and
		// which registries have them.
		BlobInfoCacheDir: b.cacheDir,
	}
	if r.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!*r.TLSVerify)
		sys.OCIInsecureSkipTLSVerify = !*r.TLSVerify
	}
	parts := strings.Split(platform, "/")
	if len(parts) >= 2 {
		sys.OSChoice, sys.ArchitectureChoice = parts[0], parts[1]
	}
	if len(parts) == 3 {
		sys.VariantChoice = parts[2]
	}
	return sys
}
