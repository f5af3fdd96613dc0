// Package recipe is the model of a pdibuild recipe: what to build, as data.
//
// Load reads pdibuild.yaml from a directory, Parse reads it from memory, and a
// Go program may as well fill in a Recipe literal and call Validate: the YAML
// form and the Go form are the same thing. Marshal writes the canonical form,
// which parses back to an equal Recipe.
//
// The package is pure. It opens no network connection, starts no process and
// reads no environment variable; only Load touches the file system.
package recipe

//go:generate go run ./schemagen

// Version is the recipe format that this package reads and writes.
const Version = 1

// DefaultEpoch is the time, in seconds since 1970 UTC, that bounds every time
// in an image whose recipe sets no SourceDateEpoch: 2026-01-01T00:00:00Z. It
// is a constant so that the same recipe makes the same image on another day.
const DefaultEpoch = 1767225600

// A Recipe describes how to build one image. Its last stage is the image.
type Recipe struct {
	// Version of the recipe format. Must be 1.
	Version int `yaml:"version"`
	// Name of the image without a tag, for example ghcr.io/site/app. A bare
	// tag given to the build, such as HPCAsia2026, is appended to it.
	Name string `yaml:"name,omitempty"`
	// SourceDateEpoch bounds every time stored in the image, in seconds
	// since 1970 UTC. Without it that is 2026-01-01, DefaultEpoch. See
	// https://reproducible-builds.org/specs/source-date-epoch/.
	SourceDateEpoch *int64 `yaml:"source_date_epoch,omitempty"`
	// Args are the build arguments and their default values. ${NAME} and
	// ${NAME:-default} are replaced by them in name, from, platform, env,
	// labels, annotations, ports, users, paths and URLs, and in bootstrap;
	// run commands see them as environment variables while the image is
	// built. $$ is a dollar sign.
	Args map[string]string `yaml:"args,omitempty"`
	// Secrets that steps may use by their id. Values are given on the host
	// and never become part of the image, of a key or of a log.
	Secrets map[string]Secret `yaml:"secrets,omitempty"`
	// Stages in any order that has no cycle. The last one is the image.
	Stages []Stage `yaml:"stages"`
}

// Epoch is SourceDateEpoch or, without it, DefaultEpoch.
func (r *Recipe) Epoch() int64 {
	if r.SourceDateEpoch == nil {
		return DefaultEpoch
	}
	return *r.SourceDateEpoch
}

// A Secret says where the host keeps a secret value. With neither env
// nor file, the value has to be given to the build (--secret id=…).
type Secret struct {
	// Env is the name of the host's environment variable.
	Env string `yaml:"env,omitempty"`
	// File is a path on the host; a relative one starts at the recipe.
	File string `yaml:"file,omitempty"`
	// Optional secrets may be absent: then they are simply not mounted.
	Optional bool `yaml:"optional,omitempty"`
	// Public marks a value that is handled like a secret but is not
	// confidential, such as a user name: it is neither masked in output nor
	// searched for in layers.
	Public bool `yaml:"public,omitempty"`
}

// A Stage is one root file system: where it starts, the steps that change it,
// and the image configuration it ends with.
type Stage struct {
	// Name by which other stages refer to this one; unique in the recipe.
	Name string `yaml:"name"`
	// From is where the stage starts: an image name
	// (docker.io/library/debian:12), the id of an image of the store (12
	// digits or more, and no other host has it), an image with its transport
	// (oci:DIR, oci-archive:FILE, docker-archive:FILE, dir:DIR, of several
	// images oci:DIR:NAME or, counted from 0, oci:DIR:@1,
	// containers-storage:NAME, docker://NAME), the name of another stage,
	// "scratch", or a distribution bootstrapped from its mirror
	// (debootstrap:SUITE, mmdebstrap:SUITE). A base image's configuration
	// stays, its health check included (podman looks at that in images of
	// Docker's format only); its ONBUILD triggers are not run.
	From string `yaml:"from"`
	// Bootstrap refines debootstrap:SUITE and mmdebstrap:SUITE.
	Bootstrap *Bootstrap `yaml:"bootstrap,omitempty"`
	// Platform is os/arch or os/arch/variant, for example linux/arm64.
	// Empty means the host's.
	Platform string `yaml:"platform,omitempty"`
	// Env is set in the image and for every step of the stage. It has precedence
	// over what the packages of a Spack environment set.
	Env map[string]string `yaml:"env,omitempty"`
	// Shell runs run and check strings: a program and its option for that.
	// Empty means the base image's, else [/bin/sh, -c].
	Shell []string `yaml:"shell,omitempty"`
	// Steps run in order; each one's result is kept as soon as it ends.
	Steps []Step `yaml:"steps,omitempty"`
	// Compiler is set as CC, CXX and FC in the image and proven by
	// compiling, linking and running a program before the image is made.
	Compiler *Compiler `yaml:"compiler,omitempty"`
	// Workdir is the image's working directory, created where it is missing.
	Workdir string `yaml:"workdir,omitempty"`
	// Entrypoint of the image: argv, a string for the shell, or the word
	// "activate" for a generated script that activates the environment
	// and then runs the command.
	Entrypoint Command `yaml:"entrypoint,omitempty"`
	// Cmd is the image's default command or the entrypoint's arguments.
	Cmd Command `yaml:"cmd,omitempty"`
	// Labels of the image configuration.
	Labels map[string]string `yaml:"labels,omitempty"`
	// Annotations of the image manifest (OCI).
	Annotations map[string]string `yaml:"annotations,omitempty"`
	// Expose lists ports, for example 8080 or 53/udp.
	Expose []string `yaml:"expose,omitempty"`
	// Volumes lists absolute paths that hold data from outside the image.
	Volumes []string `yaml:"volumes,omitempty"`
	// StopSignal is the signal that stops a container, for example SIGTERM.
	StopSignal string `yaml:"stop_signal,omitempty"`
}

// Bootstrap says how a base image is made from a distribution's mirror.
type Bootstrap struct {
	// Mirror is the archive's URL. Empty means the distribution's own.
	Mirror string `yaml:"mirror,omitempty"`
	// Variant is what the tool calls so: minbase (the default), essential,
	// apt, buildd, important, standard, …
	Variant string `yaml:"variant,omitempty"`
	// Packages to install beside the variant's.
	Packages []string `yaml:"packages,omitempty"`
	// Components of the archive. Empty means [main].
	Components []string `yaml:"components,omitempty"`
	// Keyring is a file on the host with the archive's keys. Empty means
	// the one that the host's tool knows.
	Keyring string `yaml:"keyring,omitempty"`
}

// Compiler names the compilers that the image must offer, as absolute paths.
type Compiler struct {
	// CC is the C compiler.
	CC string `yaml:"cc,omitempty"`
	// CXX is the C++ compiler.
	CXX string `yaml:"cxx,omitempty"`
	// FC is the Fortran compiler.
	FC string `yaml:"fc,omitempty"`
}

// A Command is either one string for the stage's shell or an argument vector.
// In YAML it is a string or a list of strings. At most one field is set; the
// zero Command is none at all, where a command may be left out.
type Command struct {
	Shell string
	Argv  []string
}

// IsZero reports whether c is no command. An empty list is one, and invalid.
func (c Command) IsZero() bool { return c.Shell == "" && c.Argv == nil }

// Script returns a Command that the stage's shell runs.
func Script(s string) Command { return Command{Shell: s} }

// Exec returns a Command that runs argv directly, without a shell.
func Exec(argv ...string) Command { return Command{Argv: argv} }

// A Step is one change to a stage: a Run, Copy, File, Env, Workdir, User,
// Check, Spack or Environment value (not a pointer). In YAML it is a map
// whose first key is the verb.
type Step interface {
	// Verb is the YAML key that names the step, such as "run".
	Verb() string
}

// Run runs a command in the stage's root file system.
type Run struct {
	// Command to run. A non-zero exit status fails the build.
	Command Command `yaml:"run"`
	// Secrets that the command can read, each under /run/secrets.
	Secrets []SecretUse `yaml:"secrets,omitempty"`
	// Mounts that exist for this command alone.
	Mounts []Mount `yaml:"mounts,omitempty"`
	// Env is set for this command alone.
	Env map[string]string `yaml:"env,omitempty"`
	// User runs the command: name or uid, optionally :group.
	User string `yaml:"user,omitempty"`
	// Workdir for this command alone.
	Workdir string `yaml:"workdir,omitempty"`
	// Network is "host" (the default) or "none".
	Network string `yaml:"network,omitempty"`
}

// A SecretUse is a secret that one command can read: its id or, in YAML, a map.
type SecretUse struct {
	// ID of the secret, as declared in the recipe.
	ID string `yaml:"id"`
	// Target is the file inside the container. Empty means /run/secrets/ID.
	Target string `yaml:"target,omitempty"`
	// Env also sets this environment variable, for this command alone.
	Env string `yaml:"env,omitempty"`
}

// A Mount is a file system that exists for one command and leaves nothing in
// the image.
type Mount struct {
	// Type is bind (from the context or a stage, read-only unless write is true),
	// cache (kept on the host between builds) or tmpfs.
	Type string `yaml:"type"`
	// Target is the absolute path inside the container.
	Target string `yaml:"target"`
	// From is the stage that a bind mount shows. Empty means the context.
	From string `yaml:"from,omitempty"`
	// Source is the path in the context or stage (bind). Empty means all.
	Source string `yaml:"source,omitempty"`
	// ID names a cache, so that several steps and recipes can share it.
	// Empty means the target.
	ID string `yaml:"id,omitempty"`
	// Write lets the command write to a bind mount. The writes are lost: neither
	// the context nor the stage changes, and the next step does not see them.
	Write bool `yaml:"write,omitempty"`
	// Size limits a tmpfs, for example 64m. Empty means half the memory.
	Size string `yaml:"size,omitempty"`
	// Owner of a cache's directory: name or uid, optionally :group. It is what a
	// command of another user than root needs to write there. Without it the
	// directory stays as it is, which is root's when it is new.
	Owner string `yaml:"owner,omitempty"`
	// Mode of a cache's directory, octal, for example "0775". Without it, that
	// stays as it is, which is 0755 when it is new.
	Mode string `yaml:"mode,omitempty"`
}

// Copy copies files from the context, another stage or the web.
type Copy struct {
	// Sources are paths, wildcards (context and stages) or http(s) URLs; see
	// "What copy does".
	Sources []string `yaml:"copy"`
	// To is the destination in the image. It is a directory when it ends in
	// a slash, exists as one, or when there is more than one source.
	To string `yaml:"to"`
	// From is the stage to copy from. Empty means the build context.
	From string `yaml:"from,omitempty"`
	// Owner is name or uid, optionally :group. Empty means 0:0. A uid alone
	// that is no user of the image is also the group.
	Owner string `yaml:"owner,omitempty"`
	// Mode is octal, for example "0755", and replaces the permissions of
	// every copied file; directories also get x where they have r.
	Mode string `yaml:"mode,omitempty"`
	// Checksum is sha256:HEX of the content; required for URLs.
	Checksum string `yaml:"checksum,omitempty"`
	// Exclude lists patterns as in .containerignore, about what is below a
	// source and what a wildcard matches.
	Exclude []string `yaml:"exclude,omitempty"`
}

// File writes one file with the given content.
type File struct {
	// Path is absolute.
	Path string `yaml:"file"`
	// Content is written as it is; nothing is substituted.
	Content string `yaml:"content"`
	// Owner is name or uid, optionally :group. Empty means 0:0. A uid alone
	// that is no user of the image is also the group.
	Owner string `yaml:"owner,omitempty"`
	// Mode is octal. Empty means "0644".
	Mode string `yaml:"mode,omitempty"`
}

// Env sets variables for the following steps and in the image. A value may
// refer to arguments and to variables already set.
type Env struct {
	// Env has the variables and their values.
	Env map[string]string `yaml:"env"`
}

// Workdir sets the working directory of the following steps and of the image,
// and creates it where it is missing: it then belongs to the user of the
// following steps.
type Workdir struct {
	// Workdir is absolute, or starts at that of an earlier workdir step.
	Workdir string `yaml:"workdir"`
}

// User makes the following steps and the image run as this user. In YAML it
// is the name of an existing user or a map that creates one.
type User struct {
	// User is a name, or a map that creates one.
	User UserSpec `yaml:"user"`
}

// A UserSpec names a user. With only Name set (name or uid, optionally
// :group) the user is taken as it is; otherwise it is created, with its group
// and home directory. One that the image has must be as it is written here.
type UserSpec struct {
	// Name of the user, or a uid; with :group for a user that exists.
	Name string `yaml:"name"`
	// UID of a new user. Must not be 0.
	UID int `yaml:"uid,omitempty"`
	// GID defaults to UID.
	GID int `yaml:"gid,omitempty"`
	// Home defaults to /home/NAME and is created.
	Home string `yaml:"home,omitempty"`
	// Shell defaults to /bin/sh.
	Shell string `yaml:"shell,omitempty"`
}

// Check runs a command in the finished root, as the final user. A failure
// fails the build; whatever the command writes is thrown away.
type Check struct {
	// Command to run. A non-zero exit status fails the build.
	Command Command `yaml:"check"`
	// Env is set for this command alone.
	Env map[string]string `yaml:"env,omitempty"`
	// User runs the command instead of the final user.
	User string `yaml:"user,omitempty"`
	// Workdir for this command alone.
	Workdir string `yaml:"workdir,omitempty"`
}

// Spack installs a Spack environment.
type Spack struct {
	// Spack says what to install and how.
	Spack SpackInstall `yaml:"spack"`
}

// SpackInstall describes one installation of a Spack environment.
type SpackInstall struct {
	// Environment is the path of a spack.yaml in the context. Exactly one
	// of Environment and Inline is set; in YAML both are the key
	// "environment", with a string or a map.
	Environment string
	Inline      map[string]any
	// Name tells several environments of a stage apart.
	Name string `yaml:"name,omitempty"`
	// Repos are directories in the context that hold Spack package repositories.
	Repos []string `yaml:"repos,omitempty"`
	// Scopes are directories in the context with Spack configuration.
	Scopes []string `yaml:"scopes,omitempty"`
	// Spack pins a Spack for images that have none.
	Spack *SpackSource `yaml:"spack,omitempty"`
	// Buildcache is the remote binary cache.
	Buildcache *Buildcache `yaml:"buildcache,omitempty"`
	// Concretize is "reuse" or "fresh". Without it, Spack decides.
	Concretize string `yaml:"concretize,omitempty"`
	// Jobs is a number or "auto" (the default).
	Jobs string `yaml:"jobs,omitempty"`
	// ConcurrentPackages is how many packages are built at once at most. Without
	// it, Spack decides.
	ConcurrentPackages int `yaml:"concurrent_packages,omitempty"`
	// Upstreams are install trees of other Spack installations in the image,
	// by name, whose packages are used.
	Upstreams map[string]string `yaml:"upstreams,omitempty"`
	// KeepGoing builds the rest of the DAG past a failed package.
	KeepGoing bool `yaml:"keep_going,omitempty"`
	// Strip removes symbols that running does not need.
	Strip bool `yaml:"strip,omitempty"`
	// Network is "host" (the default) or "none": packages of binary caches are
	// there all the same, sources only if they were fetched before.
	Network string `yaml:"network,omitempty"`
}

// SpackSource says where Spack itself comes from. Exactly one field is set.
type SpackSource struct {
	// Version is a release of Spack.
	Version string `yaml:"version,omitempty"`
	// Path is a directory in the context, or an absolute one.
	Path string `yaml:"path,omitempty"`
	// Git is a repository's URL, with #REF behind it for a branch, tag or
	// commit.
	Git string `yaml:"git,omitempty"`
}

// Buildcache says how the remote Spack binary cache is used.
type Buildcache struct {
	// Push names the mirrors that get the installed packages.
	Push []string `yaml:"push,omitempty"`
	// Tag is the tag under which these mirrors, repositories of a registry,
	// get an image of the environment's packages, as spack buildcache push
	// --tag makes it.
	Tag string `yaml:"tag,omitempty"`
	// Username is the id of the secret with the user's name.
	Username string `yaml:"username,omitempty"`
	// Password is the id of the secret with the password.
	Password string `yaml:"password,omitempty"`
	// Required makes an unreachable cache an error.
	Required bool `yaml:"required,omitempty"`
	// Unsigned packages are accepted and pushed.
	Unsigned bool `yaml:"unsigned,omitempty"`
	// Private pushes packages as well whose recipes forbid to redistribute them.
	Private bool `yaml:"private,omitempty"`
	// Proxy keeps the credentials outside of the build, where they always
	// are: packages travel through pdibuild, which needs no proxy for that.
	Proxy bool `yaml:"proxy,omitempty"`
}

// Environment copies the runtime closure of another stage's Spack
// installation into this stage and activates it.
type Environment struct {
	// From is the stage that has the spack step, or that starts from the
	// stage that has it.
	From string `yaml:"environment"`
	// Name selects one of several environments of that stage.
	Name string `yaml:"name,omitempty"`
	// Layers is how many layers the packages become at most. Zero means 100.
	// Docker takes images of up to 127 layers, podman and Apptainer more.
	Layers int `yaml:"layers,omitempty"`
}

// MaxPackageLayers is the most that Environment.Layers may be: overlay mounts
// up to 500 layers, and other steps and base images have some, too.
const MaxPackageLayers = 400

// Verb returns "run".
func (Run) Verb() string { return "run" }

// Verb returns "copy".
func (Copy) Verb() string { return "copy" }

// Verb returns "file".
func (File) Verb() string { return "file" }

// Verb returns "env".
func (Env) Verb() string { return "env" }

// Verb returns "workdir".
func (Workdir) Verb() string { return "workdir" }

// Verb returns "user".
func (User) Verb() string { return "user" }

// Verb returns "check".
func (Check) Verb() string { return "check" }

// Verb returns "spack".
func (Spack) Verb() string { return "spack" }

// Verb returns "environment".
func (Environment) Verb() string { return "environment" }
