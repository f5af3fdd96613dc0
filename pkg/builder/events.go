package builder

import "github.com/pdidev/pdibuild/pkg/progress"

// What a build reports and returns is in package progress.
type (
	// An Event is one piece of progress.
	Event = progress.Event
	// A Result describes a finished image.
	Result = progress.Result
)
