package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pdidev/pdibuild/pkg/inspect"
)

// defaultLimits stands for --ci without a file.
const defaultLimits = "default"

// A limitsError says that an image does not keep limits.
type limitsError struct {
	image string
	count int
}

func (e *limitsError) Error() string {
	return fmt.Sprintf("%s does not keep %d of its limits", e.image, e.count)
}

// limits reads the file that --ci names, or the usual one.
func (v *inspectVerb) limits() (*inspect.Limits, string, error) {
	name := v.ci
	if name == defaultLimits {
		name = inspect.LimitsFileName
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && v.ci == defaultLimits {
		return inspect.DefaultLimits(), "built-in limits", nil
	}
	if err != nil {
		return nil, "", usagef("write --ci=FILE, or --ci alone for "+inspect.LimitsFileName, "--ci: %w", err)
	}
	l, err := inspect.ParseLimits(name, data)
	if err != nil {
		return nil, "", usagef("docs/inspect.md lists the keys", "%w", err)
	}
	return l, name, nil
}

// checkLimits prints the limits that the image does not keep.
func (v *inspectVerb) checkLimits(ctx context.Context, e engine, name string) error {
	limits, from, err := v.limits()
	if err != nil {
		return err
	}
	img, err := v.app.readImage(ctx, e, name, v.platform, inspect.Options{Secrets: limits.Secrets})
	if err != nil {
		return err
	}
	violations := limits.Check(img)
	if v.format == "json" {
		if err := printJSON(v.app.stdout, violations); err != nil {
			return err
		}
	} else {
		for _, x := range violations {
			if _, err := fmt.Fprintln(v.app.stdout, x); err != nil {
				return err
			}
		}
	}
	if len(violations) > 0 {
		return &limitsError{image: img.Name, count: len(violations)}
	}
	v.app.note("%s keeps its limits (%s)", img.Name, from)
	return nil
}
