// Package imagetransfer is how images outside of the store are reached: settings,
// registries and their errors, layers at other addresses, and progress.
package imagetransfer

import (
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/types"

	"github.com/pdidev/pdibuild/internal/atomicfile"
)

// Registries says how registries are talked to. The zero value uses the
// files that podman, buildah and docker use.
type Registries struct {
	// AuthFile is a containers auth.json, the only file in which logins are
	// looked for. Empty means LoginFiles.
	AuthFile string
	// LoginFiles are files in the forms of podman and docker, the first one that
	// knows a registry wins. Nil means those that podman and docker of this user
	// write.
	LoginFiles []string
	// Username and Password override the files when Username is not empty.
	Username, Password string
	// TLSVerify false allows plain HTTP and unknown certificates. Nil
	// leaves the decision to registries.conf.
	TLSVerify *bool
	// CertDir holds *.crt, *.cert and *.key for the registry. Empty means the
	// directories certs.d of podman and docker.
	CertDir string
	// AllowLayerURLs fetches layers of images from the addresses that their
	// manifests name (urls). Else such an image is an *InputError: its maker
	// could have this host ask servers that only it can reach.
	AllowLayerURLs bool
	// SignaturePolicy is a policy.json, RegistriesConf a registries.conf.
	// Empty means the host's, and without one the built-in default.
	SignaturePolicy, RegistriesConf string
}

// A Client reaches images outside of the store.
type Client struct {
	Registries
	// Policy is the signature policy; empty means the host's.
	Policy string
	// BlobCache remembers what layers are called when they are compressed, and
	// which registries have them.
	BlobCache string
	// Temporary returns a directory for large files, which another process removes
	// when this one is killed.
	Temporary func() (string, error)
}

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

// OnHost is the file that applies, "" where there is none.
func OnHost(name string) string {
	for _, dir := range hostConfigDirs() {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// UseDefaults writes the files that distributions ship to dir, and uses them
// where neither the settings nor the host have such a file.
func (c *Client) UseDefaults(dir string) error {
	if c.RegistriesConf == "" && OnHost("registries.conf") == "" {
		c.RegistriesConf = filepath.Join(dir, "registries.conf")
		if err := ensureFile(c.RegistriesConf, defaultRegistries); err != nil {
			return err
		}
	}
	c.Policy = c.SignaturePolicy
	if c.Policy != "" || OnHost("policy.json") != "" {
		return nil
	}
	c.Policy = filepath.Join(dir, "policy.json")
	return ensureFile(c.Policy, defaultPolicy)
}

// ensureFile does not touch a file with the wanted content: another build may be
// reading it.
func ensureFile(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return atomicfile.Write(path, []byte(content), 0o600)
}

// TransferContext makes contexts fit for moving images and for reading archives:
// large files go to this process's own temporary directory, which the next one
// removes when this one is killed.
func (c *Client) TransferContext(contexts ...*types.SystemContext) error {
	dir, err := c.Temporary()
	for _, sys := range contexts {
		sys.BigFilesTemporaryDir = dir
	}
	return err
}

// SystemContext is what the containers libraries need to know to ask for an
// image; see TransferContext.
func (c *Client) SystemContext(platform string) *types.SystemContext {
	r := c.Registries
	sys := &types.SystemContext{
		SignaturePolicyPath:      c.Policy,
		SystemRegistriesConfPath: r.RegistriesConf,
		DockerCertPath:           r.CertDir,
		DockerRegistryUserAgent:  "pdibuild",
		BlobInfoCacheDir:         c.BlobCache,
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
