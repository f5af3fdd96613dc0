package envlayers

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pdidev/pdibuild/internal/rootfs"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/pkg/layer"
	"github.com/pdidev/pdibuild/pkg/spack"
)

// What an environment step adds beside the packages.
const (
	// EntrypointScript activates the environment and runs a command.
	EntrypointScript = "/entrypoint.sh"
	profileScript    = "/etc/profile.d/spack-environment.sh"
	// licensesFile has the licence of each package, by its hash, for those who
	// look into the image.
	licensesFile = "licenses.json"
)

// file is the entry of a file with the content.
func file(name string, mode int64, content []byte) layer.Entry {
	return layer.Entry{
		Header: tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: int64(len(content))},
		Open:   layer.Bytes(content),
	}
}

// archiveMode gives a file the mode that it has in Spack's binary caches
// (reproducible_tarfile_from_prefix in Spack's util/archive.py), where only the
// owner's right to execute is kept: so a package that was compiled is the same
// as one from a cache. No file of a package is setuid.
func archiveMode(e *layer.Entry) {
	switch {
	case e.Header.Typeflag == tar.TypeDir, e.Header.Mode&0o100 != 0:
		e.Header.Mode = 0o755
	default:
		e.Header.Mode = 0o644
	}
}

// environmentTree holds the views, the environment's own files, and the scripts
// that activate it.
func (j *Job) environmentTree() (*layer.Tree, error) {
	tree := &layer.Tree{}
	for _, view := range j.In.Views {
		if err := j.addView(tree, view); err != nil {
			return nil, fmt.Errorf("copy the view %s: %w", view, err)
		}
	}
	if err := j.addSbang(tree); err != nil {
		return nil, err
	}
	for _, name := range []string{spack.EnvironmentFileName, spack.LockFileName} {
		data, err := j.environmentFile(name)
		if err != nil {
			return nil, err
		}
		if err := tree.Add(file(path.Join(j.In.Dir, name), 0o644, data)); err != nil {
			return nil, err
		}
	}
	if err := j.addLicenses(tree); err != nil {
		return nil, err
	}
	for _, name := range j.In.Modules {
		data, err := spackinstall.ReadModule(j.Step.Source(), name)
		if err == nil {
			err = tree.Add(file(name, 0o644, data))
		}
		if err != nil {
			return nil, fmt.Errorf("copy the module file %s: %w", name, err)
		}
	}
	return tree, j.addActivation(tree)
}

// addActivation adds the script that activates the environment, and those that
// activate all environments of the image. What a container's caller or an image
// made from this one sets stays.
func (j *Job) addActivation(tree *layer.Tree) error {
	earlier, err := j.earlierScripts()
	if err != nil {
		return err
	}
	// Of two environments that set a variable, the last one counts.
	replaced := func(string) (string, bool) { return "", false }
	if len(earlier) > 0 {
		replaced = j.Getenv
	}
	activate := ""
	for _, script := range append(earlier, j.In.ActivateScript()) {
		activate += ". " + script + "\n"
	}
	return errors.Join(
		tree.Add(file(j.In.ActivateScript(), 0o644, []byte(j.Activation.DefaultScript(replaced)))),
		tree.Add(file(profileScript, 0o644, []byte("# Login shells get the Spack environment, too.\n"+activate))),
		tree.Add(file(EntrypointScript, 0o755, []byte("#!/bin/sh\n# Activates the Spack environment and runs the command.\n"+activate+"exec \"$@\"\n"))),
	)
}

// earlierScripts are those that activate other environments which the image has.
func (j *Job) earlierScripts() ([]string, error) {
	profile, err := j.Step.Target().ReadIfExists(profileScript)
	if err != nil {
		return nil, err
	}
	var scripts []string
	for line := range strings.Lines(string(profile)) {
		script, ok := strings.CutPrefix(strings.TrimSpace(line), ". ")
		if ok && script != j.In.ActivateScript() {
			scripts = append(scripts, script)
		}
	}
	return scripts, nil
}

// addSbang adds the program sbang of the install trees: it starts scripts whose
// interpreter has too long a path for the kernel, as those of padded trees have.
func (j *Job) addSbang(tree *layer.Tree) error {
	for _, root := range append([]string{spackinstall.InstallRoot}, j.In.Trees...) {
		name := path.Join(root, "bin/sbang")
		data, err := j.Step.Source().ReadIfExists(name)
		if err == nil && len(data) > 0 { // a tree whose packages have no scripts may have none
			err = tree.Add(file(name, 0o755, data))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *Job) addLicenses(tree *layer.Tree) error {
	licenses := map[string]string{}
	for _, p := range j.In.Packages {
		if p.License != "" {
			licenses[p.Hash] = p.License
		}
	}
	if len(licenses) == 0 {
		return nil
	}
	data, err := json.MarshalIndent(licenses, "", "  ") // in the order of the keys
	if err != nil {
		return err
	}
	return tree.Add(file(path.Join(j.In.Dir, licensesFile), 0o644, append(data, '\n')))
}

// environmentFile returns spack.yaml or spack.lock for the image: the files that
// the environment includes were for building it.
func (j *Job) environmentFile(name string) ([]byte, error) {
	data, err := j.Step.Source().ReadIfExists(path.Join(j.In.Dir, name))
	if err != nil || name != spack.EnvironmentFileName {
		return data, err
	}
	env, err := spack.ParseEnvironment(name, data)
	if err != nil {
		return nil, err
	}
	return env.Rewrite(spack.Remove("include"))
}

// addView adds a view and, where its root is a link to it, as Spack makes
// them, the directory behind it.
func (j *Job) addView(tree *layer.Tree, root string) error {
	f, err := j.Step.Source().File(root)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := root
	if f.Info.Mode()&fs.ModeSymlink != 0 {
		to, err := f.Readlink()
		if err != nil {
			return err
		}
		link := layer.Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: strings.TrimPrefix(root, "/"), Linkname: to, Mode: 0o777}}
		if err := tree.Add(link); err != nil {
			return err
		}
		if dir, err = j.Step.Source().Resolve(root); err != nil {
			return err
		}
	}
	return j.Step.CopyDir(tree, dir, CopyOptions{
		Exclude: []string{".spack", ".spack-db", "**/.spack-empty"}, Drop: j.isForeignLink, Adjust: archiveMode,
	})
}

// isForeignLink reports whether a link of a view leads to a package that is not
// copied.
func (j *Job) isForeignLink(f *rootfs.File) bool {
	if f.Info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	to, err := f.Readlink()
	if err != nil || !j.In.Installed(to) {
		return false
	}
	return !slices.ContainsFunc(j.In.Packages, func(p spackinstall.Package) bool {
		return to == p.Prefix || strings.HasPrefix(to, p.Prefix+"/")
	})
}
