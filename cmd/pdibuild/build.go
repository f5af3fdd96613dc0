package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/internal/shellquote"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/progress"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A buildVerb is one run of 'pdibuild build'.
type buildVerb struct {
	app      *app
	plan     planFlags
	store    storeFlags
	progress progressFlags

	tags, secrets, outputs []string
	isolation              string
	compression            compressionFlags
	stepCaches             stepCacheFlags
	attach                 attachFlags
	jobs                   int
	writeLock              bool
	push, httpProxy        bool
	iidFile, metadataFile  string

	// What check makes of the flags.
	secretSources map[string]secretSource
	written       outputs
}

// buildGCPercent: see runtime/debug.SetGCPercent; 100 is usual. With 100,000
// files it takes a quarter off a build's memory, and adds a fifth to its time on
// the processor at most.
const buildGCPercent = 25

// smallHeap is added to what is in memory when the garbage collector works out
// how much garbage there may be: a small heap would be collected for every layer
// that is unpacked, which has buffers of some megabytes. It was half of the time
// on the processor with hundreds of layers.
const smallHeap = 32 << 20

const buildLong = `Build an image as the recipe says and print its id.

CONTEXT is the directory that the recipe copies files from, by default the
current one. The recipe is CONTEXT/pdibuild.yaml unless --file names another.

The result of every step is kept when the step ends: whatever stops a build, the
next one goes on from there.`

const buildExample = `  pdibuild build                                       # ./pdibuild.yaml
  pdibuild build --tag HPCAsia2026                     # NAME:HPCAsia2026, NAME from the recipe
  pdibuild build -t ghcr.io/site/app:1.2 --push examples/hello-mpi
  pdibuild build --build-arg GCC=14 --secret id=token,env=CI_JOB_TOKEN
  pdibuild build -o type=oci-archive,dest=app.tar --iidfile app.iid
  pdibuild build --progress json 2>build.jsonl`

func newBuild(a *app) *cobra.Command {
	v := &buildVerb{app: a}
	cmd := &cobra.Command{
		Use:     "build [CONTEXT]",
		Short:   "Build an image and print its id",
		Long:    buildLong,
		Example: buildExample,
		Args:    arguments(0, 1, "one CONTEXT"),
		RunE:    v.run,
	}
	v.plan.add(cmd)
	v.addFlags(cmd)
	v.store.addStore(cmd)
	v.store.addRegistries(cmd)
	return cmd
}

func (v *buildVerb) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&v.tags, "tag", "t", nil, "`name` of the image: a bare tag is added to the recipe's name, a full name stands for itself (repeatable)")
	f.StringArrayVar(&v.secrets, "secret", nil, "`id=ID,env=VARIABLE` or id=ID,src=FILE gives a secret that the recipe declares (repeatable)")
	f.StringArrayVarP(&v.outputs, "output", "o", nil, "also write the image: `type=oci-archive,dest=FILE`, type=oci,dest=DIR, type=docker-archive,dest=FILE; FILE - is standard output (repeatable)")
	f.BoolVar(&v.push, "push", false, "push the image under every tag")
	v.compression.add(cmd, "pushed and written layers")
	v.stepCaches.add(cmd)
	v.attach.add(cmd)
	f.BoolVar(&v.writeLock, "write-lock", false, "write what Spack has concretized to as spack.lock beside spack.yaml")
	f.IntVarP(&v.jobs, "jobs", "j", 0, "`number` of stages that run side by side (default: one per core)")
	f.StringVar(&v.isolation, "isolation", "auto", "`kind` of wall between run steps and this host: auto, oci or chroot")
	f.BoolVar(&v.httpProxy, "http-proxy", true, "run steps with this host's http_proxy, https_proxy, no_proxy and so on")
	f.StringVar(&v.iidFile, "iidfile", "", "write the image's id to this `file`, as sha256:HEX")
	f.StringVar(&v.metadataFile, "metadata-file", "", "write what is known of the result to this `file`, as JSON")
	f.StringVar(&v.progress.mode, "progress", "auto", "`style` of progress: auto, plain, json or tty")
	f.BoolVarP(&v.progress.verbose, "verbose", "v", false, "explain choices, and show all output on a terminal, too")
	f.BoolVarP(&v.progress.quiet, "quiet", "q", false, "show warnings and errors only")
	f.StringVar(&v.store.logDir, "log-dir", "", "`directory` for the logs of steps (default: in the image store)")
	complete(cmd, "progress", "auto", "plain", "json", "tty")
	complete(cmd, "isolation", "auto", "oci", "chroot")
}

// check finds what is wrong with the flags by themselves.
func (v *buildVerb) check() (err error) {
	if err := v.progress.check(); err != nil {
		return err
	}
	v.app.jsonErrors = v.progress.mode == "json"
	if err := v.plan.check(); err != nil {
		return err
	}
	if err := v.compression.check(); err != nil {
		return err
	}
	if err := v.stepCaches.check(); err != nil {
		return err
	}
	if err := v.attach.check(); err != nil {
		return err
	}
	if !v.push && (v.attach.sbom != "" || v.attach.provenance) {
		return usagef("add --push; 'pdibuild sbom IMAGE' prints a bill of materials of any image", "--sbom and --provenance attach to a pushed image")
	}
	if v.isolation == "rootless" { // Buildah's word for OCI without root
		v.isolation = "oci"
	}
	if err := oneOf("isolation", v.isolation, "auto", "oci", "chroot"); err != nil {
		return err
	}
	if v.jobs < 0 {
		return usagef("--jobs 0 means one per core", "--jobs %d is negative", v.jobs)
	}
	if err := v.findOutputs(); err != nil {
		return err
	}
	v.secretSources, err = secretFlags(v.secrets)
	return err
}

// findOutputs finds out whether all that is asked for can be written.
func (v *buildVerb) findOutputs() error {
	v.written = outputs{}
	for _, o := range v.outputs {
		destination, err := parseOutput(o)
		if err != nil {
			return err
		}
		if err := v.written.addImage("--output", destination); err != nil {
			return err
		}
	}
	if err := v.written.addFile("--iidfile", v.iidFile); err != nil {
		return err
	}
	return v.written.addFile("--metadata-file", v.metadataFile)
}

func (v *buildVerb) run(cmd *cobra.Command, args []string) error {
	if err := v.check(); err != nil {
		return err
	}
	if err := v.plan.setContext(args); err != nil {
		return err
	}
	if !v.plan.fromStdin() { // a bad recipe needs no namespace to be told so
		if _, err := v.request(); err != nil {
			return err
		}
	}
	if _, err := v.app.config(); err != nil {
		return err
	}
	v.app.lookInside = v.lookInside()
	v.app.resume = resume(cmd, args)
	v.store.limited = true
	s := v.store.session(v.app)
	s.interrupted = func() {} // the printer tells
	return v.plan.place(v.app.inStore(cmd, s, func(ctx context.Context, e engine) error {
		p := v.app.newPrinter(v.progress)
		defer p.Close()
		told := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(told)
			p.Event(builder.Event{Kind: progress.Warning, Text: stoppingText})
		})
		defer func() {
			if !stop() {
				<-told
			}
		}()
		return v.build(ctx, e, p)
	}))
}

// A buildRequest is everything that the recipe and the flags say.
type buildRequest struct {
	recipe *recipe.Recipe
	plan   builder.PlanOptions
	names  []string
}

func (v *buildVerb) request() (*buildRequest, error) {
	r, err := v.plan.load(v.app)
	if err != nil {
		return nil, err
	}
	req := &buildRequest{recipe: r}
	if req.plan, err = v.plan.options(v.app, r); err != nil {
		return nil, err
	}
	sub, err := r.Substitute(req.plan.Args) // the name may have arguments
	if err != nil {
		return nil, err
	}
	if req.names, err = sub.ImageNames(v.tags); err != nil {
		return nil, usagef("a bare tag, such as 1.2, is added to the recipe's name; a full name looks like registry.example.org/group/name:1.2", "--tag: %w", err)
	}
	if v.push && len(req.names) == 0 {
		return nil, usagef("give --tag NAME, or 'name:' in the recipe", "--push: the image has no name to push to")
	}
	return req, checkSecretFlags(r, v.secretSources)
}

// build does the work, from the recipe to the printed id.
func (v *buildVerb) build(ctx context.Context, e engine, p progress.Printer) error {
	req, err := v.request()
	if err != nil {
		return err
	}
	reader := secretReader{lookup: v.app.lookup, dir: v.plan.recipeDir()}
	secrets, err := reader.read(req.recipe, v.secretSources)
	if err != nil {
		return err
	}
	note := func(text string) { p.Event(builder.Event{Kind: progress.Warning, Text: text}) }
	v.hide(req, secrets.values, note)
	req.plan.Events = p.Event
	plan, err := e.Plan(ctx, req.recipe, v.plan.contextDir, req.plan)
	if err != nil {
		return err
	}
	if err := secrets.check(plan, note); err != nil {
		return err
	}
	if plan.Image == "" {
		// The names of all files are in memory, and there may be a million:
		// better some more work for the garbage collector than much garbage.
		debug.SetGCPercent(buildGCPercent)
		unused := make([]byte, smallHeap) // never written to, so it takes no memory
		defer runtime.KeepAlive(unused)
	}
	result, err := e.Build(ctx, plan, builder.BuildOptions{
		Tags:      req.names,
		Secrets:   secrets.values,
		Env:       v.app.proxies(v.httpProxy),
		Variable:  v.app.env,
		Isolation: builder.Isolation(v.isolation),
		Jobs:      v.jobs,
		WriteLock: v.writeLock,
		CacheFrom: v.stepCaches.sources,
		CacheTo:   v.stepCaches.destinations,
		Events:    p.Event,
		Output:    p.Output,
	})
	if err != nil {
		return err
	}
	p.Result(result)
	pushed, err := v.send(ctx, e, result, p)
	if err != nil {
		return err
	}
	p.Close()
	return v.deliver(ctx, result, pushed)
}

// hide masks the values of secrets from now on. What a name for the image shows
// to everybody is not worth hiding, and the stars would be a riddle.
func (v *buildVerb) hide(req *buildRequest, values map[string][]byte, note func(string)) {
	public := map[string]bool{}
	for id := range req.recipe.Secrets {
		public[id] = req.recipe.Secrets[id].Public
	}
	set := secret.NewSet(values, public)
	v.app.secrets.Store(set)
	for _, name := range req.names {
		if hit, ok := set.FindString(name); ok {
			note(fmt.Sprintf("the value of secret %s is in a name of the image, where everybody can read it; messages show *** for it. "+
				"If it is not confidential, say 'public: true' at the recipe's secret", hit.ID))
			return
		}
	}
}

// lookInside is the command that shows the container of the failed step.
func (v *buildVerb) lookInside() string {
	words := []string{"pdibuild shell --failed"}
	if v.store.root != "" {
		words = append(words, "--storage-root "+shellquote.Word(v.store.root))
	}
	if v.plan.file != "" {
		words = append(words, "--file "+shellquote.Word(v.plan.file))
	}
	if v.plan.contextDir != "." {
		words = append(words, shellquote.Word(v.plan.contextDir))
	}
	return strings.Join(words, " ")
}

// proxies are the variables that docker and podman pass on, too.
func (a *app) proxies(wanted bool) map[string]string {
	env := map[string]string{}
	if !wanted {
		return env
	}
	for _, name := range []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"} {
		for _, n := range []string{name, strings.ToUpper(name)} {
			if value, ok := a.lookup(n); ok {
				env[n] = value
			}
		}
	}
	return env
}

// send exports and pushes the image as the flags say.
func (v *buildVerb) send(ctx context.Context, e engine, result *builder.Result, p progress.Printer) ([]pushedImage, error) {
	for _, d := range v.written.images {
		if err := e.Export(ctx, result.ImageID, d.text, v.pushOptions(p, "export")); err != nil {
			return nil, kept(asUsage(err), result)
		}
	}
	if !v.push {
		return nil, nil
	}
	var pushed []pushedImage
	for _, name := range result.Names {
		digest, err := e.Push(ctx, name, "", v.pushOptions(p, "push"))
		if err != nil {
			return nil, kept(asUsage(err), result)
		}
		pushed = append(pushed, pushedImage{name, digest})
		if err := v.app.attach(ctx, e, &v.attach, result.ImageID, pushedImage{name, digest}); err != nil {
			return nil, kept(err, result)
		}
	}
	return pushed, nil
}

func (v *buildVerb) pushOptions(p progress.Printer, what string) builder.PushOptions {
	return builder.PushOptions{
		Compression: v.compression.method, CompressionLevel: v.compression.level,
		Report: outputOf(p, what), Events: eventsOf(p, what),
	}
}

// kept adds to an error after the build that the image is there.
func kept(err error, result *builder.Result) error {
	return fmt.Errorf("the image sha256:%s was built and is kept, but: %w", result.ImageID, err)
}

// deliver writes the files and prints the id, unless something else goes to
// standard output.
func (v *buildVerb) deliver(ctx context.Context, result *builder.Result, pushed []pushedImage) error {
	err := v.written.write(ctx, "--iidfile", func() ([]byte, error) { return []byte("sha256:" + result.ImageID), nil })
	if err != nil {
		return kept(err, result)
	}
	err = v.written.write(ctx, "--metadata-file", func() ([]byte, error) { return v.app.metadataOf(result, pushed) })
	if err != nil {
		return kept(err, result)
	}
	if v.written.onStdout() > 0 {
		return nil
	}
	if _, err := fmt.Fprintln(v.app.stdout, result.ImageID); err != nil {
		return fmt.Errorf("print the image's id: %w", err)
	}
	return nil
}
