//go:build integration

package torture

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// registryImage fetches an image as anybody would, checks every digest, and
// returns that of its manifest.
func registryImage(name string) (string, error) {
	host, rest, _ := strings.Cut(name, "/")
	repository, tag, _ := strings.Cut(rest, ":")
	base := "http://" + host + "/v2/" + repository
	data, err := get(base+"/manifests/"+tag, "application/vnd.oci.image.manifest.v1+json")
	if err != nil {
		return "", err
	}
	var m struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return "", err
	}
	digests := []string{m.Config.Digest}
	for _, l := range m.Layers {
		digests = append(digests, l.Digest)
	}
	for _, d := range digests {
		blob, err := get(base+"/blobs/"+d, "")
		if err != nil {
			return "", err
		}
		if got := digestOf(blob); got != d {
			return "", fmt.Errorf("blob %s of %s is %s", d, name, got)
		}
	}
	return digestOf(data), nil
}

func get(url, accept string) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// archiveImage checks every blob of an oci-archive and returns the digest of
// its configuration.
func archiveImage(file string) (id string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	blobs := map[string][]byte{}
	for in := tar.NewReader(f); ; {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		blobs[path.Clean(hdr.Name)] = data
		if name, ok := strings.CutPrefix(path.Clean(hdr.Name), "blobs/sha256/"); ok && digestOf(data) != "sha256:"+name {
			return "", fmt.Errorf("blob %s in %s is %s", name, file, digestOf(data))
		}
	}
	var index struct{ Manifests []struct{ Digest string } }
	var m struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	blob := func(digest string) []byte { return blobs["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")] }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		return "", fmt.Errorf("index of %s: %w", file, err)
	}
	if err := json.Unmarshal(blob(index.Manifests[0].Digest), &m); err != nil {
		return "", fmt.Errorf("manifest of %s: %w", file, err)
	}
	for _, l := range m.Layers {
		if blob(l.Digest) == nil {
			return "", fmt.Errorf("%s lacks layer %s", file, l.Digest)
		}
	}
	return strings.TrimPrefix(m.Config.Digest, "sha256:"), nil
}

// An inventory counts what is there by kinds of names.
type inventory map[string]int

// Names of files have ids and random parts, which become *.
var random = regexp.MustCompile(`[0-9a-f]{24,64}|[A-Z0-9]{26}|[0-9]{3,}|steps/[0-9a-f]{2}|blobs/sha256/[0-9a-f]{2}|\.pdibuild-.*|sha256-[^/]*=`)

// remembered is what a build keeps about files of the context once they are two
// seconds old: a slow machine's first build does, a fast one's doesn't. The
// files that it is writing are none of it.
var remembered = regexp.MustCompile(`pdibuild/cache/contents(/new|/[0-9a-f]{24})?$`)

// blobPlace is a directory for the blobs of a binary cache whose digests begin
// alike: how many there are is chance.
var blobPlace = regexp.MustCompile(`buildcache/blobs/sha256/[0-9a-f]{2}$`)

// inventory looks at the store and at what else a build could leave: all but
// the files of layers, logs, what is remembered about blobs and files, and the
// pages of files that the libraries keep for themselves.
func (st *store) inventory() inventory {
	st.t.Helper()
	inv := inventory{}
	find := inNamespace(exec.Command("find", filepath.Dir(st.dir), "-path", "*/overlay/*/diff", "-prune", "-o", "-path", "*/pdibuild/log/*", "-prune", "-o", "-printf", "%P\\n"))
	out, err := find.Output()
	if err != nil {
		st.t.Fatalf("list the store: %v", err)
	}
	for _, name := range strings.Split(string(out), "\n") {
		if name == "image.tar" || blobPlace.MatchString(name) || name == "metadata.json" || strings.Contains(name, "blob-info-cache") || remembered.MatchString(name) {
			continue
		}
		inv[random.ReplaceAllString(name, "*")]++
	}
	counts := inNamespace(exec.Command("cat", filepath.Join(st.dir, "run/overlay-layers/mountpoints.json")))
	if out, err := counts.Output(); err == nil {
		var mounted []struct{ Count int }
		if err := json.Unmarshal(out, &mounted); err != nil {
			st.t.Errorf("mount counts: %v", err)
		}
		inv["mount counts"] = len(mounted)
	}
	return inv
}

// beyond lists what there is more or less of than in want.
func (inv inventory) beyond(want inventory) []string {
	var diff []string
	for name, n := range inv {
		if n != want[name] {
			diff = append(diff, fmt.Sprintf("%s: %d, not %d", name, n, want[name]))
		}
	}
	for name, n := range want {
		if _, ok := inv[name]; !ok {
			diff = append(diff, fmt.Sprintf("%s: 0, not %d", name, n))
		}
	}
	slices.Sort(diff)
	return diff
}

// ownMount is the source of the file systems that the tests mount.
const ownMount = "torture"

// outside lists mounts of this store in any namespace, its processes, and what
// container runtimes remember.
func (st *store) outside() []string {
	var found []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	seen := map[string]bool{}
	for _, p := range processes {
		if command, err := os.ReadFile(p + "/cmdline"); err == nil && strings.Contains(string(command), st.dir) {
			found = append(found, "process: "+strings.ReplaceAll(string(command), "\x00", " "))
		}
		ns, err := os.Readlink(p + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		mounts, _ := os.ReadFile(p + "/mountinfo")
		for _, line := range strings.Split(string(mounts), "\n") {
			if strings.Contains(line, st.dir) && !strings.Contains(line, " tmpfs "+ownMount+" ") && !strings.Contains(line, " fuse."+ownDisk+" ") {
				found = append(found, "mount: "+line)
			}
		}
	}
	for _, dir := range []string{"/run/crun", "/run/runc", os.Getenv("XDG_RUNTIME_DIR") + "/crun", os.Getenv("XDG_RUNTIME_DIR") + "/runc"} {
		states, _ := filepath.Glob(dir + "/pdibuild-*")
		for _, s := range states {
			found = append(found, "container: "+s)
		}
	}
	return found
}

// inNamespace makes cmd run as root of a user namespace that has this user's
// subordinate ids, so that it may read and remove every file of a store.
func inNamespace(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 {
		return cmd
	}
	args := []string{"--map-root-user"}
	if hasRange() {
		args = append(args, "--map-auto")
	}
	return exec.Command("unshare", append(append(args, "--"), cmd.Args...)...)
}

func hasRange() bool {
	data, _ := os.ReadFile("/etc/subuid")
	name := os.Getenv("USER")
	return slices.ContainsFunc(strings.Split(string(data), "\n"), func(l string) bool { return name != "" && strings.HasPrefix(l, name+":") })
}

// right fails the test unless the job's image is that of the reference,
// wherever it went.
func (j job) right(t *testing.T, want result) {
	t.Helper()
	got := j.result(t)
	if got.ImageID != want.ImageID || got.Digest != want.Digest {
		t.Errorf("the image is %s, %s, not %s, %s", got.ImageID, got.Digest, want.ImageID, want.Digest)
	}
	if digest, err := registryImage(j.tag); err != nil || digest != want.Digest {
		t.Errorf("the registry has %s (%v), not %s", digest, err, want.Digest)
	}
	if id, err := archiveImage(j.archive); err != nil || id != want.ImageID {
		t.Errorf("the archive has %s (%v), not %s", id, err, want.ImageID)
	}
}
