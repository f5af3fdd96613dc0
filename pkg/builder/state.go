package builder

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/internal/envlayers"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/internal/stepkey"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A state is what a stage has become after some of its steps: its top layer
// in the store and the image configuration so far. Steps turn one state into
// the next.
type state struct {
	// key identifies how the state came about; "" when it is not known yet.
	key string
	// known says that layer holds the result; planning goes on without.
	known bool
	// partial says that image lacks what is only known once the base image is
	// fetched, or an environment built.
	partial bool
	// layer is the store's id; "" before the first layer.
	layer string
	// pending is what comes on top of layer and was not needed yet.
	pending []pending
	// image is the configuration with its history; RootFS is filled in when
	// the image is committed.
	image v1.Image
	// docker is what the configuration has beyond OCI's.
	docker dockerspec.DockerOCIImageConfigExt
	// annotations of the manifest.
	annotations map[string]string
	// added are the layers of the last step.
	added []cache.Layer
	// spack has the installations of spack steps by the environments' names.
	spack map[string]*spackinstall.Installation
	// fixed are the variables that the stage itself sets, by env: and
	// compiler:. An environment does not set them otherwise.
	fixed map[string]string
}

func keyOf(parts ...string) string { return stepkey.Of(parts...) }

// extend returns the key after one more step, or "" when parent is not known.
func extend(parent string, parts ...string) string {
	if parent == "" {
		return ""
	}
	return keyOf(append([]string{parent}, parts...)...)
}

func jsonOf(v any) string { return stepkey.JSON(v) }

// clone returns a state whose changes do not reach s.
func (s state) clone() state {
	c := &s.image.Config
	c.Env = slices.Clone(c.Env)
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.Cmd = slices.Clone(c.Cmd)
	c.Labels = maps.Clone(c.Labels)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Volumes = maps.Clone(c.Volumes)
	s.image.History = slices.Clone(s.image.History)
	s.annotations = maps.Clone(s.annotations)
	s.spack = maps.Clone(s.spack)
	s.fixed = maps.Clone(s.fixed)
	return s
}

// take applies what is known about a finished step.
func (s *state) take(step recipe.Step, rec cache.Record) error {
	s.layer, s.added = rec.Layer, addedLayers(rec)
	install, ok := step.(recipe.Spack)
	if !ok {
		return nil
	}
	in, err := spackinstall.ParseInstallation(rec.Data)
	if err != nil {
		return err
	}
	if s.spack == nil {
		s.spack = map[string]*spackinstall.Installation{}
	}
	s.spack[install.Spack.Name] = in
	return nil
}

// installation returns what a spack step has installed; the name may be left
// out when there is only one. Nil means that it is not known yet.
func (s state) installation(name string) *spackinstall.Installation {
	if in, ok := s.spack[name]; ok || len(s.spack) != 1 || name != "" {
		return in
	}
	for _, in := range s.spack {
		return in
	}
	return nil
}

// uniqueEnv returns variables as a process sees them: of several entries for
// one the last counts, and what is no NAME=VALUE is none.
func uniqueEnv(env []string) []string {
	last := map[string]int{}
	for i, kv := range env {
		if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
			last[name] = i
		}
	}
	var unique []string
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if at, ok := last[name]; ok && at == i {
			unique = append(unique, kv)
		}
	}
	return unique
}

func (s *state) getenv(name string) (string, bool) {
	for _, kv := range s.image.Config.Env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v, true
		}
	}
	return "", false
}

func (s *state) setenv(name, value string) {
	kv := name + "=" + value
	for i, old := range s.image.Config.Env {
		if k, _, _ := strings.Cut(old, "="); k == name {
			s.image.Config.Env[i] = kv
			return
		}
	}
	s.image.Config.Env = append(s.image.Config.Env, kv)
}

// setenvs sets the variables in the order of their names; a value may refer to
// variables that are set already. In a plan of what is only partly known, one
// that is not known yet is empty.
func (s *state) setenvs(env map[string]string) error {
	before := s.clone()
	lookup := func(name string) (string, bool) {
		value, ok := before.getenv(name)
		return value, ok || s.partial
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value, err := recipe.Expand(env[name], lookup)
		if err != nil {
			return fmt.Errorf("env %s: %w", name, err)
		}
		s.setenv(name, value)
	}
	return nil
}

// historyPrefix begins the history entries of what pdibuild has made.
const historyPrefix = "pdibuild: "

// record adds the history entry of one step.
func (s *state) record(text string, epoch time.Time, added bool) {
	s.image.History = append(s.image.History, v1.History{
		Created: &epoch, CreatedBy: historyPrefix + text, EmptyLayer: !added,
	})
}

// recordStep adds the history entries of a finished step: one per layer.
func (s *state) recordStep(text string, epoch time.Time) {
	if len(s.added) == 0 {
		s.record(text, epoch, false)
	}
	for _, l := range s.added {
		note := text
		if l.Note != "" {
			note += ": " + l.Note
		}
		s.record(note, epoch, true)
	}
}

// applyImageSettings puts what a stage says about its image into the
// configuration.
func (s *state) applyImageSettings(st *recipe.Stage) {
	c := &s.image.Config
	if st.Workdir != "" {
		c.WorkingDir = st.Workdir
	}
	if st.Entrypoint.Shell == "activate" {
		// It runs the arguments it is given: the base's will do.
		c.Entrypoint = []string{envlayers.EntrypointScript}
	} else if !st.Entrypoint.IsZero() {
		c.Entrypoint = argv(st.Entrypoint, s.shell(st))
		c.Cmd = nil // the base's arguments were for the base's entrypoint
	}
	if !st.Cmd.IsZero() {
		c.Cmd = argv(st.Cmd, s.shell(st))
	}
	if len(s.docker.Shell) > 0 {
		s.docker.Shell = s.shell(st)
	}
	if st.StopSignal != "" {
		c.StopSignal = st.StopSignal
	}
	c.Labels = merged(c.Labels, st.Labels)
	s.annotations = merged(s.annotations, st.Annotations)
	for _, p := range st.Expose {
		if !strings.Contains(p, "/") {
			p += "/tcp"
		}
		c.ExposedPorts = merged(c.ExposedPorts, map[string]struct{}{p: {}})
	}
	for _, v := range st.Volumes {
		c.Volumes = merged(c.Volumes, map[string]struct{}{v: {}})
	}
	s.applyCompiler(st.Compiler)
}

// shell runs the commands of a stage that are text; nil is the default.
func (s *state) shell(st *recipe.Stage) []string {
	if len(st.Shell) > 0 {
		return st.Shell
	}
	return s.docker.Shell
}

// config is the image's configuration as it is stored. A health check and a
// shell of a base image stay in it, where Docker and BuildKit have them: OCI's
// configuration may have more than its specification names.
func (s *state) config() ([]byte, error) {
	if s.docker.Healthcheck == nil && len(s.docker.Shell) == 0 {
		return json.Marshal(s.image)
	}
	return json.Marshal(dockerspec.DockerOCIImage{
		Image: s.image, Config: dockerspec.DockerOCIImageConfig{ImageConfig: s.image.Config, DockerOCIImageConfigExt: s.docker},
	})
}

func (s *state) applyCompiler(c *recipe.Compiler) {
	for _, v := range compilerVariables(c) {
		s.setenv(v.Name, v.Value)
	}
}

// compilerVariables are set for the compilers of a stage, which may be nil.
func compilerVariables(c *recipe.Compiler) (set spack.Activation) {
	if c == nil {
		return nil
	}
	for _, kv := range [][2]string{{"CC", c.CC}, {"CXX", c.CXX}, {"FC", c.FC}} {
		if kv[1] != "" {
			set = append(set, spack.Change{Kind: spack.ChangeSet, Name: kv[0], Value: kv[1]})
		}
	}
	return set
}

// fix records that the stage itself sets the variables.
func (s *state) fix(names iter.Seq[string]) {
	for name := range names {
		value, _ := s.getenv(name)
		s.fixed = merged(s.fixed, map[string]string{name: value})
	}
}

func merged[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	m := map[string]V{}
	maps.Copy(m, a)
	maps.Copy(m, b)
	return m
}

// argv turns a command into the argument vector that runs it.
func argv(c recipe.Command, shell []string) []string {
	if len(c.Argv) > 0 {
		return c.Argv
	}
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), c.Shell)
}
