package registry

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const tokenIssuer, tokenService = "the issuer of a test", "the registry of a test"

// A tokenServer gives out tokens as the CNCF registry's documents describe it
// (spec/auth/token, spec/auth/jwt): to whoever has the password, for what the
// registry asked for.
type tokenServer struct {
	user, password string
	key            *rsa.PrivateKey
	certificate    []byte
}

// startTokens runs a token server until the test ends and returns the part of
// the registry's configuration that is about it.
func startTokens(t *testing.T, dir string, opts Options) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tokenIssuer}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", err
	}
	bundle := filepath.Join(dir, "tokens.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		return "", err
	}
	server := httptest.NewServer(&tokenServer{opts.User, opts.Password, key, certificate})
	t.Cleanup(server.Close)
	return fmt.Sprintf("auth:\n  token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}\n", server.URL+"/token", tokenService, tokenIssuer, bundle), nil
}

// ServeHTTP implements http.Handler.
func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, password, _ := r.BasicAuth()
	if r.Form.Get("grant_type") == "password" { // as OAuth2 has it
		user, password = r.Form.Get("username"), r.Form.Get("password")
	}
	if user != s.user || password != s.password {
		http.Error(w, `{"errors": [{"code": "UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := s.token(user, r.Form["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300}) // the client notices
}

// token allows what the scopes name: TYPE:NAME:ACTION,ACTION.
func (s *tokenServer) token(user string, scopes []string) (string, error) {
	access := []any{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			access = append(access, map[string]any{"type": kind, "name": rest[:i], "actions": strings.Split(rest[i+1:], ",")})
		}
	}
	now := time.Now()
	header := map[string]any{"typ": "JWT", "alg": "RS256", "x5c": []string{base64.StdEncoding.EncodeToString(s.certificate)}}
	claims := map[string]any{
		"iss": tokenIssuer, "aud": tokenService, "sub": user, "jti": rand.Text(), "access": access,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	var parts []string
	for _, part := range []any{header, claims} {
		data, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(data))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ".")))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), "."), err
}
