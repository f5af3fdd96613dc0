package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const outputForm = "write --output type=oci-archive,dest=FILE (or oci with dest=DIR, docker-archive with dest=FILE), or oci-archive:FILE"

// parseOutput reads an --output flag and returns the destination in the form
// of containers/image, TRANSPORT:PATH[:NAME]. It understands docker's
// type=…,dest=… and that form itself.
func parseOutput(text string) (string, error) {
	if !strings.HasPrefix(text, "type=") && !strings.Contains(text, ",type=") {
		return text, checkDestination("--output", text)
	}
	attr := map[string]string{}
	for _, part := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return "", usagef(outputForm, "--output: %q in %q is not KEY=VALUE", part, text)
		}
		switch key {
		case "type", "dest", "name", "tar":
			attr[key] = value
		default:
			return "", usagef(outputForm, "--output: unknown key %q in %q", key, text)
		}
	}
	transport, err := outputTransport(attr)
	if err != nil {
		return "", err
	}
	if strings.Contains(attr["dest"], ":") {
		return "", usagef("choose another path", "--output: the path %q has a colon, which separates path and name", attr["dest"])
	}
	destination := transport + ":" + attr["dest"]
	if attr["name"] != "" {
		destination += ":" + attr["name"]
	}
	return destination, nil
}

// outputTransport translates docker's type. Type oci is a directory, as with
// podman, unless tar=true or the file's name says that it is an archive, as
// with docker.
func outputTransport(attr map[string]string) (string, error) {
	dest, archive := attr["dest"], attr["tar"]
	if dest == "" {
		return "", usagef(outputForm, "--output: type=%s has no dest", attr["type"])
	}
	switch attr["type"] {
	case "oci-archive", "docker-archive":
		return attr["type"], nil
	case "docker":
		return "docker-archive", nil
	case "oci":
		if archive == "true" || archive == "" && strings.HasSuffix(dest, ".tar") {
			return "oci-archive", nil
		}
		return "oci", nil
	}
	hint := outputForm
	if attr["type"] == "registry" || attr["type"] == "image" {
		hint = "use --push to send the image to a registry"
	}
	return "", usagef(hint, "--output: unknown type %q", attr["type"])
}

// checkDestination checks TRANSPORT:PATH[:NAME]. Flag is for the message.
func checkDestination(flag, text string) error {
	transport, path, ok := strings.Cut(text, ":")
	if !ok {
		return usagef(fmt.Sprintf("write oci-archive:%s or docker-archive:%s for a file, oci:%s for a directory", text, text, text),
			"%s: %q does not say in which format to write", flag, text)
	}
	known := []string{"oci-archive", "oci", "docker-archive", "dir"}
	for _, k := range known {
		if k != transport {
			continue
		}
		if path == "" {
			return usagef(fmt.Sprintf("write %s:PATH", transport), "%s: %q names no path", flag, text)
		}
		return nil
	}
	hint := "formats are " + strings.Join(known, ", ")
	if near := nearest(transport, known); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	if transport == "docker" {
		hint = "'pdibuild push' sends an image to a registry"
	}
	return usagef(hint, "%s: unknown format %q", flag, transport)
}

// checkPlace finds out, before there is an image, whether it can be written to
// where it is to go.
func checkPlace(flag, destination string) error {
	transport, rest, _ := strings.Cut(destination, ":")
	path, _, _ := strings.Cut(rest, ":")
	if !strings.HasSuffix(transport, "-archive") {
		return checkDirectory(flag, nearestThere(path))
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return usagef(fmt.Sprintf("name a file in it, such as %s:%s", transport, filepath.Join(path, "image.tar")), "%s: %s is a directory, and %s writes a file", flag, path, transport)
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		return usagef(fmt.Sprintf("make it with 'mkdir -p %s', or correct the path", dir), "%s: the directory for %s: %w", flag, filepath.Base(path), err)
	}
	return checkDirectory(flag, dir)
}

// nearestThere is path, or the directory above it that exists.
func nearestThere(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// checkDirectory wants a directory that can be written to. It leaves it as it is:
// it may be the context of a build.
func checkDirectory(flag, dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return usagef("correct the path", "%s: %s is not a directory", flag, dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return usagef("choose a directory that you may write to", "%s: nothing can be written to %s: %w", flag, dir, err)
	}
	return nil
}
