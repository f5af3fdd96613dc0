package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pdidev/pdibuild/internal/outfile"
	"github.com/pdidev/pdibuild/pkg/builder"
)

const outputForm = "write --output type=oci-archive,dest=FILE (or oci with dest=DIR, docker-archive with dest=FILE), or oci-archive:FILE"

// parseOutput reads an --output flag and returns the destination in the form
// of containers/image, TRANSPORT:PATH[:NAME]. It understands docker's
// type=…,dest=… and that form itself.
func parseOutput(text string) (string, error) {
	if !strings.HasPrefix(text, "type=") && !strings.Contains(text, ",type=") {
		return text, nil
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
		if archive == "true" || archive == "" && (strings.HasSuffix(dest, ".tar") || dest == "-") {
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

// An outputs collects what a command is going to write, and finds out before
// the work whether it can.
type outputs struct {
	images []imageOutput
	files  []fileOutput
}

// An imageOutput is an image in a file or directory.
type imageOutput struct {
	text string
	*builder.ExportDestination
}

// A fileOutput is a small file that a flag names.
type fileOutput struct {
	flag, name string
	place      outfile.Place
}

// addImage finds TRANSPORT:PATH[:NAME]; flag is for the message.
func (o *outputs) addImage(flag, text string) error {
	d, err := builder.FindExport(text)
	if err != nil {
		return flagError(flag, err)
	}
	for _, other := range o.images {
		if d.Same(other.ExportDestination) {
			return usagef("name another file", "%s: %s is written twice", flag, text)
		}
	}
	o.images = append(o.images, imageOutput{text, d})
	return o.oneStdout(flag)
}

// addFile finds the file that a flag names; without a name there is none.
func (o *outputs) addFile(flag, name string) error {
	if name == "" {
		return nil
	}
	place, err := outfile.Find(name)
	if err != nil {
		return flagError(flag, err)
	}
	for _, other := range o.files {
		if place.Same(other.place) {
			return usagef("name another file", "%s and %s are one file", other.flag, flag)
		}
	}
	o.files = append(o.files, fileOutput{flag, name, place})
	return o.oneStdout(flag)
}

// flagError names the flag that is wrong.
func flagError(flag string, err error) error {
	hint := ""
	var input *builder.InputError
	var place *outfile.Error
	switch {
	case errors.As(err, &input):
		hint = remedy(input, input.Hint)
	case errors.As(err, &place):
		hint = place.Hint
	}
	return usagef(hint, "%s: %w", flag, err)
}

func (o *outputs) oneStdout(flag string) error {
	if o.onStdout() > 1 {
		return usagef("write one of them to a file", "%s: standard output can have only one of them", flag)
	}
	return nil
}

// onStdout counts what goes to standard output.
func (o *outputs) onStdout() (n int) {
	for _, i := range o.images {
		if i.IsStdout() {
			n++
		}
	}
	for _, f := range o.files {
		if f.place.IsStdout() {
			n++
		}
	}
	return n
}

// write writes the file of a flag, if that was given.
func (o *outputs) write(ctx context.Context, flag string, content func() ([]byte, error)) error {
	for _, f := range o.files {
		if f.flag != flag {
			continue
		}
		data, err := content()
		if err == nil {
			err = f.place.Write(ctx, data)
		}
		var host *builder.HostError
		if err = builder.OutputError(flag, f.name, err); err == nil || errors.As(err, &host) {
			return err
		}
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}
