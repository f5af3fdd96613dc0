package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// A benchCase is some work for all tools: a recipe and the Containerfile that
// says the same.
type benchCase struct {
	letter, title         string
	recipe, containerfile string
	// prepare makes the context, vary changes it for one round.
	prepare func(ctx context.Context, dir string) error
	vary    func(dir string, round int) error
	// stage says that there is a stage "made" whose result every round uses.
	stage bool
	// ready is called once for each tool after its first build.
	ready func(ctx context.Context, t tool, dir string) error
	// push pushes the image instead of building it.
	push bool
	// changed is how many bytes are new in a round; nil where it is not asked.
	changed func(round int) int64
	rounds  int      // at most
	tools   []string // nil: all
	floors  []tool
}

const copyRecipe = `version: 1
name: localhost/bench
stages:
  - name: made
    from: scratch
    steps: [{copy: tree, to: /opt/tree}]
  - name: final
    from: scratch
    steps:
      - {copy: number, to: /number}
      - {copy: /opt/tree, from: made, to: /opt/tree}
`

const copyContainerfile = `FROM scratch AS made
COPY tree /opt/tree
FROM scratch
COPY number /number
COPY --from=made /opt/tree /opt/tree
`

func cases(full bool) []benchCase {
	if !full {
		return []benchCase{
			copyCase("a", "150 MB in 1,100 files from stage to stage", 1100, 150<<20),
			againCase("d", "the same build again", 2200), commandsCase(10),
		}
	}
	again, commands := againCase("d", "the same build again", 6600), commandsCase(20)
	many := againCase("d500", "the same build again, 500 images in the store", 6600)
	many.tools, many.ready = []string{"pdibuild"}, buildImages(500)
	small := copyCase("b", "1 GB in 100,000 files from stage to stage", 100000, 1<<30)
	large := copyCase("c", "one file of 4 GB from stage to stage", 1, 4<<30)
	small.rounds, large.rounds = 3, 2
	tree := copyCase("a", "900 MB in 6,600 files from stage to stage", 6600, 900<<20)
	return []benchCase{tree, again, commands, many, small, large, packagesCase(), manyLayersCase(), pushCase()}
}

func copyCase(letter, title string, files int, bytes int64) benchCase {
	return benchCase{
		letter: letter, title: title, recipe: copyRecipe, containerfile: copyContainerfile,
		prepare: func(_ context.Context, dir string) error { return makeTree(filepath.Join(dir, "tree"), files, bytes) },
		vary:    newNumber, stage: true, rounds: 5,
		floors: []tool{
			shellFloor("cp -al", "rm -rf out && cp -al tree out"),
			shellFloor("cp -a", "rm -rf out && cp -a tree out"),
			shellFloor("tar|sha256sum", "tar -cf - tree | sha256sum"),
		},
	}
}

func againCase(letter, title string, files int) benchCase {
	c := copyCase(letter, title, files, int64(files)*16<<10)
	c.vary = func(dir string, _ int) error {
		return os.WriteFile(filepath.Join(dir, "number"), []byte("1\n"), 0o644)
	}
	c.floors, c.stage, c.rounds = nil, false, 11
	return c
}

// buildImages fills a tool's store with other images.
func buildImages(n int) func(context.Context, tool, string) error {
	return func(ctx context.Context, t tool, dir string) error {
		other := benchCase{recipe: "version: 1\nname: localhost/other\nstages:\n  - name: final\n    from: scratch\n    steps:\n      - {copy: number, to: /number}\n"}
		for i := range n {
			if err := newNumber(dir, i); err != nil {
				return err
			}
			t.build[slices.Index(t.build, "--tag")+1] = fmt.Sprint("other", i)
			u := t.buildOnce(ctx, other, dir)
			t.build[slices.Index(t.build, "--tag")+1] = "bench"
			if u.err != nil {
				return u.err
			}
		}
		return nil
	}
}

func commandsCase(n int) benchCase {
	c := benchCase{letter: "e", title: fmt.Sprint(n, " commands that do nothing"), prepare: makeTrue, vary: newNumber, rounds: 5}
	c.recipe = "version: 1\nname: localhost/bench\nstages:\n  - name: final\n    from: scratch\n    steps:\n      - {copy: \"true\", to: /bin/true}\n      - {copy: number, to: /number}\n"
	c.containerfile = "FROM scratch\nCOPY true /bin/true\nCOPY number /number\n"
	for i := range n {
		c.recipe += fmt.Sprintf("      - run: [/bin/true, \"%d\"]\n", i)
		c.containerfile += fmt.Sprintf("RUN [\"/bin/true\", \"%d\"]\n", i)
	}
	return c
}

// pushCase pushes a layer that neither the tool nor the registry ever had.
func pushCase() benchCase {
	c := copyCase("g", "1 GB pushed to a registry on this host", 6600, 1<<30)
	c.push, c.floors, c.stage, c.rounds = true, nil, false, 3
	c.recipe = "version: 1\nname: localhost/bench\nstages:\n  - name: final\n    from: scratch\n    steps:\n      - {copy: tree, to: /opt/tree}\n"
	c.containerfile = "FROM scratch\nCOPY tree /opt/tree\n"
	c.vary = func(dir string, round int) error { return newNumber(filepath.Join(dir, "tree"), round) }
	return c
}

// newNumber makes everything after it in the final stage new.
func newNumber(dir string, round int) error {
	text := fmt.Sprintf("%d %d\n", round, rand.Int64())
	return os.WriteFile(filepath.Join(dir, "number"), []byte(text), 0o644)
}

// makeTree makes files of very different sizes; the same ones at every time.
func makeTree(dir string, files int, bytes int64) error {
	rnd := rand.New(rand.NewPCG(uint64(files), uint64(bytes)))
	weights, sum := make([]float64, files), 0.0
	for i := range weights {
		weights[i] = rnd.ExpFloat64() * rnd.ExpFloat64()
		sum += weights[i]
	}
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for i, w := range weights {
		name := filepath.Join(dir, fmt.Sprintf("d%d", i%89), fmt.Sprintf("e%d", i%13), fmt.Sprintf("file%d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := writeNoise(name, int64(w/sum*float64(bytes)), noise, rnd); err != nil {
			return err
		}
	}
	return nil
}

func writeNoise(name string, size int64, noise []byte, rnd *rand.Rand) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for size > 0 {
		from := rnd.IntN(len(noise) / 2)
		n := min(size, int64(len(noise)-from))
		if _, err := f.Write(noise[from : from+int(n)]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// makeTrue compiles a program that does nothing and needs no libraries.
func makeTrue(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	source := filepath.Join(dir, "true.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "true"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile true: %w\n%s", err, out)
	}
	return os.Remove(source)
}
