package failure

import "errors"

// A Code names a cause for which a program may have a way out of its own, such as
// an option. Hint says the same for people, without any program's options.
type Code string

// Data are what a Code is about, by name.
type Data map[string]string

// The codes, with the names in their Data.
const (
	// ImageNotFound: the store has no such image.
	ImageNotFound Code = "image-not-found"
	// PullForbidden: the image is not in the store, and was not to be fetched.
	PullForbidden Code = "pull-forbidden"
	// DamagedImage: the image at "image" cannot be used.
	DamagedImage Code = "damaged-image"
	// OtherPlatform: the image is for the platform "has", not for "want".
	OtherPlatform Code = "other-platform"
	// WrongPlatform: the same of an image of the store.
	WrongPlatform Code = "wrong-platform"
	// LayerAddresses: a manifest names addresses for its layers.
	LayerAddresses Code = "layer-addresses"
	// NoProvenance: the image was not built in this store.
	NoProvenance Code = "no-provenance"
	// NoExportFormat: a registry was named where a file was to be.
	NoExportFormat Code = "no-export-format"

	// NoDestination: the image has no name at a registry.
	NoDestination Code = "no-destination"

	// LoginNeeded: the registry "host" wants a login.
	LoginNeeded Code = "login-needed"
	// PendingLogin: the same of a binary cache that packages wait for.
	PendingLogin Code = "pending-login"
	// PlainTokenServer: the registry sends logins to a server without TLS.
	PlainTokenServer Code = "plain-token-server"
	// PlainRegistry: the registry speaks HTTP without TLS.
	PlainRegistry Code = "plain-registry"
	// UnknownCertificate: the registry's certificate is not trusted.
	UnknownCertificate Code = "unknown-certificate"

	// NoCommand: neither the caller nor the image names a command.
	NoCommand Code = "no-command"
	// NoShell: the image has no shell.
	NoShell Code = "no-shell"
	// NoWorkdir: the working directory "dir" is not in the container.
	NoWorkdir Code = "no-workdir"
	// StageNotBuilt: nothing of the stage "stage" is in the store.
	StageNotBuilt Code = "stage-not-built"
	// NoFailedStep: no step of the recipe has failed.
	NoFailedStep Code = "no-failed-step"
	// NotKept: the container of the failed step was not kept.
	NotKept Code = "not-kept"
	// VolumeOwner: files in a volume will belong to another user.
	VolumeOwner Code = "volume-owner"

	// NoRecipe: the directory has no recipe.
	NoRecipe Code = "no-recipe"
	// SecretMissing: the secret "id" was not given.
	SecretMissing Code = "secret-missing"
	// MemoryUsedUp: fewer stages at once would need less memory.
	MemoryUsedUp Code = "memory-used-up"
	// BuildDirectory: the failed step's container has the directory of a build.
	BuildDirectory Code = "build-directory"
	// LockNotKept: what an environment was concretized to is not kept any more.
	LockNotKept Code = "lock-not-kept"
	// LockNotWritable: the lock file cannot be written.
	LockNotWritable Code = "lock-not-writable"
	// LockInvalid: the lock file is not one.
	LockInvalid Code = "lock-invalid"
	// EnvironmentInvalid: the environment's file is wrong.
	EnvironmentInvalid Code = "environment-invalid"
	// CacheOverLimit: what may not go is more than the limit.
	CacheOverLimit Code = "cache-over-limit"
	// PushPending: packages wait in the local binary cache.
	PushPending Code = "push-pending"
	// NoIndex: a binary cache has no index.
	NoIndex Code = "no-index"
)

// An explained error has a hint, and perhaps a code for it.
type explained interface {
	remedy() (hint string, code Code, data Data)
}

//nolint:unparam // the hints of the host's table need no data
func (e *HostError) remedy() (string, Code, Data) { return e.Hint, "", nil }

func (e *StepError) remedy() (string, Code, Data)     { return e.Hint, e.Code, e.Data }
func (e *RegistryError) remedy() (string, Code, Data) { return e.Hint, e.Code, e.Data }
func (e *InputError) remedy() (string, Code, Data)    { return e.Hint, e.Code, e.Data }

// CodeOf returns the code that belongs to the hint of the first error of this
// package in err. An error that has taken over the hint of the error inside it
// has that one's code.
func CodeOf(err error) (Code, Data) {
	var first explained
	if !errors.As(err, &first) {
		return "", nil
	}
	hint, code, data := first.remedy()
	for e := first; code == ""; {
		var inner explained
		if !errors.As(errors.Unwrap(e.(error)), &inner) {
			return "", nil
		}
		innerHint, innerCode, innerData := inner.remedy()
		if innerHint != hint {
			return "", nil
		}
		e, code, data = inner, innerCode, innerData
	}
	return code, data
}
