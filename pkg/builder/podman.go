package builder

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"go.podman.io/storage/pkg/homedir"

	"github.com/pdidev/pdibuild/internal/hosthelp"
	"github.com/pdidev/pdibuild/pkg/progress"
)

// podmanTakesVFS is why podman of this user keeps to vfs in the store that it
// shares with us, which then uses overlay; "" where it takes the same driver, or
// is not installed. Podman is not asked: it would write its choice down.
func (b *Builder) podmanTakesVFS() string {
	if !b.ids.rootless || !OwnUserNamespace() || !b.shared || b.store.GraphDriverName() != "overlay" {
		return ""
	}
	if _, err := exec.LookPath("podman"); err != nil {
		return ""
	}
	database := filepath.Join(b.store.GraphRoot(), "libpod", "bolt_state.db")
	data, err := os.ReadFile(database)
	switch {
	case err == nil && bytes.Contains(data, []byte("graph-driver-namevfs")):
		return "its database, " + database + ", says vfs"
	case err == nil || namesDriver(storageConfigs()):
		return ""
	}
	if _, err := os.Stat(filepath.Join(b.store.GraphRoot(), "db.sql")); err == nil {
		return "" // of newer versions, which take overlay
	}
	if _, err := exec.LookPath("fuse-overlayfs"); err == nil {
		return ""
	}
	return "no storage.conf names a driver"
}

// storageConfigs are the files that containers-storage.conf(5) names.
func storageConfigs() []string {
	files := []string{"/usr/share/containers/storage.conf", "/etc/containers/storage.conf"}
	if dir, err := homedir.GetConfigHome(); err == nil {
		files = append(files, filepath.Join(dir, "containers", "storage.conf"))
	}
	return files
}

var driverSetting = regexp.MustCompile(`(?m)^\s*driver\s*=\s*"[a-z]`)

func namesDriver(files []string) bool {
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && driverSetting.Match(data) {
			return true
		}
	}
	return false
}

// tellAboutPodman says once in a store that podman does not see its images.
func (b *Builder) tellAboutPodman(emit func(Event)) {
	told := filepath.Join(b.store.GraphRoot(), "pdibuild", "told-about-podman")
	if _, err := os.Stat(told); err == nil {
		return
	}
	why := b.podmanTakesVFS()
	if why == "" || os.WriteFile(told, nil, 0o600) != nil {
		return
	}
	help := hosthelp.For(hosthelp.PodmanDriver)
	emit(Event{Kind: progress.Warning, Text: fmt.Sprintf("%s (%s): %s. This is said once", help.Means, why, help.User)})
}
