package builder

import (
	"github.com/pdidev/pdibuild/internal/hosthelp"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// The errors of a build, which several packages return; see pkg/failure.
type (
	// A HostError is about something that this host lacks.
	HostError = fail.HostError
	// A StepError names the step that failed, and why.
	StepError = fail.StepError
	// A CommandError is about a command that could not be started.
	CommandError = fail.CommandError
	// A LeakError is about a secret that would have become part of the image.
	LeakError = fail.LeakError
	// A RegistryError is about a registry that refused or could not be reached.
	RegistryError = fail.RegistryError
	// An InputError is about a recipe that does not fit what it is applied to.
	InputError = fail.InputError
)

// ErrUnsupported is wrapped by errors about recipe steps that this version
// parses but cannot run yet.
var ErrUnsupported = fail.ErrUnsupported

func hostError(op string, err error, topic hosthelp.Topic) *HostError {
	return fail.Host(op, err, topic)
}
