package spackinstall

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pdidev/pdibuild/internal/elfkind"
	"github.com/pdidev/pdibuild/internal/hosttest"
	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// A rootStep has a working layer and runs no command.
type rootStep struct {
	root *rootfs.Root
	// logs are the saved logs.
	logs []string
}

func (s *rootStep) Run(context.Context, Command) ([]string, error) { return nil, nil }
func (s *rootStep) Root() *rootfs.Root                             { return s.root }
func (s *rootStep) Emit(progress.Event)                            {}

func (s *rootStep) SaveLog(_ string, log io.Reader) string {
	data, err := io.ReadAll(log)
	s.logs = append(s.logs, string(data))
	return fmt.Sprint("log", err)
}

// A spack step sees and changes files of the image alone, and those of the host
// that belong to it.
func TestLinksToTheHostAreNotFollowed(t *testing.T) {
	root, host := hosttest.Image(t)
	step := &rootStep{root: root}
	job := func() *Job { return &Job{step: step, dir: "/opt/env"} }
	for what, f := range map[string]func() any{
		"files to strip": func() any {
			files := &strippable{root: root, lists: map[elfkind.Kind][]string{}}
			for _, prefix := range []string{"/abs", "/dots/lib", "/pkg/lib64", "/abs/lib/libelf.so"} {
				_ = files.add(prefix) // one that does not exist has none
			}
			return len(files.lists) > 0
		},
		"licence": func() any {
			return licenseOf(root, Package{Name: "pkg", Prefix: "/pkg"}) + licenseOf(root, Package{Name: "abs", Prefix: "/abs"})
		},
		"unpad":    func() any { return unpad(root, "/abs") },
		"prefixes": func() any { return job().addPrefixes(map[string]string{}, "/abs") },
		"environment": func() any {
			env, err := spack.ParseEnvironment("spack.yaml", []byte("spack: {specs: [zlib]}"))
			if err != nil {
				return err
			}
			j := job()
			j.Inputs = &Inputs{env: env, lock: []byte("{}")}
			return j.writeEnvironment()
		},
		"host directory": func() any {
			j := job()
			j.HostDir = root.HostPath()
			var data []byte
			err := j.inHostDir("out", func(out *rootfs.Root) (err error) {
				data, _ = out.ReadFile("captured")
				return out.WriteFile("strip-1", []byte("x"))
			})
			log := j.saveLog(spack.Failure{Log: mountStage + "/../abs/build.log"})
			return []any{string(data), err, log, step.logs}
		},
	} {
		before := hosttest.State(t, host)
		got := fmt.Sprintf("%+v", f())
		if strings.Contains(got, hosttest.Text) || strings.Contains(got, "true") {
			t.Errorf("%s read a file of the host: %.300q", what, got)
		}
		if (what == "prefixes" || what == "environment") && got != "<nil>" || what == "unpad" && got != "/abs" {
			t.Errorf("%s: %s", what, got)
		}
		if hosttest.State(t, host) != before {
			t.Errorf("%s changed files of the host; it returned %.300q", what, got)
		}
	}
}
