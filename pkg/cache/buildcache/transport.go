package buildcache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	firstWait = 300 * time.Millisecond
	// longestWait bounds our own waits; what a server asks for is bounded by
	// patience.
	longestWait = 20 * time.Second
	patience    = 5 * time.Minute
	// patienceRefused is how often a server is tried again that does not
	// run: perhaps it is starting, but most likely its name is wrong.
	patienceRefused = 2
	// stalled is how long a connection may bring nothing before it counts as
	// cut.
	stalled = time.Minute
)

// A transport repeats requests that failed for reasons that pass: cut
// connections, 408, 429 and 5xx answers. What can't be sent twice because its
// body is a stream is repeated by whoever made the stream.
//
// Once a server has said Retry-After, every request to it waits, not only the
// one that was told.
type transport struct {
	base      http.RoundTripper
	userAgent string
	retries   int
	wait      time.Duration
	report    func(text string)
	slow      func(text string)

	mu    sync.Mutex
	until map[string]time.Time // when a host may be asked again
}

func newTransport(opt Options) (*transport, error) {
	pool, certificates, err := loadCertificates(opt)
	if err != nil {
		return nil, err
	}
	t := &transport{
		base: &http.Transport{
			Proxy:       opt.Proxy,
			DialContext: (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig: &tls.Config{
				RootCAs: pool, Certificates: certificates,
				InsecureSkipVerify: opt.Insecure, //nolint:gosec // only when it is asked for
			},
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   opt.jobs(),
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: patience, // a registry may take long to store what it got
			ExpectContinueTimeout: time.Second,
		},
		userAgent: opt.UserAgent, retries: opt.retries(), wait: opt.RetryWait, report: opt.Report, slow: opt.Slow,
		until: map[string]time.Time{},
	}
	if t.userAgent == "" {
		t.userAgent = "pdibuild"
	}
	if t.wait == 0 {
		t.wait = firstWait
	}
	if t.slow == nil {
		t.slow = t.report
	}
	return t, nil
}

// loadCertificates reads CAFile and, as docker lays it out, CertDir: *.crt are
// authorities, NAME.cert with NAME.key proves who we are.
func loadCertificates(opt Options) (*x509.CertPool, []tls.Certificate, error) {
	var authorities []string
	if opt.CAFile != "" {
		authorities = append(authorities, opt.CAFile)
	}
	var certificates []tls.Certificate
	if opt.CertDir != "" {
		crt, _ := filepath.Glob(filepath.Join(opt.CertDir, "*.crt")) // the pattern is valid
		authorities = append(authorities, crt...)
		clients, _ := filepath.Glob(filepath.Join(opt.CertDir, "*.cert"))
		for _, name := range clients {
			pair, err := tls.LoadX509KeyPair(name, strings.TrimSuffix(name, ".cert")+".key")
			if err != nil {
				return nil, nil, fmt.Errorf("load client certificate: %w", err)
			}
			certificates = append(certificates, pair)
		}
	}
	if len(authorities) == 0 {
		return nil, certificates, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, name := range authorities {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fmt.Errorf("load certificate authority: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("load certificate authority: %s holds no PEM certificate", name)
		}
	}
	return pool, certificates, nil
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, host := req.Context(), req.URL.Host
	for attempt := 0; ; attempt++ {
		if err := t.waitFor(ctx, host); err != nil {
			return nil, err
		}
		again, err := resend(req, attempt, t.userAgent)
		if err != nil {
			return nil, err
		}
		resp, err := t.base.RoundTrip(again)
		wait, err := t.judge(resp, err, attempt)
		if err != nil {
			return nil, err
		}
		if wait < 0 || !rewindable(req) {
			return resp, nil
		}
		if resp != nil {
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
			_ = resp.Body.Close()
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// judge says how long to wait before the next attempt, < 0 if there is none.
// It returns an error if there is no answer and no use in asking again.
func (t *transport) judge(resp *http.Response, err error, attempt int) (time.Duration, error) {
	if err != nil {
		refused := errors.Is(err, unix.ECONNREFUSED) && attempt >= patienceRefused
		if attempt >= t.retries || refused || !passes(err) {
			return 0, err
		}
		t.say("%v; trying again", err)
		return backoff(t.wait, attempt), nil
	}
	if !statusPasses(resp.StatusCode) {
		return -1, nil
	}
	if asked, ok := retryAfter(resp); ok {
		if asked > patience {
			return 0, fmt.Errorf("%s asks to come back in %s: %w", resp.Request.URL.Host, asked, statusError(resp))
		}
		t.postpone(resp.Request.URL.Host, asked)
		if attempt >= t.retries {
			return -1, nil
		}
		sayTo(t.slow, "%s answers %s and asks to wait %s", resp.Request.URL.Host, resp.Status, asked)
		return 0, nil // waitFor waits
	}
	if attempt >= t.retries {
		return -1, nil
	}
	tell := t.report
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		tell = t.slow
	}
	sayTo(tell, "%s answers %s; trying again", resp.Request.URL.Host, resp.Status)
	return backoff(t.wait, attempt), nil
}

func (t *transport) say(format string, args ...any) { sayTo(t.report, format, args...) }

func sayTo(tell func(text string), format string, args ...any) {
	if tell != nil {
		tell(fmt.Sprintf(format, args...))
	}
}

func (t *transport) postpone(host string, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := time.Now().Add(wait); until.After(t.until[host]) {
		t.until[host] = until
	}
}

func (t *transport) waitFor(ctx context.Context, host string) error {
	t.mu.Lock()
	wait := time.Until(t.until[host])
	t.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// backoff doubles with each attempt and is spread out, so that many clients
// that were refused together do not come back together.
func backoff(first time.Duration, attempt int) time.Duration {
	wait := min(first<<min(attempt, 10), longestWait)
	return wait/2 + rand.N(wait/2+1)
}

// rewindable says whether a request can be sent twice.
func rewindable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// resend returns the request for an attempt.
func resend(req *http.Request, attempt int, userAgent string) (*http.Request, error) {
	again := req.Clone(req.Context())
	again.Header.Set("User-Agent", userAgent)
	if attempt == 0 || req.GetBody == nil {
		return again, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	again.Body = body
	return again, nil
}

func statusPasses(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads the header, which holds seconds or a date.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(date)), true
	}
	return 0, false
}

var errStalled = errors.New("the connection brings nothing any more")

// passes says whether an operation that ended with err may succeed when it is
// repeated.
func passes(err error) bool {
	if err == nil {
		return false
	}
	var response *errcode.ErrorResponse
	var status *StatusError
	switch {
	case errors.Is(err, errStalled):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &response):
		return statusPasses(response.StatusCode)
	case errors.As(err, &status):
		return statusPasses(status.Status)
	}
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		name        *net.DNSError
		network     net.Error
	)
	switch {
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		return false
	case errors.As(err, &name):
		return name.IsTemporary || name.IsTimeout
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return true
	case errors.As(err, &network):
		return true
	}
	// Connections that end early have many untyped errors in net/http.
	text := err.Error()
	for _, known := range []string{"server closed idle connection", "transport connection broken", "stream error", "GOAWAY", "connection reset", "broken pipe"} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return false
}

// statusError makes an error of an answer and closes its body.
func statusError(resp *http.Response) error {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	e := &StatusError{Method: resp.Request.Method, URL: resp.Request.URL.Redacted(), Status: resp.StatusCode}
	if !strings.Contains(resp.Header.Get("Content-Type"), "html") {
		e.Message = strings.TrimSpace(string(text))
	}
	return e
}
