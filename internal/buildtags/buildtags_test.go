package buildtags

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A build with wrong settings ends with our sentence, and with nothing else,
// however much of the module it is.
func TestWrongSettingsEndWithOneSentence(t *testing.T) {
	for _, test := range []struct {
		name, env string
		sentence  string
	}{
		{"tags", "GOFLAGS=-tags=", "pdibuild needs build tags: set GOFLAGS=-tags=containers_image_openpgp,exclude_graphdriver_btrfs and repeat the command"},
		{"cgo", "CGO_ENABLED=0", "pdibuild needs cgo: install gcc, set CGO_ENABLED=1 and repeat the command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, command := range [][]string{{"build", "-o", os.DevNull, "../../cmd/pdibuild"}, {"vet", "../../pkg/builder"}, {"install", "../../..."}} {
				cmd := exec.Command("go", command...)
				cmd.Env = append(os.Environ(), "GOFLAGS=-tags=containers_image_openpgp,exclude_graphdriver_btrfs", test.env)
				out, err := cmd.CombinedOutput()
				if err == nil {
					t.Fatalf("go %v: no error", command)
				}
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				if len(lines) > 3 || !strings.Contains(string(out), test.sentence) {
					t.Errorf("go %v:\n%s\nwant the sentence %q alone", command, out, test.sentence)
				}
			}
		})
	}
}
