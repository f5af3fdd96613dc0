//go:build integration

package integration

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// A wildcard in a copy from a stage follows links of the stage, and none to the
// host.
func TestCopyFromStageSeesNothingOfTheHost(t *testing.T) {
	t.Parallel()
	dots := strings.Repeat("../", 20)
	p := newSmall(t, `  - name: src
    from: small
    steps:
      - run: |
          mkdir -p /data /opt/app-1.2 && echo image >/etc/hostname && echo tool >/opt/app-1.2/tool # NONCE
          ln -s /etc /data/lnk; ln -s /etc /lnk; ln -s `+dots+`etc /opt/dots; ln -s /opt/app-1.2 /opt/current
          ln -s HOST /data/host; ln -s `+dots+`HOST /opt/host
  - name: final
    from: scratch
    steps:
      - {copy: "/data/l*/hostname", from: src, to: /absolute}
      - {copy: "/lnk/hostn*", from: src, to: /behind}
      - {copy: "/opt/do*/hostname", from: src, to: /relative}
      - {copy: "/opt/cur*/tool", from: src, to: /current}
`)
	p.write("secret", "of the host\n")
	p.recipe(strings.ReplaceAll(p.read("pdibuild.yaml"), "HOST", p.dir))
	img := p.exportEverywhere("copy-host")
	for name, want := range map[string]string{"/absolute": "image\n", "/behind": "image\n", "/relative": "image\n", "/current": "tool\n"} {
		if got := img.file(name).content; got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	for _, source := range []string{"/data/h*/secret", "/data/*/secret", "/opt/host/sec*", "/opt/h*/*", "/data/host/secret"} {
		p.recipe(p.read("pdibuild.yaml") + "      - {copy: \"" + source + "\", from: src, to: /out/}\n")
		p.build().fails(3, "the stage")
		text := p.read("pdibuild.yaml")
		p.recipe(text[:strings.LastIndex(text, "      - {copy")])
	}
}

// What replaces a link to a directory hides nothing of what the link led to, on
// the host or in the image, and none of it is lost.
func TestReplacedLinkHidesNothing(t *testing.T) {
	t.Parallel()
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - run: |
          ln -s /home /data; ln -s `+strings.Repeat("../", 20)+`home /rel; ln -s /usr /host # NONCE
          mkdir -p /opt/app-1/logs /opt/app-1/bin /a/b/c; echo x >/opt/app-1/bin/x; ln -s app-1 /opt/current; ln -s a /dl
          echo old >/a/b/c/old; echo o2 >/a/b/o2
      - run: |
          rm /data /rel /host /opt/current /dl; mkdir /data /rel /host /dl; echo in >/data/in; mkdir -p /host/lib /opt/current/logs /dl/b/c
      - run: rm -r /a/b; mkdir -p /a/b/c; echo new >/a/b/c/new; cp -a /opt/app-1 /opt/app-2; mv /opt/current /opt/old; ln -s old /opt/current
`)
	img := p.exportEverywhere("replaced-link")
	layers := img.layers[len(img.layers)-3:]
	want := []string{"/data", "/data/in", "/dl", "/dl/b", "/dl/b/c", "/host", "/host/lib", "/opt", "/opt/current", "/opt/current/logs", "/rel"}
	if got := slices.Sorted(maps.Keys(layers[1])); !slices.Equal(got, want) {
		t.Errorf("the layer has %q,\nwant %q", got, want)
	}
	img.file("/a/b/c/new")
	img.file("/opt/old/logs")
	if _, ok := img.files()["/a/b/o2"]; ok {
		t.Error("/a/b/o2 is back")
	}
}

// A path of a spack.yaml that leads up and up ends at the root of the image, not
// at the host's.
func TestSpackFilesStayInTheImage(t *testing.T) {
	t.Parallel()
	victim := t.TempDir()
	deep := strings.Repeat("d/", 30)
	p := newSmall(t, `  - name: final
    from: small
    steps:
      - spack: {environment: `+deep+`spack.yaml}
`)
	p.write(deep+"spack.yaml", "spack: {specs: [zlib], repos: ["+strings.Repeat("../", 30)+victim[1:]+"]}\n")
	p.write(victim[1:]+"/repo.yaml", "repo: {namespace: x}\n")
	p.build().fails(3, "the image has no Spack")
	if found, err := os.ReadDir(victim); err != nil || len(found) > 0 {
		t.Errorf("the host has %v, %v", found, err)
	}
	p.write(deep+"spack.yaml", "spack: {specs: [zlib], repos: ["+strings.Repeat("../", 31)+victim[1:]+"]}\n")
	p.build().fails(3, "is outside of the build context")
}
