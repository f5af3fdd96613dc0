package spackinstall

import "testing"

func TestOlderTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ arch, target, want string }{
		{"amd64", "x86_64_v4", "x86_64_v3"},
		{"amd64", "zen4", "x86_64_v3"},
		{"amd64", "x86_64_v3", ""},
		{"amd64", "x86_64", ""},
		{"arm64", "neoverse_v2", "aarch64"},
		{"arm64", "armv8.2a", ""},
		{"arm64", "aarch64", ""},
		{"ppc64le", "power9le", ""},
	} {
		if got := olderTarget(c.arch, c.target); got != c.want {
			t.Errorf("for %s on %s: %q, want %q", c.target, c.arch, got, c.want)
		}
	}
}
