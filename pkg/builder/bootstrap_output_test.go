package builder

import "testing"

func TestBootstrapFailureNamesTheCause(t *testing.T) {
	tail := []string{
		"I: running apt-get update...",
		"Err:2 http://deb.example.org/debian nosuch Release",
		"E: The repository 'http://deb.example.org/debian nosuch Release' does not have a Release file.",
		"E: apt-get update --error-on=any failed",
		"E: mmdebstrap failed to run",
	}
	want := "The repository 'http://deb.example.org/debian nosuch Release' does not have a Release file. (exit status 25)"
	if got := bootstrapFailure(tail, 25).Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := bootstrapFailure([]string{"killed"}, 137).Error(); got != "exit status 137" {
		t.Errorf("without a reason: %q", got)
	}
}

func TestChatterIsNotPassedOn(t *testing.T) {
	var got []string
	pass := withoutChatter(func(line []byte) { got = append(got, string(line)) })
	for _, line := range []string{"I: skipping chroot/mount/dev as requested", "I: running --setup-hook in shell: x", "I: installing essential packages..."} {
		pass([]byte(line))
	}
	if len(got) != 1 || got[0] != "I: installing essential packages..." {
		t.Errorf("passed on: %q", got)
	}
	if withoutChatter(nil) != nil {
		t.Error("nobody listens, and lines are passed on")
	}
}
