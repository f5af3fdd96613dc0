package imagestore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A path that overlay cannot mount is refused by the character, unless the store
// is one without overlay.
func TestPathThatCannotBeMounted(t *testing.T) {
	for root, char := range map[string]string{"/x/a,b": `","`, "/x/a:b": `":"`, `/x/a\b`: `"\\"`, "/x/a[1] b'\"=%\n*": ""} {
		for _, driver := range []string{"", "overlay", "vfs"} {
			err := mountable(root, driver)
			if refused := char != "" && driver != "vfs"; refused != (err != nil) || refused && !strings.Contains(err.Error(), char) {
				t.Errorf("%q with driver %q: %v", root, driver, err)
			}
		}
	}
	root := filepath.Join(t.TempDir(), "a,b")
	if err := os.MkdirAll(root+"/vfs-layers", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/vfs-layers/layers.json", []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mountable(root, ""); err != nil {
		t.Errorf("a store of vfs: %v", err)
	}
}
