// Package doctor looks at a host the way a build would: what is there, what
// that means for builds, and what to do about it with and without an
// administrator. Call [Examine] inside of builder.EnterNamespace, or with the
// error by which that failed. It changes nothing, but that the image store is
// made where there is none yet and that small files are tried in it; it asks
// registries only when they are named; and it never shows a credential.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/builder"
)

// A Status says how bad a finding is.
type Status string

// The statuses, the worst last.
const (
	// OK needs no attention, Note may explain something.
	OK   Status = "ok"
	Note Status = "note"
	// Warning means that some builds fail, or are slow.
	Warning Status = "warning"
	// Error means that no usual build can succeed; a tiny one may.
	Error Status = "error"
)

// A Finding is the result of one check.
type Finding struct {
	// Check is its name, the same in every version.
	Check  string `json:"check"`
	Status Status `json:"status"`
	// Found is what was seen, Means what that means for a build here.
	Found string `json:"found"`
	Means string `json:"means,omitempty"`
	// Admin completes "an administrator can", User is the way without one.
	Admin string `json:"admin,omitempty"`
	User  string `json:"user,omitempty"`
}

// Options of an examination.
type Options struct {
	// Namespace is the error of builder.EnterNamespace; nil when it worked.
	Namespace error
	// Store is the image store to look at.
	Store builder.StoreOptions
	// Home and TemporaryDirectory are the values of HOME and TMPDIR, if they
	// are set.
	Home, TemporaryDirectory string
	// Registries are asked whether they can be reached.
	Registries []string
}

// An examination collects findings.
type examination struct {
	opt      Options
	user     hosthelp.User
	findings []Finding
}

// Examine makes all checks, in an order in which one explains the next.
func Examine(ctx context.Context, opt Options) []Finding {
	x := &examination{opt: opt, user: hosthelp.CurrentUser()}
	x.kernel()
	x.userNamespaces()
	x.subordinateIDs()
	x.container()
	x.seccomp()
	if opt.Namespace == nil {
		x.store(ctx)
	}
	x.home()
	x.temporaryDirectory()
	x.limits()
	x.tools()
	x.clock(time.Now())
	x.registries(ctx)
	return x.findings
}

// Worst is the worst status of the findings.
func Worst(findings []Finding) Status {
	rank := map[Status]int{OK: 0, Note: 1, Warning: 2, Error: 3}
	worst := OK
	for _, f := range findings {
		if cmp.Compare(rank[f.Status], rank[worst]) > 0 {
			worst = f.Status
		}
	}
	return worst
}

// good notes what is as it should be.
func (x *examination) good(check, found string) {
	x.findings = append(x.findings, Finding{Check: check, Status: OK, Found: found})
}

// bad notes what is not, in the words of the host's help.
func (x *examination) bad(check string, status Status, found string, topic hosthelp.Topic) {
	h := hosthelp.Here(topic)
	x.findings = append(x.findings, Finding{Check: check, Status: status, Found: found, Means: h.Means, Admin: h.Admin, User: h.User})
}

// failed notes an error of the builder, which knows its own topic.
func (x *examination) failed(check string, err error, otherwise hosthelp.Topic) {
	topic := otherwise
	var host *builder.HostError
	switch {
	case errors.As(err, &host) && host.Topic != "":
		topic = hosthelp.Topic(host.Topic)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		topic = hosthelp.Disk
	}
	x.bad(check, Error, err.Error(), topic)
}
