package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pdidev/pdibuild/internal/shellquote"
)

// resume is the command that goes on where this one has stopped, in a form that
// can be pasted: the same one, but for --no-cache, which would begin again, and
// a password, which has no place on the screen and is asked for.
func resume(cmd *cobra.Command, args []string) string {
	words := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == "no-cache" {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			if f.Name == "creds" {
				value, _, _ = strings.Cut(value, ":")
			}
			words = append(words, flagWords(f, value)...)
		}
	})
	for _, arg := range args {
		words = append(words, shellquote.Word(arg))
	}
	return strings.Join(words, " ")
}

// flagWords give a flag a value. One that may stand alone takes it only behind
// an equals sign.
func flagWords(f *pflag.Flag, value string) []string {
	switch f.NoOptDefVal {
	case "":
		return []string{"--" + f.Name, shellquote.Word(value)}
	case value:
		return []string{"--" + f.Name}
	default:
		return []string{"--" + f.Name + "=" + shellquote.Word(value)}
	}
}
