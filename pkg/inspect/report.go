package inspect

import (
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ReportOptions say how long the lists of a Report are.
type ReportOptions struct {
	// Largest is how many of the largest files, wastes and directories are
	// listed. 0 means 10.
	Largest int
	// AllFiles lists everything that each layer changes, and all waste.
	AllFiles bool
}

// A Report is what is to be said about an image. Its JSON is stable: keys are
// added, never changed.
type Report struct {
	Name     string    `json:"name"`
	Digest   string    `json:"digest"`
	ID       string    `json:"id"`
	Created  time.Time `json:"created,omitzero"`
	Platform string    `json:"platform"`
	// Size is the sum of the layers' archives, Compressed of their blobs, -1
	// if one is not known. Files counts what is there in the end.
	Size       int64         `json:"size"`
	Compressed int64         `json:"compressed_size"`
	Files      int           `json:"files"`
	Config     Configuration `json:"config"`
	Layers     []LayerReport `json:"layers"`
	Waste      Wasted        `json:"waste"`
	// Directories are the largest.
	Directories []Directory      `json:"directories"`
	Release     string           `json:"release,omitempty"`
	Spack       []*SpackPackage  `json:"spack_packages"`
	Debian      []*DebianPackage `json:"debian_packages"`
}

// A LayerReport is a layer with what it changes.
type LayerReport struct {
	Layer
	Changes []Change `json:"changes"`
}

// A Configuration says how the image is run.
type Configuration struct {
	User        string            `json:"user,omitempty"`
	Workdir     string            `json:"workdir,omitempty"`
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Cmd         []string          `json:"cmd,omitempty"`
	Env         []string          `json:"env,omitempty"`
	Ports       []string          `json:"ports,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	StopSignal  string            `json:"stop_signal,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func configurationOf(img *Image) Configuration {
	c := img.Config.Config
	return Configuration{
		User: c.User, Workdir: c.WorkingDir, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		StopSignal: c.StopSignal, Labels: c.Labels, Annotations: img.Manifest.Annotations,
	}
}

// Report says what there is to say about the image.
func (img *Image) Report(opt ReportOptions) *Report {
	limit := opt.Largest
	if limit <= 0 {
		limit = 10
	}
	files := limit
	if opt.AllFiles {
		files = 0
	}
	r := &Report{
		Name: img.Name, Digest: img.Digest, ID: img.ID, Platform: platform(img.Config.Platform),
		Files: img.Files(), Config: configurationOf(img), Waste: img.Waste(files), Directories: img.Directories(limit),
		Release: img.Release["PRETTY_NAME"],
		Spack:   slices.Clip(append([]*SpackPackage{}, img.Spack...)), Debian: append([]*DebianPackage{}, img.Debian...),
		Layers: []LayerReport{},
	}
	if img.Config.Created != nil {
		r.Created = img.Config.Created.UTC()
	}
	for _, l := range img.Layers {
		r.Size += l.Size
		if l.Compressed < 0 || r.Compressed < 0 {
			r.Compressed = -1
		} else {
			r.Compressed += l.Compressed
		}
		r.Layers = append(r.Layers, LayerReport{l, img.Changes(l.Number, files)})
	}
	return r
}

func platform(p v1.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}
