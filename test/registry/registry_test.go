package registry_test

import (
	"net/http"
	"testing"

	"github.com/pdidev/pdibuild/test/registry"
)

func TestOpenRegistryAsksForNothing(t *testing.T) {
	addr := registry.Start(t, registry.Options{})
	if got := status(t, addr, "", ""); got != http.StatusOK {
		t.Errorf("an open registry answered %d", got)
	}
}

func TestPasswordIsAskedForAndChecked(t *testing.T) {
	addr := registry.Start(t, registry.Options{User: "alice", Password: "open sesame"})
	for _, c := range []struct {
		user, password string
		want           int
	}{
		{"", "", http.StatusUnauthorized},
		{"alice", "wrong", http.StatusUnauthorized},
		{"bob", "open sesame", http.StatusUnauthorized},
		{"alice", "open sesame", http.StatusOK},
	} {
		if got := status(t, addr, c.user, c.password); got != c.want {
			t.Errorf("user %q, password %q: answered %d, want %d", c.user, c.password, got, c.want)
		}
	}
}

func TestTwoRegistriesAtOnce(t *testing.T) {
	a, b := registry.Start(t, registry.Options{}), registry.Start(t, registry.Options{})
	if a == b {
		t.Errorf("both are at %s", a)
	}
}

func status(t *testing.T, addr, user, password string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
