package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// planFlags say which recipe is meant, and what it means. Plan and build
// share them, so that a plan is the plan of the build with the same flags.
type planFlags struct {
	file      string
	buildArgs []string
	target    string
	platform  string
	pull      string
	timestamp string
	noCache   bool

	contextDir string // the argument, "." by default
	targetFlag string // the flag that says target, if it is not --target
}

func (p *planFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.file, "file", "f", "", "recipe `file`, or - for standard input (default: pdibuild.yaml in CONTEXT)")
	f.StringArrayVar(&p.buildArgs, "build-arg", nil, "`NAME=VALUE` of an argument of the recipe; NAME alone takes the value from the environment (repeatable)")
	f.StringVar(&p.target, "target", "", "`stage` to build (default: the last)")
	f.BoolVar(&p.noCache, "no-cache", false, "run every step, even if its result is known")
	f.StringVar(&p.pull, "pull", "missing", "`when` to ask registries for base images: always, missing or never; --pull alone means always")
	f.Lookup("pull").NoOptDefVal = "always"
	f.StringVar(&p.platform, "platform", "", "`os/arch[/variant]` of the image (default: this machine's)")
	f.StringVar(&p.timestamp, "timestamp", "", "newest time in the image, in `seconds` since 1970 (default: $SOURCE_DATE_EPOCH, then the recipe's)")
	complete(cmd, "pull", pullWords()...)
}

func pullWords() []string { return []string{"always", "missing", "never"} }

// fromStdin says that the recipe is read from standard input.
func (p *planFlags) fromStdin() bool { return p.file == "-" }

// setContext takes the verb's argument.
func (p *planFlags) setContext(args []string) error {
	p.contextDir = "."
	if len(args) == 0 {
		return nil
	}
	p.contextDir = args[0]
	info, err := os.Stat(p.contextDir)
	switch {
	case err != nil && slices.Contains(pullWords(), args[0]):
		return usagef(fmt.Sprintf("write --pull=%s, with an equals sign", args[0]), "build context: %w", err)
	case err != nil:
		return usagef("CONTEXT is the directory that the recipe copies files from", "build context: %w", err)
	case !info.IsDir():
		return usagef(fmt.Sprintf("name the recipe with --file %s", p.contextDir), "build context %s is not a directory", p.contextDir)
	}
	return nil
}

// load reads the recipe and applies the time.
func (p *planFlags) load(a *app) (*recipe.Recipe, error) {
	r, err := p.read(a)
	if err != nil {
		return nil, err
	}
	if err := p.applyTime(a, r); err != nil {
		return nil, err
	}
	if err := p.checkTarget(r); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *planFlags) read(a *app) (*recipe.Recipe, error) {
	switch {
	case p.fromStdin():
		data, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, fmt.Errorf("read the recipe from standard input: %w", err)
		}
		return recipe.Parse("standard input", data)
	case p.file != "":
		return recipe.LoadFile(p.file)
	}
	return recipe.Load(p.contextDir)
}

// place says where in the recipe's file the step is that an error is about.
func (p *planFlags) place(err error) error {
	var input *builder.InputError
	if !errors.As(err, &input) || input.Step == 0 || p.fromStdin() {
		return err
	}
	file := p.file
	if file == "" {
		file = recipe.Find(p.contextDir)
	}
	data, readErr := os.ReadFile(file)
	if readErr != nil {
		return err // it was there a moment ago
	}
	if where := recipe.Locate(file, data, input.Stage, input.Step); where != nil {
		return &placedError{err, where}
	}
	return err
}

// recipeDir is where relative paths of secrets start.
func (p *planFlags) recipeDir() string {
	switch {
	case p.fromStdin():
		return "."
	case p.file != "":
		return filepath.Dir(p.file)
	}
	return p.contextDir
}

// applyTime sets the recipe's time from the flag or the environment.
func (p *planFlags) applyTime(a *app, r *recipe.Recipe) error {
	text, source := p.timestamp, "--timestamp"
	if text == "" {
		text, source = a.env("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	}
	if text == "" {
		return nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return usagef("give whole seconds since 1970, such as 'git log -1 --format=%ct' prints", "%s=%s is not a time", source, text)
	}
	r.SourceDateEpoch = &seconds
	return nil
}

func (p *planFlags) checkTarget(r *recipe.Recipe) error {
	var names []string
	for i := range r.Stages {
		names = append(names, r.Stages[i].Name)
	}
	if p.target == "" || slices.Contains(names, p.target) {
		return nil
	}
	flag := p.targetFlag
	if flag == "" {
		flag = "target"
	}
	hint := "its stages are " + strings.Join(names, ", ")
	if near := nearest(p.target, names); near != "" {
		hint = fmt.Sprintf("did you mean --%s %s? %s", flag, near, hint)
	}
	return usagef(hint, "--%s: the recipe has no stage %q", flag, p.target)
}

// options makes the builder's options.
func (p *planFlags) options(a *app, r *recipe.Recipe) (builder.PlanOptions, error) {
	args, err := p.args(a, r)
	if err != nil {
		return builder.PlanOptions{}, err
	}
	pull, err := p.pullPolicy()
	if err != nil {
		return builder.PlanOptions{}, err
	}
	return builder.PlanOptions{Target: p.target, Args: args, Platform: p.platform, Pull: pull, NoCache: p.noCache, Source: p.source()}, nil
}

// check finds what is wrong with the flags by themselves.
func (p *planFlags) check() error {
	if _, err := p.pullPolicy(); err != nil {
		return err
	}
	for _, arg := range p.buildArgs {
		if name, _, _ := strings.Cut(arg, "="); name == "" {
			return usagef("write --build-arg NAME=VALUE", "--build-arg %s names no argument", arg)
		}
	}
	return p.checkPlatform()
}

func (p *planFlags) checkPlatform() error {
	if p.platform == "" {
		return nil
	}
	if strings.Contains(p.platform, ",") {
		return usagef("build once for each platform", "--platform %s: one image has one platform", p.platform)
	}
	parts := strings.Split(p.platform, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return usagef("a platform looks like linux/amd64 or linux/arm64/v8", "--platform: %q is not a platform", p.platform)
	}
	return nil
}

// pullPolicy understands podman's words: true and false are older ones.
func (p *planFlags) pullPolicy() (builder.Pull, error) {
	switch p.pull {
	case "true":
		return builder.PullAlways, nil
	case "false", "":
		return builder.PullMissing, nil
	}
	return builder.Pull(p.pull), oneOf("pull", p.pull, pullWords()...)
}

// args are the build arguments as docker reads them: a name alone takes its
// value from the environment, and is left alone when there is none.
func (p *planFlags) args(a *app, r *recipe.Recipe) (map[string]string, error) {
	if len(p.buildArgs) == 0 {
		return nil, nil
	}
	declared := slices.Sorted(maps.Keys(r.Args))
	args := map[string]string{}
	for _, arg := range p.buildArgs {
		name, value, given := strings.Cut(arg, "=")
		if _, ok := r.Secrets[name]; ok {
			hint := fmt.Sprintf("use --secret id=%s,env=VARIABLE: an argument's value would be stored in the image", name)
			return nil, usagef(hint, "--build-arg: %s is a secret of the recipe", name)
		}
		if !slices.Contains(declared, name) {
			return nil, usagef(undeclared("arguments", "args", name, declared), "--build-arg: the recipe has no argument %q", name)
		}
		if !given {
			if value, given = a.lookup(name); !given {
				continue
			}
		}
		args[name] = value
	}
	return args, nil
}

// undeclared says what the recipe has instead of a name that it has not.
func undeclared(what, key, name string, declared []string) string {
	if len(declared) == 0 {
		return fmt.Sprintf("it declares no %s; add %q under '%s:'", what, name, key)
	}
	if near := nearest(name, declared); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Sprintf("its %s are %s; declare others under '%s:'", what, strings.Join(declared, ", "), key)
}

// source is the recipe's file, whatever directory one is in. A recipe from
// standard input has none: its context stands for it.
func (p *planFlags) source() string {
	name := p.recipeName()
	if p.fromStdin() {
		name = p.contextDir
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	return abs
}

// recipeName is the recipe as messages call it.
func (p *planFlags) recipeName() string {
	switch {
	case p.fromStdin():
		return "standard input"
	case p.file != "":
		return p.file
	}
	return recipe.Find(p.contextDir)
}
