package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/pkg/builder"
)

// stepCacheFlags say where finished steps are looked for and kept beside the
// store.
type stepCacheFlags struct {
	from, to []string
	// What check makes of them.
	sources, destinations []builder.StepCache
}

func (f *stepCacheFlags) add(cmd *cobra.Command) {
	f.addFrom(cmd, "cache-from")
	f.addTo(cmd, "cache-to")
}

func (f *stepCacheFlags) addFrom(cmd *cobra.Command, name string) {
	cmd.Flags().StringArrayVar(&f.from, name, nil, "look for finished steps there, too: `REPOSITORY`, type=registry,ref=REPOSITORY or type=local,src=DIR (repeatable)")
}

func (f *stepCacheFlags) addTo(cmd *cobra.Command, name string) {
	cmd.Flags().StringArrayVar(&f.to, name, nil, "keep finished steps there, too: `REPOSITORY`, type=registry,ref=REPOSITORY[,mode=max] or type=local,dest=DIR[,mode=max] (repeatable)")
}

func (f *stepCacheFlags) check() error {
	f.sources, f.destinations = nil, nil
	for _, text := range f.from {
		c, err := parseStepCache("cache-from", text)
		if err != nil {
			return err
		}
		f.sources = append(f.sources, c)
	}
	for _, text := range f.to {
		c, err := parseStepCache("cache-to", text)
		if err != nil {
			return err
		}
		if c.Dir != "" {
			if _, err := builder.FindExport("oci:" + c.Dir); err != nil {
				return flagError("--cache-to "+text, err)
			}
		}
		f.destinations = append(f.destinations, c)
	}
	return nil
}

const stepCacheHint = "write a repository, such as registry.example.org/group/cache, or as docker does: type=registry,ref=REPOSITORY or type=local,src=DIR (--cache-to: dest=DIR), mode=min or max"

// parseStepCache reads both Buildah's form, a repository, of which all steps are
// taken, and docker's.
func parseStepCache(flag, text string) (builder.StepCache, error) {
	bad := func(format string, args ...any) (builder.StepCache, error) {
		return builder.StepCache{}, usagef(stepCacheHint, "--"+flag+" "+text+": "+format, args...)
	}
	if text == "" {
		return bad("it names nothing")
	}
	if !strings.Contains(text, "=") {
		return builder.StepCache{Repository: strings.TrimPrefix(text, "docker://"), All: true}, nil
	}
	fields := map[string]string{}
	for _, field := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		if _, twice := fields[key]; !ok || value == "" || twice {
			return bad("%q is not KEY=VALUE, or is there twice", field)
		}
		fields[key] = value
	}
	kind, dir := fields["type"], "src"
	if flag == "cache-to" {
		dir = "dest"
	}
	known := map[string][]string{"registry": {"type", "ref", "mode"}, "local": {"type", dir, "mode"}}[kind]
	if known == nil {
		return bad("type %q is none of registry, local", kind)
	}
	for key := range fields {
		if !slices.Contains(known, key) {
			return bad("%s is not known with type=%s", key, kind)
		}
	}
	c := builder.StepCache{Repository: fields["ref"], Dir: fields[dir], All: fields["mode"] == "max"}
	switch mode := fields["mode"]; {
	case mode != "" && mode != "min" && mode != "max":
		return bad("mode is min or max")
	case kind == "registry" && c.Repository == "":
		return bad("ref=REPOSITORY is missing")
	case kind == "local" && c.Dir == "":
		return bad("%s=DIR is missing", dir)
	}
	return c, nil
}
