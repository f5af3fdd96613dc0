package builder

import (
	"io"

	"github.com/pdidev/pdibuild/internal/buildcontext"
	"github.com/pdidev/pdibuild/internal/spackinstall"
	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// StoreOptions say where images live. The zero value is the containers/storage
// store that podman and buildah of the same user use.
type StoreOptions struct {
	// Root is the graph root. Empty means the user's default.
	Root string
	// RunRoot holds state that does not survive a reboot. Empty means the
	// default, or a directory beside Root when Root is set.
	RunRoot string
	// Driver is overlay or vfs. Empty means the best one that works here.
	Driver string
	// LogDir gets one file per executed step. Empty means Root/pdibuild/log.
	LogDir string
	// Limits are kept by every build by itself.
	Limits CacheLimits
	// Registries is used by every pull and push.
	Registries Registries
	// Lost is called, once and from a goroutine of its own, when the store can't
	// be used any more: one of its lock files can be opened no longer, because
	// the disk fails or somebody has removed the store. Every call fails from
	// then on, and so does Open for that store in this process: cancel what runs
	// and end it. The error is a *HostError. May be nil.
	Lost func(error)
}

// Isolation says how run steps are kept apart from the host.
type Isolation string

// The isolations.
const (
	// IsolationAuto takes an OCI runtime when one works here, else chroot.
	IsolationAuto Isolation = "auto"
	// IsolationOCI runs commands with crun or runc.
	IsolationOCI Isolation = "oci"
	// IsolationChroot runs commands without another program, in namespaces and a
	// root of their own; it works on every host. Buildah's option of that name
	// isolates less.
	IsolationChroot Isolation = "chroot"
)

// Pull says when base images are asked for at their registry.
type Pull string

// The pull policies, with podman's meanings.
const (
	PullMissing Pull = "missing"
	PullAlways  Pull = "always"
	PullNever   Pull = "never"
)

// PlanOptions change what a recipe means. The zero value builds the last
// stage for this machine.
type PlanOptions struct {
	// Target is the stage to build. Empty means the last.
	Target string
	// Args override the recipe's args; an unknown name is an error.
	Args map[string]string
	// Platform is os/arch[/variant]. Empty means this machine's.
	Platform string
	// Pull of base images. Empty means PullMissing.
	Pull Pull
	// NoCache plans every step as if it had never been run.
	NoCache bool
	// Source tells recipes with the same context apart, of each of which the
	// last failed step is kept. It is the recipe's file.
	Source string
	// Events receives progress of pulls; may be nil.
	Events func(Event)
}

// BuildOptions say how a plan is executed.
type BuildOptions struct {
	// Tags are the image's names, as recipe.FullName reads them: a bare tag goes
	// with the recipe's name, anything with a slash or a colon is a full name.
	// Empty means the recipe's name with the tag latest.
	Tags []string
	// Secrets are the values by id. The map is not kept.
	Secrets map[string][]byte
	// Env is set for commands unless the image sets it, and is neither part
	// of keys nor of the image: http_proxy and its like.
	Env map[string]string
	// Variable has the variables of the host that mirrors of Spack name for
	// their credentials (access_pair); may be nil. No command sees them.
	Variable func(name string) string
	// Isolation of run steps. Empty means IsolationAuto.
	Isolation Isolation
	// Jobs is how many stages run side by side. Zero means one per core.
	Jobs int
	// CacheFrom are looked into for steps whose result is not in the store;
	// CacheTo get the results of all steps, also if the build fails.
	CacheFrom, CacheTo []StepCache
	// CacheCompression of layers in CacheTo, as PushOptions has it.
	CacheCompression string
	// WriteLock writes what spack steps have concretized to as spack.lock
	// beside their spack.yaml, in the context.
	WriteLock bool
	// Events receives progress, from several goroutines but one call at a
	// time; may be nil.
	Events func(Event)
	// Output receives the masked output of steps, whole lines, one call at a
	// time; may be nil.
	Output func(stage string, step int, line []byte)
}

// A Plan is what a build would do, in order, and Build does exactly that. It can
// be printed, and written as JSON for people and programs that look at it. It
// cannot be read back, sent or kept: it belongs to the Builder that made it, and
// holds what was known then of the store and of the context's files.
type Plan struct {
	// Recipe with every argument substituted.
	Recipe *recipe.Recipe `json:"-"`
	// Context is the absolute build context directory.
	Context string `json:"context"`
	// Platform is os/arch[/variant].
	Platform string `json:"platform"`
	// Stages that the target needs, in an order in which they can run.
	Stages []PlannedStage `json:"stages"`
	// Image is the id of the finished image when the store has it already.
	Image string `json:"image,omitempty"`
	// Key of the whole image; empty while a base image is not known.
	Key string `json:"key,omitempty"`

	noCache bool
	pull    Pull
	target  string
	source  string
	epoch   int64
	args    map[string]string
	// contents are files of the context that need not be read again.
	contents *cache.Contents
}

// A PlannedStage is one stage of a Plan.
type PlannedStage struct {
	Name string `json:"name"`
	// From as it will be used.
	From string `json:"from"`
	// Needs are the stages that have to run first.
	Needs []string      `json:"needs,omitempty"`
	Steps []PlannedStep `json:"steps"`
}

// A PlannedStep is one step of a PlannedStage. The first step of each stage
// is its base ("from").
type PlannedStep struct {
	// Verb is "from", a recipe verb or "config".
	Verb string `json:"verb"`
	// Text is the step in one line.
	Text string `json:"text"`
	// Key is the hex SHA-256 that the step's result is kept under. Empty
	// while it depends on a base image that has to be pulled first.
	Key string `json:"key,omitempty"`
	// Cached says that the result is in the store.
	Cached bool `json:"cached"`
	// Spack is what ForecastSpack says about a spack step.
	Spack *SpackForecast `json:"spack,omitempty"`

	step recipe.Step
	// source is what a copy step copies.
	source *buildcontext.Source
	// mounts identify what a run step sees through bind mounts.
	mounts []string
	// spack is what a spack step installs, and lockKey what its concretization
	// is kept under.
	spack   *spackinstall.Inputs
	lockKey string
}

// PushOptions say how an image is sent away.
type PushOptions struct {
	// Compression is gzip (the default), zstd, zstd:chunked (of which hosts
	// fetch only the files that they lack) or none.
	Compression string
	// CompressionLevel is the method's own: 1 to 9 for gzip, 1 to 20 for
	// zstd; 0 is the method's default.
	CompressionLevel int
	// Report receives human-readable lines of the transfer, one call at a
	// time; may be nil.
	Report io.Writer
	// Events receives progress.Transfer; may be nil.
	Events func(Event)

	// to is the destination as it was asked for.
	to string
	// blobs is where complete blobs of a layout go, if not into the layout.
	blobs string
}
