package registry

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
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.podman.io/image/v5/pkg/tlsclientconfig"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Options say how servers are reached. The zero value needs no more than the
// system's certificates.
type Options struct {
	// CAFile is a PEM file with further certificate authorities.
	CAFile string
	// CertDir holds *.crt of authorities, and NAME.cert with NAME.key.
	CertDir string
	// Insecure accepts any certificate.
	Insecure bool
	// Proxy chooses a proxy, as http.ProxyFromEnvironment does; nil means
	// that there is none.
	Proxy func(*http.Request) (*url.URL, error)
	// Connections to one server that are kept for further requests.
	Connections int
	// Retries is how often a request is repeated that failed for reasons
	// that pass.
	Retries int
	// RetryWait is the first wait before a repetition, which doubles each
	// time; 300 ms by default.
	RetryWait time.Duration
	// UserAgent is what servers are told, pdibuild by default.
	UserAgent string
	// Report is told about repetitions. It is called from several goroutines.
	Report func(text string)
	// Slow is told, instead of Report, about servers that answer that they
	// are asked too much (429, 503, Retry-After).
	Slow func(text string)
}

const (
	firstWait = 300 * time.Millisecond
	// longestWait bounds our own waits; what a server asks for is bounded by
	// patience.
	longestWait = 20 * time.Second
	patience    = 5 * time.Minute
	// patienceRefused is how often a server is tried again that does not
	// run: perhaps it is starting, but most likely its name is wrong.
	patienceRefused = 2
	// patienceSilent is how often after the system's own attempts to connect,
	// which take 30 s, have got no answer at all.
	patienceSilent = 1
	// bufferSize saves system calls: what is sent is large.
	bufferSize = 64 << 10
	// Stalled is how long a connection may bring nothing before it counts as
	// cut.
	Stalled = time.Minute
)

// A Transport repeats requests that failed for reasons that pass: cut
// connections, 408, 429 and 5xx answers. What can't be sent twice because its
// body is a stream is repeated by whoever made the stream.
//
// Once a server has said Retry-After, every request to it waits, not only the
// one that was told.
type Transport struct {
	base      http.RoundTripper
	insecure  bool
	userAgent string
	retries   int
	wait      time.Duration
	report    func(text string)
	slow      func(text string)

	mu    sync.Mutex
	until map[string]time.Time // when a host may be asked again
}

// NewTransport returns a transport for one server, whose certificates it reads.
func NewTransport(opt Options) (*Transport, error) {
	config, err := tlsConfig(opt)
	if err != nil {
		return nil, err
	}
	t := &Transport{
		base: &http.Transport{
			Proxy:                 opt.Proxy,
			DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       config,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   opt.Connections,
			ReadBufferSize:        bufferSize,
			WriteBufferSize:       bufferSize,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   30 * time.Second,
			ResponseHeaderTimeout: patience, // a registry may take long to store what it got
			ExpectContinueTimeout: time.Second,
		},
		insecure: opt.Insecure, userAgent: opt.UserAgent, retries: opt.Retries, wait: opt.RetryWait, report: opt.Report, slow: opt.Slow,
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

// tlsConfig reads CAFile and, as docker lays it out, CertDir.
func tlsConfig(opt Options) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: opt.Insecure, //nolint:gosec // only when it is asked for
	}
	if opt.CertDir != "" {
		if err := tlsclientconfig.SetupCertificates(opt.CertDir, config); err != nil {
			return nil, fmt.Errorf("load the certificates in %s: %w", opt.CertDir, err)
		}
	}
	if opt.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(opt.CAFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate authority: %w", err)
	}
	if config.RootCAs == nil {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
	}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load certificate authority: %s holds no PEM certificate", opt.CAFile)
	}
	return config, nil
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
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
		if !repeatable(req) {
			t.heed(resp)
			return resp, err
		}
		wait, err := t.judge(resp, err, attempt)
		if err != nil {
			return nil, err
		}
		if wait < 0 {
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

// CloseIdleConnections is for http.Client, which closes none without it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// judge says how long to wait before the next attempt, < 0 if there is none.
// It returns an error if there is no answer and no use in asking again.
func (t *Transport) judge(resp *http.Response, err error, attempt int) (time.Duration, error) {
	if err != nil {
		var dial *net.OpError
		refused := errors.Is(err, unix.ECONNREFUSED) && attempt >= patienceRefused
		silent := errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout() && attempt >= patienceSilent
		if attempt >= t.retries || refused || silent || !IsTemporary(err) {
			return 0, err
		}
		t.Say("%v; trying again", err)
		return backoff(t.wait, attempt), nil
	}
	if !statusPasses(resp.StatusCode) {
		return -1, nil
	}
	if asked, ok := t.heed(resp); ok {
		if asked > patience {
			return 0, fmt.Errorf("%s asks to come back in %s: %w", resp.Request.URL.Host, asked, NewStatusError(resp))
		}
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

// Say tells whoever listens that something is repeated.
func (t *Transport) Say(format string, args ...any) { sayTo(t.report, format, args...) }

// Again waits before something is done once more that failed with err; what
// tells what that is. It returns err if this attempt, counted from 0, was the
// last.
func (t *Transport) Again(ctx context.Context, attempt int, err error, what string) error {
	if attempt >= t.retries || ctx.Err() != nil {
		return err
	}
	t.Say("%v; %s", err, what)
	return sleep(ctx, backoff(t.wait, attempt))
}

func sayTo(tell func(text string), format string, args ...any) {
	if tell != nil {
		tell(fmt.Sprintf(format, args...))
	}
}

// heed postpones all further requests to a server that asks for that.
func (t *Transport) heed(resp *http.Response) (time.Duration, bool) {
	if resp == nil || !statusPasses(resp.StatusCode) {
		return 0, false
	}
	wait, ok := retryAfter(resp)
	if !ok || wait > patience {
		return wait, ok
	}
	host := resp.Request.URL.Host
	t.mu.Lock()
	defer t.mu.Unlock()
	if until := time.Now().Add(wait); until.After(t.until[host]) {
		t.until[host] = until
	}
	return wait, true
}

func (t *Transport) waitFor(ctx context.Context, host string) error {
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

type onceKey struct{}

// Once marks a request that must not be repeated by itself: it is part of a
// sequence that its sender repeats from the start.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// repeatable says whether a request can be sent twice.
func repeatable(req *http.Request) bool {
	rewindable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	return rewindable && req.Context().Value(onceKey{}) == nil
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

// ErrStalled says that a connection has brought nothing for too long.
var ErrStalled = errors.New("the connection brings nothing any more")

// IsTemporary says whether an operation that ended with err may succeed when it is
// repeated.
func IsTemporary(err error) bool {
	if err == nil {
		return false
	}
	var request *url.Error // it calls itself an error of the network, whatever is in it
	if errors.As(err, &request) && !request.Timeout() {
		err = request.Err
	}
	var response *errcode.ErrorResponse
	var status *StatusError
	switch {
	case errors.Is(err, ErrStalled):
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
