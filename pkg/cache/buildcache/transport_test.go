package buildcache

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.FileServerFS(os.DirFS(newV3(t, "zlib"))))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	authority := filepath.Join(dir, "ca.crt")
	writeFile(t, authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	broken := filepath.Join(t.TempDir(), "broken.pem")
	writeFile(t, broken, []byte("no certificate"))
	for _, test := range []struct {
		name string
		opt  Options
		err  string
	}{
		{"unknown authority", Options{}, "certificate signed by unknown authority"},
		{"CAFile", Options{CAFile: authority}, ""},
		{"CertDir", Options{CertDir: dir}, ""},
		{"Insecure", Options{Insecure: true}, ""},
		{"no file", Options{CAFile: filepath.Join(dir, "none")}, "no such file"},
		{"no certificate", Options{CAFile: broken}, "holds no PEM certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opt.Report = func(text string) {
				if strings.Contains(text, "trying again") {
					t.Errorf("it was tried again, although that does not help: %s", text)
				}
			}
			_, err := Open(t.Context(), server.URL, test.opt)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.FileServerFS(os.DirFS(newV3(t, "zlib"))))
	server.StartTLS()
	t.Cleanup(server.Close)
	// Its own certificate is the client's, too.
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAnyClientCert, pool
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	must(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	writeFile(t, filepath.Join(dir, "ca.crt"), certificate)
	if _, err := Open(t.Context(), server.URL, Options{CertDir: dir, Retries: -1}); err == nil {
		t.Error("the server takes clients without a certificate")
	}
	writeFile(t, filepath.Join(dir, "me.cert"), certificate)
	writeFile(t, filepath.Join(dir, "me.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	_, err = Open(t.Context(), server.URL, Options{CertDir: dir})
	must(t, err)
}

func TestProxy(t *testing.T) {
	addr := strings.TrimPrefix(webServer(t, newV3(t, "zlib")), "http://")
	host, path, _ := strings.Cut(addr, "/")
	var asked []string
	forward := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		asked = append(asked, r.In.URL.String())
		r.Out.URL.Host = host
	}})
	t.Cleanup(forward.Close)
	through, err := url.Parse(forward.URL)
	must(t, err)
	c, err := Open(t.Context(), "http://cache.example.org/"+path, Options{Proxy: http.ProxyURL(through)})
	must(t, err)
	packages, err := c.List(t.Context(), ListOptions{Brief: true})
	must(t, err)
	if len(packages) != 1 || len(asked) == 0 || !strings.HasPrefix(asked[0], "http://cache.example.org/") {
		t.Errorf("%d packages, the proxy was asked for %q", len(packages), asked)
	}
}

func TestWebServerWithPassword(t *testing.T) {
	files := http.FileServerFS(os.DirFS(newV3(t, "zlib")))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, err := Open(t.Context(), server.URL, options())
	if host, remote := Remote(err); !remote || host != server.Listener.Addr().String() {
		t.Errorf("error %v is of %q, want it to be the server's", err, host)
	}
	opt := options()
	opt.Credentials = AuthFiles(authFile(t, server.URL, "ann:s3cret"))
	c, err := Open(t.Context(), server.URL, opt)
	must(t, err)
	sound(t, c, "zlib")
}
