package spackinstall

import (
	"runtime"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/pkg/spack"
)

// reportTarget reports that packages are built for processors like this host, and
// how to build for older ones, where nothing of the configuration names a target.
func (j *Job) reportTarget(specs []*spack.Spec, d *description) {
	if d.TargetGiven || strings.Contains(string(d.text), "target=") {
		return
	}
	for _, s := range specs {
		if older := olderTarget(runtime.GOARCH, s.Arch.Target); s.External == nil && older != "" {
			j.report("the packages are built for the target %s, as Spack chose it for this host, and do not run on older processors; spack.yaml sets another one: packages: {all: {require: \"target=%s\"}}", s.Arch.Target, older)
			return
		}
	}
}

// olderTarget is a target that most processors of the last ten years have, if the
// given one is newer; else "".
func olderTarget(arch, target string) string {
	switch {
	case arch == "amd64" && slices.Contains([]string{"x86_64", "x86_64_v2", "x86_64_v3", "core2", "nehalem", "westmere", "sandybridge", "ivybridge", "haswell"}, target):
		return ""
	case arch == "amd64":
		return "x86_64_v3"
	case arch == "arm64" && target != "aarch64" && !strings.HasPrefix(target, "armv8"):
		return "aarch64"
	}
	return ""
}
