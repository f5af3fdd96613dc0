package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// answerTime bounds how long a registry is waited for.
const answerTime = 10 * time.Second

// wrongBy is how much a clock may differ before certificates and tokens
// suffer.
const wrongBy = 5 * time.Minute

// clock can tell by itself only that it is in a time before this program was
// written, or far behind it.
func (x *examination) clock(now time.Time) {
	found := now.UTC().Format(time.RFC3339)
	written := time.Unix(recipe.DefaultEpoch, 0)
	if now.Before(written) || now.After(written.AddDate(30, 0, 0)) {
		x.bad("clock", Warning, found+" cannot be right", hosthelp.Clock)
		return
	}
	x.good("clock", found)
}

// registries asks the registries that were named, and nobody else.
func (x *examination) registries(ctx context.Context) {
	client := x.opt.Client
	if client == nil {
		client = &http.Client{Timeout: answerTime}
	}
	for _, name := range x.opt.Registries {
		x.registry(ctx, client, name)
	}
}

func (x *examination) registry(ctx context.Context, client *http.Client, name string) {
	check := "registry " + name
	base := name
	if !strings.Contains(name, "://") {
		base = "https://" + name
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/v2/", nil)
	if err != nil {
		x.bad(check, Warning, err.Error(), hosthelp.Registry)
		return
	}
	sent := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		x.bad(check, Warning, err.Error(), hosthelp.Registry)
		return
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // only so that the connection ends well
	switch answer.StatusCode {
	case http.StatusOK, http.StatusUnauthorized, http.StatusForbidden:
		x.good(check, fmt.Sprintf("answers (%s) after %d ms", answer.Status, time.Since(sent).Milliseconds()))
	default:
		x.bad(check, Warning, "answers, but not as a registry does: "+answer.Status, hosthelp.Registry)
	}
	there, err := http.ParseTime(answer.Header.Get("Date"))
	if skew := time.Since(there); err == nil && skew.Abs() > wrongBy {
		x.bad("clock", Warning, fmt.Sprintf("this host's clock and that of %s differ by %s", name, skew.Abs().Round(time.Second)), hosthelp.Clock)
	}
}
