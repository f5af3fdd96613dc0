package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/signature"
	is "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/transports"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"

	"github.com/pdidev/pdibuild/internal/fileentry"
	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/internal/imagestore"
	"github.com/pdidev/pdibuild/internal/imagetransfer"
	"github.com/pdidev/pdibuild/pkg/cache"
	fail "github.com/pdidev/pdibuild/pkg/failure"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// errNotLocal says that a base image would have to be fetched.
var errNotLocal = errors.New("the image is not in the store")

// bootstrapTool returns the tool and suite of debootstrap:SUITE and
// mmdebstrap:SUITE.
func bootstrapTool(from string) (tool, suite string, ok bool) {
	tool, suite, ok = strings.Cut(from, ":")
	return tool, suite, ok && (tool == "debootstrap" || tool == "mmdebstrap")
}

// emptyState is where "scratch" and bootstrapped stages begin.
func emptyState(platform string) state {
	parts := append(strings.Split(platform, "/"), "", "")
	img := v1.Image{Platform: v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}}
	img.Config.Env = []string{defaultPath}
	return state{key: keyOf("scratch", platform), image: img}
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// fetchBase finds from among the local images or, unless pull forbids it,
// fetches it. With fetch false it returns errNotLocal instead of fetching.
func (b *Builder) fetchBase(ctx context.Context, from string, o baseOptions) (_ state, err error) {
	defer func() { err = baseError(from, err) }()
	ref, err := alltransports.ParseImageName(from)
	if transport, _, _ := strings.Cut(from, ":"); err != nil && transport != "docker" && transports.Get(transport) != nil {
		return state{}, &InputError{Subject: "from " + from, Err: err, Hint: "write oci:DIR, oci-archive:FILE or docker-archive:FILE, and :NAME behind it for one of several images"}
	}
	if err != nil || ref.Transport().Name() == "docker" {
		return b.namedBase(ctx, strings.TrimPrefix(from, "docker://"), o)
	}
	if ref.Transport().Name() == is.Transport.Name() {
		name := strings.TrimPrefix(from, "containers-storage:")
		img, err := b.localImage(name)
		if imagestore.IsDiskError(err) {
			return state{}, fmt.Errorf("from %s: %w", from, err)
		}
		if err != nil {
			return state{}, &InputError{Subject: "from " + from, Err: err, Code: fail.ImageNotFound}
		}
		return b.imageState(ctx, img.ID, o.platform)
	}
	return b.fileBase(ctx, from, ref, o)
}

// baseOptions say what fetchBase is to find, and how hard it tries.
type baseOptions struct {
	pull Pull
	// platform such as linux/amd64.
	platform string
	// fetch allows network and copying; planning does without.
	fetch bool
	// events receives progress.Transfer, made of event; may be nil.
	events func(Event)
	event  Event
}

// namedBase resolves a registry name.
func (b *Builder) namedBase(ctx context.Context, name string, o baseOptions) (state, error) {
	sys := b.remote.SystemContext(o.platform)
	if o.pull != PullAlways {
		if img, err := b.localNamed(sys, name); err == nil {
			st, err := b.imageState(ctx, img.ID, o.platform)
			if err == nil {
				return st, nil
			}
			if !errors.Is(err, errOtherPlatform) || o.pull == PullNever {
				return state{}, err
			}
		}
	}
	if id, ok := b.imageID(name); ok {
		return b.imageState(ctx, id, o.platform)
	}
	if o.pull == PullNever {
		return state{}, &InputError{Subject: "from " + name, Err: errNotLocal, Hint: "let it be fetched", Code: fail.PullForbidden}
	}
	if !o.fetch {
		return state{}, errNotLocal
	}
	return b.pullNamed(ctx, sys, name, o)
}

// localNamed looks for what name can mean among the local images, the way
// podman does.
func (b *Builder) localNamed(sys *types.SystemContext, name string) (*storage.Image, error) {
	candidates, err := shortnames.ResolveLocally(sys, name)
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		if img, err := b.store.Image(c.String()); err == nil {
			return img, nil
		}
	}
	return nil, errNotLocal
}

// pullNamed fetches a registry image, trying the names that a short name can
// stand for.
func (b *Builder) pullNamed(ctx context.Context, sys *types.SystemContext, name string, o baseOptions) (state, error) {
	if _, err := sysregistriesv2.GetRegistries(sys); err != nil {
		return state{}, hostError("read the settings of registries", err, hosthelp.RegistriesConf)
	}
	resolved, err := shortnames.Resolve(sys, name)
	if err != nil && idPattern.MatchString(name) {
		return state{}, &InputError{Subject: "from " + name, Err: errors.New("no image of this store has this id"), Hint: "an image of a registry has a name, such as docker.io/library/debian:12", Code: fail.ImageNotFound}
	}
	if err != nil {
		return state{}, &InputError{Subject: "from " + name, Err: err, Hint: "write the registry's name in front, such as docker.io/library/debian:12"}
	}
	var errs []error
	for _, c := range resolved.PullCandidates {
		full := c.Value.String()
		src, err := alltransports.ParseImageName("docker://" + full)
		if err != nil {
			return state{}, &InputError{Subject: "from " + name, Err: err}
		}
		dst, err := is.Transport.ParseStoreReference(b.store, full)
		if err != nil {
			return state{}, &InputError{Subject: "from " + name, Err: err}
		}
		m := imagetransfer.StartMeter(o.events, o.event, nil)
		_, err = b.copyImage(ctx, sys, src, dst, &copy.Options{Progress: m.Channel(), ProgressInterval: imagetransfer.Interval})
		m.End()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		img, err := b.store.Image(full)
		if err != nil {
			return state{}, fmt.Errorf("find the image that was fetched: %w", err)
		}
		return b.imageState(ctx, img.ID, o.platform)
	}
	err = errors.Join(errs...)
	var in *InputError
	if errors.As(err, &in) {
		return state{}, &InputError{Subject: "from " + name, Err: in, Hint: in.Hint}
	}
	return state{}, imagetransfer.Error("pull", name, err)
}

// fileBase takes an image from a directory or archive. It is identified by
// its configuration, so the same content is copied into the store once.
func (b *Builder) fileBase(ctx context.Context, from string, ref types.ImageReference, o baseOptions) (state, error) {
	sys := b.remote.SystemContext(o.platform)
	fail := func(err error) (state, error) {
		return state{}, fileBaseError(from, err)
	}
	id, err := b.fileImageID(ctx, sys, from, ref)
	if err != nil {
		return fail(err)
	}
	if b.store.Exists(id.Encoded()) {
		st, err := b.imageState(ctx, id.Encoded(), o.platform)
		if err == nil || errors.Is(err, errOtherPlatform) {
			return st, err
		}
		// It was being copied when its build was killed.
	}
	if !o.fetch {
		return state{}, errNotLocal
	}
	dst, err := is.Transport.NewStoreReference(b.store, nil, id.Encoded())
	if err != nil {
		return fail(err)
	}
	m := imagetransfer.StartMeter(o.events, o.event, nil)
	_, err = b.copyImage(ctx, sys, ref, dst, &copy.Options{Progress: m.Channel(), ProgressInterval: imagetransfer.Interval})
	m.End()
	if err != nil {
		return fail(err)
	}
	return b.imageState(ctx, id.Encoded(), o.platform)
}

// fileBaseError is about an image in a directory or archive. An error that knows
// its own way out keeps it.
func fileBaseError(from string, err error) error {
	var in *InputError
	if errors.As(err, &in) {
		return &InputError{Subject: "from " + from, Err: in, Hint: in.Hint}
	}
	in = &InputError{Subject: "from " + from, Err: err, Hint: fileImageHint(from, err)}
	switch in.Hint {
	case missingHint:
		in.Hint += "; a relative one starts at the directory of the build context"
	case damagedHint:
		in.Code, in.Data = fail.DamagedImage, fail.Data{"image": from}
	}
	return in
}

// fileImageID returns the digest of the image's configuration. To find it, an
// archive has to be read to its end: the answer is remembered for as long as
// the file is the same.
func (b *Builder) fileImageID(ctx context.Context, sys *types.SystemContext, from string, ref types.ImageReference) (digest.Digest, error) {
	_, rest, _ := strings.Cut(from, ":")
	file, _, _ := strings.Cut(rest, ":")
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		return b.configDigest(ctx, sys, ref)
	case err != nil || !info.Mode().IsRegular():
		return b.archiveDigest(ctx, sys, ref)
	}
	key := keyOf("archive", from, fmt.Sprint(fileentry.InodeOf(info)), fmt.Sprint(info.Size()), fmt.Sprint(info.ModTime().UnixNano()))
	if rec, ok := b.recorded(key); ok && rec.ImageID != "" {
		return digest.NewDigestFromEncoded(digest.SHA256, rec.ImageID), nil
	}
	id, err := b.archiveDigest(ctx, sys, ref)
	if err != nil {
		return "", err
	}
	return id, b.steps.Put(key, cache.Record{ImageID: id.Encoded(), Text: "from " + from})
}

// archiveDigest is configDigest of an image that has to be unpacked.
func (b *Builder) archiveDigest(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (digest.Digest, error) {
	if err := b.remote.TransferContext(sys); err != nil {
		return "", err
	}
	return b.configDigest(ctx, sys, ref)
}

func (b *Builder) configDigest(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (_ digest.Digest, err error) {
	src, err := b.remote.Checked(ref).NewImageSource(ctx, sys)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
	if err != nil {
		return "", err
	}
	d := img.ConfigInfo().Digest
	return d, d.Validate()
}

// copyImage copies between any two transports and returns the digest of the
// manifest that was written.
func (b *Builder) copyImage(ctx context.Context, sys *types.SystemContext, src, dst types.ImageReference, opt *copy.Options) (_ digest.Digest, err error) {
	policy, err := signature.DefaultPolicy(sys)
	if err != nil {
		return "", hostError("read the signature policy", err, hosthelp.Policy)
	}
	pc, err := signature.NewPolicyContext(policy)
	if err != nil {
		return "", hostError("read the signature policy", err, hosthelp.Policy)
	}
	defer func() { err = errors.Join(err, pc.Destroy()) }()
	if opt.SourceCtx = sys; opt.DestinationCtx == nil {
		opt.DestinationCtx = sys
	}
	if err := b.remote.TransferContext(opt.SourceCtx, opt.DestinationCtx); err != nil {
		return "", err
	}
	var from, to *imagetransfer.Front
	if opt.SourceCtx, from, err = b.remote.Through(ctx, opt.SourceCtx, src, nil); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if opt.DestinationCtx, to, err = b.remote.Through(ctx, opt.DestinationCtx, dst, nil); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	m, err := copy.Image(ctx, pc, dst, b.remote.Checked(src), opt)
	if err != nil {
		return "", to.Explain(from.Explain(err))
	}
	return manifest.Digest(m)
}

// imageState starts a stage from an image of the store.
func (b *Builder) imageState(ctx context.Context, id, platform string) (_ state, err error) {
	ref, err := is.Transport.NewStoreReference(b.store, nil, id)
	if err != nil {
		return state{}, fmt.Errorf("read base image %s: %w", id, err)
	}
	src, err := ref.NewImage(ctx, b.remote.SystemContext(platform))
	if err != nil {
		return state{}, fmt.Errorf("read base image %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	config, err := configOf(ctx, src)
	if err != nil {
		return state{}, fmt.Errorf("read base image %s: %w", id, err)
	}
	if want := strings.Split(platform, "/"); len(want) >= 2 && (config.OS != want[0] || config.Architecture != want[1]) {
		return state{}, &platformError{config.Platform, platform}
	}
	stored, err := b.store.Image(id)
	if err != nil {
		return state{}, fmt.Errorf("read base image %s: %w", id, err)
	}
	if err := b.examineBase(stored.TopLayer, config.History); err != nil {
		return state{}, err
	}
	if err := b.checkConfig(config.Config.ImageConfig); err != nil {
		return state{}, err
	}
	st := baseState(stored.ID, config)
	st.layer = stored.TopLayer
	return st, nil
}

// checkConfig refuses what no process can be started with, and tells of what is
// left out.
func (b *Builder) checkConfig(c v1.ImageConfig) error {
	texts := slices.Concat(c.Env, c.Entrypoint, c.Cmd, []string{c.User, c.WorkingDir})
	if slices.ContainsFunc(texts, func(text string) bool { return strings.ContainsRune(text, 0) }) {
		return &InputError{Subject: "base image", Err: errors.New("its configuration has a zero byte in a variable, the user, the working directory or a command"), Hint: "the image is damaged: take another one, or make it anew"}
	}
	for _, kv := range c.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			b.notices.add(fmt.Sprintf("the base image's variable %q has no name or no value, and is left out", kv))
		}
	}
	return nil
}

// configOf reads an image's configuration with what Docker adds to OCI's.
func configOf(ctx context.Context, img types.Image) (*dockerspec.DockerOCIImage, error) {
	oci, err := img.OCIConfig(ctx)
	if err != nil {
		return nil, err
	}
	data, err := img.ConfigBlob(ctx)
	if err != nil {
		return nil, err
	}
	var config dockerspec.DockerOCIImage
	if len(data) > 0 { // images of Docker's first schema have none
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	config.Image, config.Config.ImageConfig = *oci, oci.Config
	return &config, nil
}

// baseState starts a stage from the configuration of an image.
func baseState(id string, config *dockerspec.DockerOCIImage) state {
	st := state{key: keyOf("image", id), image: config.Image, docker: config.Config.DockerOCIImageConfigExt}
	if env := uniqueEnv(config.Config.Env); len(env) != len(config.Config.Env) {
		st.image.Config.Env = env
		st.key = extend(st.key, "unique env") // earlier versions gave commands another value
	}
	if _, ok := st.getenv("PATH"); !ok {
		st.setenv("PATH", strings.TrimPrefix(defaultPath, "PATH="))
	}
	return st
}

func (b *Builder) localImage(name string) (*storage.Image, error) {
	if img, err := b.store.Image(name); err == nil {
		return img, nil
	}
	return b.localNamed(b.remote.SystemContext(""), name)
}

// bootstrapKey identifies a bootstrapped base by what was asked for.
func bootstrapKey(from, platform string, spec *recipe.Bootstrap, epoch int64) string {
	if spec == nil {
		spec = &recipe.Bootstrap{}
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return ""
	}
	return keyOf("bootstrap", from, platform, string(data), fmt.Sprint(epoch))
}
