package main

import (
	"fmt"
	"strings"
)

// The exit codes. docs/exit-codes.md explains them.
const (
	codeOK          = 0
	codeOther       = 1
	codeUsage       = 2
	codeRecipe      = 3
	codeStep        = 4
	codeHost        = 5
	codeLeak        = 6
	codeRegistry    = 7
	codeLimits      = 8
	codeInterrupted = 130
)

// An exitCode is one code and what it means to a script.
type exitCode struct {
	code    int
	meaning string
}

// exitCodes lists all of them, for --help and the documentation.
func exitCodes() []exitCode {
	return []exitCode{
		{codeOK, "success"},
		{codeOther, "another error"},
		{codeUsage, "the command line or the configuration file is wrong"},
		{codeRecipe, "the recipe is invalid or does not fit its context"},
		{codeStep, "a step of the build failed"},
		{codeHost, "this host cannot do it"},
		{codeLeak, "a secret would have become part of the image, or was written to a cache mount"},
		{codeRegistry, "a registry refused or could not be reached"},
		{codeLimits, "an image does not keep the limits of inspect --ci"},
		{codeInterrupted, "interrupted by SIGINT, SIGTERM or SIGHUP"},
	}
}

// exitCodesHelp is the part of the help that lists the codes.
func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "  %3d  %s\n", c.code, c.meaning)
	}
	return b.String()
}
