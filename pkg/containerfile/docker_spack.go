package containerfile

import (
	"path"
	"slices"

	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// spack writes a spack step.
func (d *dockerStage) spack(step recipe.SpackInstall) error {
	e, err := d.environment(step)
	if err != nil {
		return err
	}
	if step.Spack != nil {
		d.comment("Spack itself.")
		if step.Spack.Path != "" {
			if path.IsAbs(step.Spack.Path) {
				d.note("a builder copies nothing from outside of the context: bring %s into it.", step.Spack.Path)
			}
			d.line("COPY %s", paths([]string{step.Spack.Path, "/opt/spack/"}))
		} else {
			d.asRoot(func() { d.chain(nil, spackSource(step.Spack)...) })
		}
	}
	for _, f := range e.files {
		d.line("COPY %s", paths([]string{f.from, f.to}))
	}
	d.asRoot(func() { d.installSpack(e) })
	return nil
}

func (d *dockerStage) installSpack(e *environment) {
	d.comment("The environment.")
	d.chain(nil, "mkdir -p "+shellquote.Word(e.dir), printLines(e.manifest)+" > "+shellquote.Word(path.Join(e.dir, "spack.yaml")))
	d.comment("Install it.")
	d.note("the packages are one layer: when one fails, all are built again. pdibuild keeps each.")
	var flags, exports []string
	for _, u := range e.secrets(d.recipe) {
		if flag := u.flag("root"); !slices.Contains(flags, flag) {
			flags = append(flags, flag)
		}
		exports = append(exports, u.export())
	}
	d.chain(flags, guarded(exports, e.install())...)
	if push := e.push(); push != nil {
		d.comment("Send the packages to the binary cache.")
		d.chain(flags, guarded(exports, push)...)
	}
	d.comment("Remove what only building needs.")
	d.chain(nil, e.collect()...)
	if e.step.Strip {
		d.comment("Strip symbols.")
		d.chain(nil, e.strip())
	}
	d.comment("What makes the environment usable.")
	d.chain(nil, e.activate()...)
}

// guarded puts statements before commands.
func guarded(before, commands []string) []string {
	return append(slices.Clone(before), commands...)
}

// environmentStep writes an environment step.
func (d *dockerStage) environmentStep(step recipe.Environment) error {
	e, err := d.find(step)
	if err != nil {
		return err
	}
	d.note("pdibuild gives each package a layer of its own, and sets what activates the environment for 'podman exec', too.")
	for _, dir := range e.taken() {
		d.line("COPY --from=%s %s", d.names[step.From], paths([]string{dir, dir}))
	}
	d.asRoot(func() {
		d.chain(nil,
			printLines(entrypointText(e.dir))+" > "+entrypoint, "chmod a+x "+entrypoint,
			"mkdir -p "+path.Dir(profile), "echo '. "+e.dir+"/activate.sh' > "+profile,
		)
	})
	d.activate = e.dir
	return nil
}
