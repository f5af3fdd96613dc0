package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pdidev/pdibuild/internal/secret"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/doctor"
	"github.com/pdidev/pdibuild/pkg/inspect"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// A planner plans and builds.
type planner interface {
	Plan(ctx context.Context, r *recipe.Recipe, contextDir string, opt builder.PlanOptions) (*builder.Plan, error)
	Build(ctx context.Context, p *builder.Plan, opt builder.BuildOptions) (*builder.Result, error)
	ForecastSpack(ctx context.Context, p *builder.Plan, opt builder.ForecastOptions) error
}

// A sender sends images away.
type sender interface {
	PushPending(ctx context.Context, opt builder.PendingPushOptions) (int, error)
	Destination(image string) (string, error)
	Push(ctx context.Context, image, destination string, opt builder.PushOptions) (string, error)
	Export(ctx context.Context, image, destination string, opt builder.PushOptions) error
}

// A shelf holds images.
type shelf interface {
	Images(ctx context.Context) ([]builder.Image, error)
	Remove(ctx context.Context, name string) error
}

// A host makes containers.
type host interface {
	Container(ctx context.Context, image string, opt builder.ContainerOptions) (container, error)
	StageContainer(ctx context.Context, p *builder.Plan, stage string, opt builder.ContainerOptions) (container, error)
	FailedContainer(ctx context.Context, source string, opt builder.ContainerOptions) (container, error)
	RemoveFailed(ctx context.Context) (int, error)
}

// A container runs a command. The real one is a *builder.Container.
type container interface {
	Run(ctx context.Context, streams builder.Streams) (exitCode int, err error)
	Close() error
}

// A keeper keeps what later builds can use.
type keeper interface {
	CacheEntries(ctx context.Context) ([]builder.CacheEntry, error)
	PruneCache(ctx context.Context, opt builder.PruneOptions) (*builder.PruneResult, error)
	ExportSteps(ctx context.Context, p *builder.Plan, to builder.StepCache, opt builder.StepCacheOptions) (sent, had int, err error)
	ImportSteps(ctx context.Context, p *builder.Plan, from builder.StepCache, opt builder.StepCacheOptions) (have, of int, err error)
	VerifyCache(ctx context.Context, tell func(string)) (looked, damaged int, err error)
}

// An attacher attaches documents to images in registries.
type attacher interface {
	Attach(ctx context.Context, destination, subject string, a builder.Attachment) (string, error)
	Provenance(image, subject, manifestDigest, version string) ([]byte, error)
}

// A looker reads images, wherever they are.
type looker interface {
	OpenImage(ctx context.Context, name, platform string) (imageSource, error)
}

// An imageSource is an image to be read. The real one is a
// *builder.ImageSource.
type imageSource interface {
	inspect.Source
	Close() error
}

// An engine is an open store. The real one is a realEngine.
type engine interface {
	planner
	sender
	shelf
	host
	keeper
	looker
	attacher
	Close() error
}

// A realEngine is a *builder.Builder whose containers are interfaces.
type realEngine struct{ *builder.Builder }

func (e realEngine) Container(ctx context.Context, image string, opt builder.ContainerOptions) (container, error) {
	return asContainer(e.Builder.Container(ctx, image, opt))
}

func (e realEngine) StageContainer(ctx context.Context, p *builder.Plan, stage string, opt builder.ContainerOptions) (container, error) {
	return asContainer(e.Builder.StageContainer(ctx, p, stage, opt))
}

func (e realEngine) FailedContainer(ctx context.Context, source string, opt builder.ContainerOptions) (container, error) {
	return asContainer(e.Builder.FailedContainer(ctx, source, opt))
}

// OpenImage makes an interface of what the builder opens.
func (e realEngine) OpenImage(ctx context.Context, name, platform string) (imageSource, error) {
	src, err := e.Builder.OpenImage(ctx, name, platform)
	if err != nil {
		return nil, err
	}
	return src, nil
}

// asContainer makes no interface of a nil pointer, which would not be nil.
func asContainer(c *builder.Container, err error) (container, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// An app is everything of the outside world that verbs use, so that tests can
// put something else in its place.
type app struct {
	stdin  io.Reader
	stdout io.Writer // the result alone
	stderr io.Writer // everything else
	// lookup reads an environment variable.
	lookup func(name string) (string, bool)
	// enter is builder.EnterNamespace.
	enter func() error
	// open opens the store.
	open func(builder.StoreOptions) (engine, error)
	// examine is doctor.Examine.
	examine func(context.Context, doctor.Options) []doctor.Finding
	// terminal returns the size of the terminal behind stderr, if it is one; that
	// may be unknown, 0.
	terminal func() (width, height int, ok bool)
	// console is what a command in a container is connected with.
	console func() console
	// password asks the person at the terminal for a password.
	password func(prompt string) (string, error)
	// lookInside is the command that shows the container of a failed step.
	lookInside string
	// resume is the command that goes on where a build has stopped.
	resume string
	// jsonErrors is set by --progress json: errors become JSON, too.
	jsonErrors bool
	// outputShown says that the output of steps is on the screen already.
	outputShown bool
	// secrets are masked in whatever is said, once they have been read.
	secrets atomic.Pointer[secret.Set]
}

// mask replaces the values of secrets. Whatever goes to standard error or to a
// file for people goes through it: note, report and newPrinter see to that.
func (a *app) mask(text string) string { return a.secrets.Load().Mask(text) }

func newApp() *app {
	return &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		lookup:   os.LookupEnv,
		enter:    builder.EnterNamespace,
		open:     openStore,
		examine:  doctor.Examine,
		terminal: stderrTerminal,
		console:  standardConsole,
		password: askPassword,
	}
}

// main runs the program and returns its exit code.
func (a *app) main(args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(context.Background())
	if err != nil {
		err = explainUnknownVerb(root, args, err)
	}
	return a.report(err)
}

// A session is one use of the image store.
type session struct {
	// store makes the options; it is called inside the namespace.
	store func() (builder.StoreOptions, error)
	// interrupted, if set, is told about the first signal.
	interrupted func()
}

// inStore enters the namespace, opens the store, does the work and closes the
// store. When a signal ends the work, the error is an *interruptError.
//
// Entering runs this program again from the start, so nothing before inStore
// may consume anything: not standard input, not a secret from a pipe.
func (a *app) inStore(cmd *cobra.Command, s session, work func(ctx context.Context, e engine) error) error {
	if err := a.enter(); err != nil {
		return err
	}
	if s.interrupted == nil {
		s.interrupted = func() { a.note(stoppingText) }
	}
	ctx, stop := interruptible(cmd.Context(), s.interrupted)
	defer stop()
	return a.withStore(ctx, s, work)
}

// withStore is inStore once signals are taken care of.
func (a *app) withStore(ctx context.Context, s session, work func(ctx context.Context, e engine) error) error {
	opt, err := s.store()
	if err != nil {
		return err
	}
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	opt.Lost = lose
	e, err := a.open(opt)
	if err != nil {
		return err
	}
	err = work(ctx, e)
	if closing := e.Close(); err == nil && closing != nil {
		err = closing
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause // a signal or a lost store: whatever else failed, this is why
	}
	return err
}

// note tells the human something that is neither result nor error.
func (a *app) note(format string, args ...any) {
	_, _ = io.WriteString(a.stderr, a.mask("pdibuild: "+fmt.Sprintf(format, args...))+"\n")
}

// env returns the value of an environment variable, "" when it is not set.
func (a *app) env(name string) string {
	value, _ := a.lookup(name)
	return value
}

func openStore(opt builder.StoreOptions) (engine, error) {
	b, err := builder.Open(opt)
	if err != nil {
		return nil, err // not b: an interface that holds a nil pointer is not nil
	}
	return realEngine{b}, nil
}

func stderrTerminal() (width, height int, ok bool) {
	width, height, err := term.GetSize(int(os.Stderr.Fd()))
	return width, height, err == nil
}

func askPassword(prompt string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("standard input is not a terminal")
	}
	fmt.Fprint(os.Stderr, prompt)
	secret, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return string(secret), err
}
