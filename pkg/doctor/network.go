package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/builder"
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
	for _, name := range x.opt.Registries {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		x.registry(ctx, name)
		x.clockOf(ctx, name)
		cancel()
	}
}

func (x *examination) registry(ctx context.Context, name string) {
	check := "registry " + name
	sent := time.Now()
	if err := builder.AskRegistry(ctx, x.opt.Store.Registries, name); err != nil {
		x.bad(check, Warning, err.Error(), hosthelp.Registry)
		return
	}
	x.good(check, fmt.Sprintf("answers after %d ms", time.Since(sent).Milliseconds()))
}

// clockOf compares this host's clock with a registry's. It takes any
// certificate: where the clock is wrong, none would count, and nothing but a
// date is asked for.
func (x *examination) clockOf(ctx context.Context, name string) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see above
	transport.DisableKeepAlives = true
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, scheme := range []string{"https", "http"} {
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, scheme+"://"+builder.RegistryHost(name)+"/v2/", nil)
		if err != nil {
			return
		}
		answer, err := client.Do(request)
		if err != nil {
			continue
		}
		_ = answer.Body.Close() // it has none
		if there, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			x.compareClocks(name, time.Since(there))
		}
		return
	}
}

func (x *examination) compareClocks(name string, ahead time.Duration) {
	if ahead.Abs() <= wrongBy {
		return
	}
	found := fmt.Sprintf("this host's clock is %s %s that of %s", ahead.Abs().Round(time.Second), map[bool]string{true: "ahead of", false: "behind"}[ahead > 0], name)
	x.bad("clock", Warning, found, hosthelp.Clock)
}
