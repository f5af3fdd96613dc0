package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pdidev/pdibuild/internal/quantity"
	"github.com/pdidev/pdibuild/pkg/builder"
	"github.com/pdidev/pdibuild/pkg/doctor"
)

const doctorLong = `Look at this host as a build would: kernel, user namespaces, ids, image store,
how steps are run, limits, settings. For whatever is not right it says what that
means for a build here, and what to do with and without an administrator.

Registries are asked only when --registry names them. Credentials are counted,
never shown. The exit code is 5 when no usual build can succeed here. docs/doctor.md
lists the checks.`

const doctorExample = `  pdibuild doctor
  pdibuild doctor --storage-root /scratch/$USER/pdibuild --registry ghcr.io
  pdibuild doctor --format json | jq '.[] | select(.status != "ok")'`

func newDoctor(a *app) *cobra.Command {
	var (
		store      storeFlags
		format     string
		registries []string
	)
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Find out what this host lacks for a build",
		Long:    doctorLong,
		Example: doctorExample,
		Args:    arguments(0, 0, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("format", format, "text", "json"); err != nil {
			return err
		}
		opt := doctor.Options{Registries: registries, Home: a.env("HOME"), TemporaryDirectory: a.env("TMPDIR")}
		opt.Namespace = a.enter()
		var err error
		if opt.Store, err = store.options(a); err != nil {
			return err
		}
		if i := slices.IndexFunc(registries, func(r string) bool { return builder.RegistryHost(r) == "" }); i >= 0 {
			return usagef("give a name such as --registry ghcr.io", "--registry: %q names no registry", registries[i])
		}
		ctx, stop := interruptible(cmd.Context(), func() {})
		defer stop()
		return a.printFindings(a.examine(ctx, opt), format)
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "text", "`form` of the output: text or json")
	f.StringArrayVar(&registries, "registry", nil, "`name` of a registry to be asked whether it can be reached (repeatable)")
	complete(cmd, "format", "text", "json")
	store.addStore(cmd)
	store.addRegistries(cmd)
	hide(cmd, "creds")
	return cmd
}

func (a *app) printFindings(findings []doctor.Finding, format string) error {
	worst := doctor.Worst(findings)
	if format == "json" {
		if err := printJSON(a.stdout, findings); err != nil {
			return err
		}
	} else if err := printFindings(a.stdout, findings); err != nil {
		return err
	}
	if worst == doctor.Error {
		return exitStatus(codeHost)
	}
	return nil
}

// printFindings prints a line for each check, and what to do below it.
func printFindings(w io.Writer, findings []doctor.Finding) error {
	var b strings.Builder
	of := map[doctor.Status]int{}
	for _, f := range findings {
		of[f.Status]++
		fmt.Fprintf(&b, "%-8s %-20s %s\n", f.Status, f.Check, f.Found)
		for _, line := range [][2]string{{"it means", f.Means}, {"you", f.User}, {"administrator", f.Admin}} {
			if line[1] != "" {
				fmt.Fprintf(&b, "%9s%s: %s\n", "", line[0], line[1])
			}
		}
	}
	verdict := "Builds work here."
	switch doctor.Worst(findings) {
	case doctor.Error:
		verdict = "No usual build can succeed here before the errors above are mended."
	case doctor.Warning:
		verdict = "Builds work here, with the limits above."
	}
	fmt.Fprintf(&b, "\n%s (%s, %s, %s)\n", verdict, quantity.Count(of[doctor.Error], "error"), quantity.Count(of[doctor.Warning], "warning"), quantity.Count(of[doctor.Note], "note"))
	_, err := io.WriteString(w, b.String())
	return err
}
