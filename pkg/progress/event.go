// Package progress is what a build reports while it runs, and three ways to show
// it: Plain for logs, Terminal for a person in front of one, JSON for programs.
//
// A Printer fits builder.BuildOptions: its Event method is Events, its Output
// method is Output.
package progress

import "time"

// A Kind tells what an Event reports.
type Kind string

// The kinds of events.
const (
	// StageStart and StageEnd bracket a stage.
	StageStart Kind = "stage-start"
	StageEnd   Kind = "stage-end"
	// StepStart and StepEnd bracket a step that is executed.
	StepStart Kind = "step-start"
	StepEnd   Kind = "step-end"
	// StepCached reports that a step's result was found.
	StepCached Kind = "step-cached"
	// Commit reports that the image is being written.
	Commit Kind = "commit"
	// Warning carries a message that the user should see once.
	Warning Kind = "warning"
	// Info carries a choice and its reason, for verbose output.
	Info Kind = "info"
	// Package reports that a package of a spack step was begun or is installed:
	// Done of Total, with Text for what happened, and Packages for the rest.
	Package Kind = "package"
	// Forecast reports how much of a spack step is in binary caches, before
	// anything is installed: Done of Total packages, and in words as Text.
	Forecast Kind = "forecast"
	// Transfer reports bytes of a pull, push or export.
	Transfer Kind = "transfer"
)

// An Event is one piece of progress.
type Event struct {
	Kind Kind      `json:"event"`
	Time time.Time `json:"time"`
	// Stage is the stage's name; Step counts from 1, Steps is their number.
	Stage string `json:"stage,omitempty"`
	Step  int    `json:"step,omitempty"`
	Steps int    `json:"steps,omitempty"`
	// Text is the step in one line, or the message.
	Text string `json:"text,omitempty"`
	// Code names the cause of a warning for which a program may have a remedy;
	// see package errdefs.
	Code string `json:"code,omitempty"`
	// Duration in nanoseconds of what ended.
	Duration time.Duration `json:"duration_ns,omitempty"`
	// Failed is set on the end of a stage or step that did not succeed, Stopped
	// on the end of one that was stopped: the build was cancelled, or another
	// stage has failed.
	Failed  bool `json:"failed,omitempty"`
	Stopped bool `json:"stopped,omitempty"`
	// Done and Total are bytes, or packages; Total is -1 when unknown.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
	// Rate of a transfer in bytes a second since it began, Remaining how
	// long the rest takes at that rate.
	Rate      int64         `json:"rate,omitempty"`
	Remaining time.Duration `json:"remaining_ns,omitempty"`
	// Packages is how far the installation of an environment is.
	Packages *Packages `json:"packages,omitempty"`
}

// Packages is how far the installation of a Spack environment is.
type Packages struct {
	// FromCache, Built and Failed count packages.
	FromCache int `json:"from_cache"`
	Built     int `json:"built"`
	Failed    int `json:"failed"`
	// Building are those that are being built, NAME@VERSION.
	Building []string `json:"building,omitempty"`
	// Remaining estimates, in nanoseconds, how long the rest will take from how
	// long the packages have taken on this host before. Nil where that is not
	// known.
	Remaining *time.Duration `json:"remaining_ns,omitempty"`
}

// A Result describes a finished image.
type Result struct {
	// ImageID is the hex SHA-256 of the image configuration.
	ImageID string `json:"image_id"`
	// Digest of the manifest, sha256:HEX.
	Digest string `json:"digest"`
	// Names that the image has been given.
	Names []string `json:"names,omitempty"`
	// Size in bytes of the uncompressed layers.
	Size int64 `json:"size"`
	// Layers is their number.
	Layers int `json:"layers"`
	// Cached and Executed count steps.
	Cached   int `json:"steps_cached"`
	Executed int `json:"steps_executed"`
	// Duration of the build.
	Duration time.Duration `json:"duration_ns"`
	// LogDir has the logs of executed steps.
	LogDir string `json:"log_dir,omitempty"`
}

// A Printer shows the progress of a build. Its methods may be called from
// several goroutines. Nothing is shown after Close.
type Printer interface {
	// Event shows an event as far as the printer has a place for it.
	Event(e Event)
	// Output shows one line that a step has printed. The line is not kept.
	Output(stage string, step int, line []byte)
	// Result shows the finished image.
	Result(r *Result)
	// Close takes away what would be in the way of later output.
	Close()
}
