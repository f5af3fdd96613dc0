package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseOutput(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"type=oci-archive,dest=a.tar", "oci-archive:a.tar"},
		{"type=oci,dest=dir", "oci:dir"},
		{"type=oci,dest=a.tar", "oci-archive:a.tar"},
		{"type=oci,dest=a,tar=true", "oci-archive:a"},
		{"type=docker,dest=a.tar", "docker-archive:a.tar"},
		{"type=docker-archive,dest=a.tar,name=x:1", "docker-archive:a.tar:x:1"},
		{"dest=a.tar,type=oci-archive", "oci-archive:a.tar"},
		{"oci-archive:a.tar", "oci-archive:a.tar"},
		{"oci:dir:name", "oci:dir:name"},
	} {
		got, err := parseOutput(test.text)
		if err != nil {
			t.Errorf("parseOutput(%q): %v", test.text, err)
		} else if got != test.want {
			t.Errorf("parseOutput(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func TestParseOutputRefuses(t *testing.T) {
	for _, test := range []struct{ text, message, hint string }{
		{"a.tar", `"a.tar" does not say in which format`, "oci-archive:a.tar"},
		{"type=oci-archive", "no dest", "dest=FILE"},
		{"type=oci-archive,dest=", "is not KEY=VALUE", "dest=FILE"},
		{"type=tarball,dest=a", `unknown type "tarball"`, "oci-archive"},
		{"type=registry,dest=a", `unknown type "registry"`, "--push"},
		{"type=oci,dest=a,compresion=zstd", `unknown key "compresion"`, "type=oci-archive"},
		{"type=oci,dest=a:b", "has a colon", "another path"},
		{"oci-archiv:a", `unknown format "oci-archiv"`, "did you mean oci-archive?"},
		{"docker://a/b", `unknown format "docker"`, "pdibuild push"},
		{"oci:", "names no path", "oci:PATH"},
	} {
		_, err := parseOutput(test.text)
		wantUsage(t, err, test.message, test.hint)
	}
}

// An image that cannot be written where it is to go is told before anything is
// built.
func TestCheckPlace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"oci-archive:" + file, "docker-archive:" + dir + "/new.tar:name:tag", "oci-archive:here.tar", "oci:" + dir, "oci:" + dir + "/no/such"} {
		if err := checkPlace("--output", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	wantUsage(t, checkPlace("--output", "oci-archive:"+dir), dir+" is a directory", "oci-archive:"+dir+"/image.tar")
	wantUsage(t, checkPlace("--output", "oci-archive:"+dir+"/no/such/a.tar"), "the directory for a.tar", "mkdir -p "+dir+"/no/such")
	wantUsage(t, checkPlace("export", "docker-archive:"+file+"/a.tar:x"), "export: "+file+" is not a directory", "correct")
	wantUsage(t, checkPlace("--output", "oci:"+file+":x"), file+" is not a directory", "correct")
	for _, place := range []string{"dir:" + file + "/x/y", "oci:" + file + "/x"} {
		wantUsage(t, checkPlace("--output", place), file+" is not a directory", "correct")
	}
	for _, place := range []string{"oci-archive:/proc/self/x.tar", "oci:/proc/self/x"} { // where root may not write, either
		wantUsage(t, checkPlace("--output", place), "nothing can be written to /proc/self: ", "choose")
	}
}

// wantUsage wants a usage error with these parts of message and hint.
func wantUsage(t *testing.T, err error, message, hint string) {
	t.Helper()
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Errorf("error is %v, not a usage error with %q", err, message)
		return
	}
	if !strings.Contains(usage.Error(), message) {
		t.Errorf("message %q lacks %q", usage, message)
	}
	if !strings.Contains(usage.hint, hint) {
		t.Errorf("hint %q (of %q) lacks %q", usage.hint, usage, hint)
	}
}
