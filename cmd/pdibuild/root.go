package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `pdibuild builds container images for HPC from a recipe (pdibuild.yaml), without
a daemon and without root. Images go to the containers/storage of this user, where
podman and buildah find them if they use the same driver (docs/rootless.md).

Standard output carries only the result, such as an image's id; progress and
messages go to standard error.`

const rootExample = `  pdibuild init                      # write a first recipe
  pdibuild build --tag demo          # build what ./pdibuild.yaml says
  pdibuild run demo                  # run it`

// newRoot returns the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "pdibuild",
		Short:             "Build container images for HPC from a recipe, without root",
		Long:              rootLong + "\n\n" + strings.TrimRight(exitCodesHelp(), "\n"),
		Example:           rootExample,
		SilenceErrors:     true, // report prints them
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.SetFlagErrorFunc(explainFlagError)
	root.DisableSuggestions = true // explainUnknownVerb makes them
	root.SuggestionsMinimumDistance = 2
	root.AddCommand(
		newBuild(a), newPlan(a), newRun(a), newShell(a), newPush(a), newExport(a),
		newInit(a), newValidate(a), newSchema(a), newContainerfile(a),
		newImages(a), newRm(a), newInspect(a), newSBOM(a), newCache(a), newDoctor(a), newVersion(a),
	)
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(a.stderr)
		if err := cmd.Help(); err != nil {
			return err
		}
		return &usageError{err: errors.New("no verb given"), hint: "'pdibuild init' writes a first recipe, 'pdibuild build' builds it"}
	}
	return root
}

// A usageError says that the command line is wrong.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError with a hint.
func usagef(hint, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), hint: hint}
}

// arguments checks the number of arguments; names are for the message.
func arguments(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(seeHelp(cmd), "%s needs %s", cmd.CommandPath(), names)
		case most == 0 && len(args) > 0:
			return usagef(seeHelp(cmd), "%s takes no argument, but was given %q", cmd.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return usagef(seeHelp(cmd), "%s takes %s, but was also given %q", cmd.CommandPath(), names, args[most])
		}
		return nil
	}
}

func seeHelp(cmd *cobra.Command) string {
	return fmt.Sprintf("see '%s --help'", cmd.CommandPath())
}

// foreignFlags answers those who know podman and docker.
func foreignFlags() map[string]string {
	return map[string]string{
		"load":          "an image that was built is in the store that podman reads already",
		"layers":        "the result of every step is always kept; --no-cache does not use it",
		"network":       "say 'network: none' in the run step",
		"build-context": "name the other image in a stage's 'from:', and copy from that stage",
		"label":         "say 'labels:' in the recipe's stage",
		"no-cache-dir":  "did you mean --no-cache?",
	}
}

// explainFlagError makes a flag error short, with a suggestion.
func explainFlagError(cmd *cobra.Command, err error) error {
	hint := seeHelp(cmd)
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return usagef(hint, "--%s: %q is not %s", invalid.GetFlag().Name, invalid.GetValue(), typeName(invalid.GetFlag()))
	}
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || missing.GetSpecifiedShortnames() != "" {
		return &usageError{err: err, hint: hint}
	}
	name := missing.GetSpecifiedName()
	if answer, ok := foreignFlags()[name]; ok {
		return &usageError{err: err, hint: answer}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
	}
	return &usageError{err: err, hint: hint}
}

// typeName is what a flag takes.
func typeName(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	}
	return "a valid value"
}

// explainUnknownVerb replaces cobra's error about a verb that does not exist.
func explainUnknownVerb(root *cobra.Command, args []string, err error) error {
	_, rest, findErr := root.Find(args)
	if findErr == nil || len(rest) == 0 {
		return err
	}
	verb := rest[0]
	for _, arg := range rest {
		if !strings.HasPrefix(arg, "-") {
			verb = arg
			break
		}
	}
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := seeHelp(root)
	if near := nearest(verb, names); near != "" {
		hint = fmt.Sprintf("did you mean 'pdibuild %s'? %s", near, hint)
	}
	return usagef(hint, "unknown verb %q", verb)
}
