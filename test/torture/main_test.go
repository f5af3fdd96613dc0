//go:build integration

package torture

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 1, "what is random is random after this `number`")
	kills = flag.Int("kills", 8, "how many builds, and how many pushes, are killed at random moments")
	rooms = flag.Int("rooms", 4, "at how many places the disk is full")
	disks = flag.Int("disks", 2, "how many builds have a disk that fails")
	cuts  = flag.Int("cuts", 2, "at how many bytes a registry cuts its connections")
)

// program is the pdibuild under test.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	path, err := filepath.Abs(os.Getenv("PDIBUILD_BIN"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture: set PDIBUILD_BIN to the program:", err)
		os.Exit(1)
	}
	program = path
	start, code := time.Now(), m.Run()
	fmt.Printf("\nfigures (seed %d, %.0f s):\n%s", *seed, time.Since(start).Seconds(), figures.String())
	os.Exit(code)
}

// figures are what the run has to say, a line for each thing that was done.
var figures struct {
	sync.Mutex
	strings.Builder
}

func figure(format string, args ...any) {
	figures.Lock()
	defer figures.Unlock()
	fmt.Fprintf(&figures, "  "+format+"\n", args...)
}
