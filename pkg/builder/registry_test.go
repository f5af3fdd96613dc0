package builder

import "testing"

// The image library takes /var/tmp for large files if nobody names another
// directory; it does not look at TMPDIR.
func TestLargeFilesGoWhereTheUserSays(t *testing.T) {
	for _, dir := range []string{"/scratch/tmp", ""} {
		t.Setenv("TMPDIR", dir)
		if got := (&Builder{}).systemContext("").BigFilesTemporaryDir; got != dir {
			t.Errorf("with TMPDIR=%q, large files go to %q", dir, got)
		}
	}
}
