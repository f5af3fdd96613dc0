package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
)

// CertDir is where this host has certificates for a registry, as podman and
// docker look for them; empty if it has none. HOST[:PORT] is as in the names of
// images.
func CertDir(host string) string {
	dirs := []string{"/etc/containers", "/usr/share/containers", "/etc/docker"}
	if config, err := os.UserConfigDir(); err == nil {
		dirs = append([]string{filepath.Join(config, "containers")}, dirs...)
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, "certs.d", host)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// VerifyConnection is what crypto/tls does unless it is told not to, with the
// system's authorities and those in a directory. It is for a library that can
// be given a configuration, but then does not verify.
func VerifyConnection(certDir string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		config, err := tlsConfig(Options{CertDir: certDir})
		if err != nil {
			return err
		}
		if state.ServerName == "" || len(state.PeerCertificates) == 0 {
			return errors.New("the server's certificate cannot be verified: it has no name")
		}
		opt := x509.VerifyOptions{DNSName: state.ServerName, Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range state.PeerCertificates[1:] {
			opt.Intermediates.AddCert(c)
		}
		_, err = state.PeerCertificates[0].Verify(opt)
		return err
	}
}
