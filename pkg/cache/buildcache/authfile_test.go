package buildcache

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
)

// authFile writes what podman login writes.
func authFile(t *testing.T, address, userAndPassword string) string {
	t.Helper()
	_, host, _ := strings.Cut(address, "://")
	host, _, _ = strings.Cut(host, "/")
	name := filepath.Join(t.TempDir(), "auth.json")
	auths := map[string]any{host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(userAndPassword))}}
	writeFile(t, name, toJSON(t, map[string]any{"auths": auths}))
	return name
}

func TestAuthFiles(t *testing.T) {
	entry := func(text string) map[string]string {
		return map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(text))}
	}
	first, second := filepath.Join(t.TempDir(), "a.json"), filepath.Join(t.TempDir(), "b.json")
	writeFile(t, first, toJSON(t, map[string]any{"auths": map[string]any{
		"ghcr.io": entry("all:1"), "ghcr.io/org": entry("org:2"), "ghcr.io/org/repo": entry("repo:3"),
	}}))
	writeFile(t, second, toJSON(t, map[string]any{"auths": map[string]any{
		"ghcr.io": entry("never:4"), "https://index.docker.io/v1/": entry("hub:5"), "127.0.0.1:5000": entry("local:6"),
	}}))
	find := AuthFiles(filepath.Join(t.TempDir(), "none"), first, second)
	for _, test := range [][3]string{
		{"ghcr.io", "org/repo", "repo:3"},
		{"ghcr.io", "org/other", "org:2"},
		{"ghcr.io", "else", "all:1"},
		{"registry-1.docker.io", "library/x", "hub:5"},
		{"127.0.0.1:5000", "x", "local:6"},
		{"example.org", "x", ":"},
	} {
		cred, err := find(t.Context(), test[0], test[1])
		must(t, err)
		if got := cred.Username + ":" + cred.Password; got != test[2] {
			t.Errorf("%s/%s: %s, want %s", test[0], test[1], got, test[2])
		}
	}
	writeFile(t, first, []byte("{"))
	if _, err := find(t.Context(), "ghcr.io", "x"); err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("a broken file: error %v, want one that names it", err)
	}
}
