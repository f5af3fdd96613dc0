package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A versionInfo says which program this is.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Buildah  string `json:"buildah"`
	Storage  string `json:"storage"`
	Image    string `json:"image"`
}

func newVersion(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of pdibuild and its libraries",
		Example: "  pdibuild version\n  pdibuild version --format json",
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := oneOf("format", format, "text", "json"); err != nil {
			return err
		}
		info := readVersion()
		if format == "json" {
			return printJSON(a.stdout, info)
		}
		_, err := fmt.Fprintf(a.stdout, "pdibuild %s (%s, %s)\nbuildah %s, storage %s, image %s\n",
			info.Version, info.Go, info.Platform, info.Buildah, info.Storage, info.Image)
		return err
	}
	cmd.Flags().StringVar(&format, "format", "text", "`form` of the output: text or json")
	complete(cmd, "format", "text", "json")
	return cmd
}

// readVersion takes everything from what the Go linker has recorded.
func readVersion() versionInfo {
	const unknown = "unknown"
	v := versionInfo{
		Version: unknown, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Buildah: unknown, Storage: unknown, Image: unknown,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	libraries := map[string]*string{
		"go.podman.io/buildah":  &v.Buildah,
		"go.podman.io/storage":  &v.Storage,
		"go.podman.io/image/v5": &v.Image,
	}
	for _, dep := range info.Deps {
		if field, ok := libraries[dep.Path]; ok {
			*field = dep.Version
		}
	}
	return v
}
