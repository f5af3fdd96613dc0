// Package registry runs a real container registry for tests: the
// docker-registry server (CNCF distribution) on a port of 127.0.0.1 that
// nobody else uses, with or without a password or tokens. Start is all there is.
package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// startTimeout bounds the time from the start of the server to its first
// answer.
const startTimeout = 20 * time.Second

// Options of a registry. The zero value lets everybody pull and push.
type Options struct {
	// User and Password are asked for (HTTP Basic) when User is not empty.
	User, Password string
	// Tokens makes the registry send its clients to a token server, which
	// asks for User and Password.
	Tokens bool
}

// Start runs a registry over plain HTTP until the test ends and returns its
// address, HOST:PORT. Its images are in a temporary directory of the test. The
// test is skipped where the docker-registry program is not installed.
func Start(t *testing.T, opts Options) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("SKIPPED: docker-registry is not installed, so nothing that needs a registry is tested; apt-get install docker-registry")
	}
	// Another process may take the port between its choice and its use.
	var failures []string
	for range 5 {
		addr, err := run(t, program, opts)
		if err == nil {
			return addr
		}
		failures = append(failures, err.Error())
	}
	t.Fatalf("docker-registry did not start:\n%s", strings.Join(failures, "\n"))
	return ""
}

// run makes one attempt to start the server.
func run(t *testing.T, program string, opts Options) (string, error) {
	dir := t.TempDir()
	addr, err := freeAddress()
	if err != nil {
		return "", err
	}
	config, err := writeConfig(t, dir, addr, opts)
	if err != nil {
		return "", err
	}
	log := &output{}
	// Not t.Context(): the server has to outlive the test's other clean-ups.
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "serve", config)
	cmd.Stdout, cmd.Stderr = log, log
	// A registry that the machine's administrator configures is not this one.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	if err := cmd.Start(); err != nil {
		stop()
		return "", fmt.Errorf("start %s: %w", program, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed by stop
		close(ended)
	}()
	end := func() { stop(); <-ended }
	if err := waitReady(addr, ended); err != nil {
		end()
		return "", fmt.Errorf("%w\n%s", err, log)
	}
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Logf("registry at %s said last:\n%s", addr, log.last(8000))
		}
	})
	return addr, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // gone before it could block
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := listener.Addr().String()
	return addr, listener.Close()
}

func writeConfig(t *testing.T, dir, addr string, opts Options) (string, error) {
	config := fmt.Sprintf(`version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
http: {addr: %q}
`, filepath.Join(dir, "data"), addr)
	if opts.Tokens {
		tokens, err := startTokens(t, dir, opts)
		if err != nil {
			return "", fmt.Errorf("start the token server: %w", err)
		}
		config += tokens
	} else if opts.User != "" {
		passwords := filepath.Join(dir, "htpasswd")
		// The lowest cost: this is about asking for the password, which
		// happens at every request.
		hash, err := bcrypt.GenerateFromPassword([]byte(opts.Password), bcrypt.MinCost)
		if err != nil {
			return "", fmt.Errorf("hash the registry's password: %w", err)
		}
		if err := os.WriteFile(passwords, fmt.Appendf(nil, "%s:%s\n", opts.User, hash), 0o600); err != nil {
			return "", err
		}
		config += fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %q}\n", passwords)
	}
	path := filepath.Join(dir, "config.yml")
	return path, os.WriteFile(path, []byte(config), 0o600)
}

// waitReady waits until a registry answers at addr, or its process has ended.
func waitReady(addr string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for !answers(ctx, addr) {
		select {
		case <-ended:
			return fmt.Errorf("the server at %s ended at once", addr)
		case <-ctx.Done():
			return fmt.Errorf("the server at %s did not answer within %s", addr, startTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
	// Somebody answers; it is ours unless ours has ended.
	select {
	case <-ended:
		return fmt.Errorf("the server at %s ended at once", addr)
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

func answers(ctx context.Context, addr string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v2/", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.Header.Get("Docker-Distribution-Api-Version") == "registry/2.0"
}

// output collects what the server says; it is read while the server runs.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// last returns the last n bytes or so.
func (o *output) last(n int) string {
	text := o.String()
	_, after, _ := strings.Cut(text[max(len(text)-n, 0):], "\n")
	return after
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
