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
		{"type=docker,dest=-", "docker-archive:-"},
		{"type=oci,dest=-", "oci-archive:-"},
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
		text, err := parseOutput(test.text)
		if err == nil {
			err = new(outputs).addImage("--output", text)
		}
		wantUsage(t, err, test.message, test.hint)
	}
}

// What cannot be written where it is to go is told before anything is built.
func TestOutputsAreFoundFirst(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{
		"oci-archive:" + file, "docker-archive:" + dir + "/new.tar:name:tag", "oci-archive:here.tar", "oci:" + dir, "oci:" + dir + "/no/such",
		"oci-archive:" + dir + "/dangling", "docker-archive:/dev/null", "dir:" + dir + "/new",
	} {
		if err := new(outputs).addImage("--output", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []struct{ destination, message, hint string }{
		{"oci-archive:" + dir, dir + " is a directory", "oci-archive:" + dir + "/image.tar"},
		{"oci-archive:" + dir + "/no/such/a.tar", "the directory for a.tar", "mkdir -p " + dir + "/no/such"},
		{"docker-archive:" + file + "/a.tar:x", "--output: lstat " + file + "/a.tar: not a directory", "correct"},
		{"oci:" + file + ":x", file + " is not a directory", "correct"},
		{"dir:" + file + "/x/y", file + " is not a directory", "correct"},
		{"oci:" + file + "/x", file + " is not a directory", "correct"},
		{"oci-archive:/proc/self/x.tar", "nothing can be written to /proc/self: ", "choose"}, // where root may not write, either
		{"oci:/proc/self/x", "nothing can be written to /proc/self: ", "choose"},
		{"docker-archive:/dev/full", "/dev/full is a device", "pipe"},
		{"oci:-", "cannot be written to standard output", "oci-archive:-"},
		{"-", "does not say in which format", "docker-archive:-"},
		{"oci:" + dir + "/dangling", "leads nowhere", "correct"},
		{"dir:" + dir, "belong to no image", "new directory"},
	} {
		wantUsage(t, new(outputs).addImage("--output", bad.destination), bad.message, bad.hint)
	}
	wantUsage(t, new(outputs).addFile("--iidfile", dir+"/no/id"), "--iidfile: the directory for id", "mkdir -p "+dir+"/no")
}

// Two outputs of one command are two files.
func TestOutputsAreApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	var o outputs
	if err := errors.Join(o.addImage("--output", "oci-archive:"+file), o.addImage("--output", "oci:layout:a"), o.addImage("--output", "oci:layout:b"), o.addFile("--iidfile", file+".iid")); err != nil {
		t.Fatal(err)
	}
	wantUsage(t, o.addImage("--output", "docker-archive:"+file), "written twice", "another")
	wantUsage(t, o.addFile("--metadata-file", file+".iid"), "--iidfile and --metadata-file are one file", "another")
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
