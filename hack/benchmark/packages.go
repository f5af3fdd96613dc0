package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed spack-double
var spackDouble []byte

const packageCount = 200

const packagesRecipe = `version: 1
name: localhost/bench
stages:
  - name: builder
    from: scratch
    steps:
      - {copy: busybox, to: /bin/busybox}
      - run: [/bin/busybox, --install, /bin]
      - {copy: spack, to: /opt/spack/bin/spack}
      - {copy: packages, to: /packages}
      - spack: {environment: spack.yaml}
  - name: final
    from: scratch
    steps:
      - environment: builder
`

const packagesContainerfile = `FROM scratch AS builder
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
COPY spack /opt/spack/bin/spack
COPY packages /packages
RUN /opt/spack/bin/spack -e /opt/spack-environment install
FROM scratch
COPY --from=builder /opt/software /opt/software
COPY --from=builder /opt/views /opt/views
`

// packagesCase pushes an image with 200 packages of which one has changed: in
// each round another one, from the small ones to the large ones.
func packagesCase() benchCase {
	total := int64(0)
	for i := range packageCount {
		total += packageSizes[i]
	}
	return benchCase{
		letter: "f", title: fmt.Sprintf("one of 200 packages, together %d MB, changed, and pushed", total>>20),
		recipe: packagesRecipe, containerfile: packagesContainerfile,
		prepare: makePackages, push: true, rounds: 5,
		vary: func(dir string, round int) error {
			if round < 0 {
				return writeSpecs(dir, round)
			}
			return errors.Join(writePackage(dir, changedIn(round), round), writeSpecs(dir, round))
		},
		changed: func(round int) int64 { return packageSizes[changedIn(round)] },
	}
}

// manyLayersCase is f with a layer for each package, which Docker cannot take.
func manyLayersCase() benchCase {
	c := packagesCase()
	c.letter, c.title, c.tools = "f200", c.title+", each with a layer of its own", []string{"pdibuild"}
	c.recipe = strings.Replace(c.recipe, "environment: builder", "{environment: builder, layers: 200}", 1)
	return c
}

// packageSizes are in bytes, spread as those of Debian's packages are: half of
// them have less than 0.5 MB, a few have most of all bytes.
var packageSizes = func() (sizes [packageCount]int64) {
	rnd := rand.New(rand.NewPCG(200, 200))
	for i := range sizes {
		sizes[i] = min(int64(490_000*math.Exp(2*rnd.NormFloat64())), 64<<20)
	}
	return sizes
}()

// changedIn is the package that changes in a round: one of the middle at
// first, then a large one, a small one, and one of each half.
func changedIn(round int) int {
	order := make([]int, packageCount)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(packageSizes[a], packageSizes[b]) })
	return order[[]int{100, 180, 20, 140, 60}[round%5]]
}

// version counts how often a package has changed up to a round.
func version(i, round int) (n int) {
	for r := range round + 1 {
		if changedIn(r) == i {
			n++
		}
	}
	return n
}

func makePackages(_ context.Context, dir string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("install busybox-static: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "packages/files"), 0o755); err != nil {
		return err
	}
	for i := range packageCount {
		if err := writePackage(dir, i, -1); err != nil {
			return err
		}
	}
	shell, err := os.ReadFile(busybox)
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "busybox"), shell, 0o755),
		os.WriteFile(filepath.Join(dir, "spack"), spackDouble, 0o755),
		os.WriteFile(filepath.Join(dir, "spack.yaml"), []byte("spack:\n  specs: [all]\n"), 0o644),
	)
}

func packageName(i int) string { return fmt.Sprintf("package%03d", i) }

// packageHash looks like Spack's, and is new when the package changes.
func packageHash(i, round int) string {
	text := fmt.Sprintf("%03dr%d", i, version(i, round))
	hash := strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(text)
	return hash + strings.Repeat("x", 32-len(hash))
}

func writePackage(dir string, i, round int) error {
	f, err := os.Create(filepath.Join(dir, "packages/files", packageName(i)))
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{byte(i), byte(version(i, round))})
	_, err = io.CopyN(f, noise, packageSizes[i])
	return errors.Join(err, f.Close())
}

// writeSpecs writes the lock file and the database that the double hands out.
func writeSpecs(dir string, round int) error {
	type object map[string]any
	var list strings.Builder
	roots, specs, installs := []object{}, object{}, object{}
	for i := range packageCount {
		name, hash := packageName(i), packageHash(i, round)
		fmt.Fprintln(&list, name, hash)
		node := object{
			"name": name, "version": "1.0", "hash": hash, "package_hash": "x", "namespace": "double", "parameters": object{}, "dependencies": []object{},
			"arch": object{"platform": "linux", "platform_os": "debian12", "target": "x86_64"},
		}
		roots = append(roots, object{"hash": hash, "spec": name})
		specs[hash] = node
		installs[hash] = object{"spec": node, "path": "/opt/software/linux/" + name + "-1.0-" + hash, "installed": true, "explicit": true, "ref_count": 0}
	}
	lock, err := json.Marshal(object{
		"_meta": object{"file-type": "spack-lockfile", "lockfile-version": 6, "specfile-version": 5},
		"spack": object{"version": "1.3.0"}, "roots": roots, "concrete_specs": specs,
	})
	index, err2 := json.Marshal(object{"database": object{"version": "8", "installs": installs}})
	packages := filepath.Join(dir, "packages")
	return errors.Join(err, err2,
		os.WriteFile(filepath.Join(packages, "list"), []byte(list.String()), 0o644),
		os.WriteFile(filepath.Join(packages, "spack.lock"), lock, 0o644),
		os.WriteFile(filepath.Join(packages, "index.json"), index, 0o644),
	)
}
