package main

import (
	"errors"
	"strings"

	"github.com/pdidev/pdibuild/pkg/builder"
	fail "github.com/pdidev/pdibuild/pkg/failure"
)

// remedies are the ways out in terms of this command line, by the code of the
// error. {hint} is the library's own, {NAME} an entry of the error's data.
var remedies = map[fail.Code]string{
	fail.ImageNotFound:  "'pdibuild images' lists the images of this store; {hint}",
	fail.PullForbidden:  "allow it to be fetched with --pull=missing",
	fail.DamagedImage:   "{hint}; 'pdibuild inspect {image}' looks into it",
	fail.WrongPlatform:  "build for the image's platform with --platform, or start from an image for this one",
	fail.OtherPlatform:  "take an image for {want}; to build for the image's platform, say --platform {has}, or 'platform: {has}' in the stage",
	fail.LayerAddresses: "if you trust the image and that server, allow it with --allow-layer-urls",
	fail.NoProvenance:   "build it here: provenance is noted by 'pdibuild build'",
	fail.NoExportFormat: "'pdibuild push' sends an image to a registry",

	fail.NoDestination:      "give a DESTINATION, such as registry.example.org/group/name:tag",
	fail.LoginNeeded:        "log in with 'podman login {host}' or give --creds USER:PASSWORD or --authfile FILE",
	fail.PendingLogin:       "log in with 'podman login', give --creds, or set the variables that the environment names; the packages stay in the local binary cache",
	fail.PlainTokenServer:   "the registry's token server needs https; --tls-verify=false sends the login without TLS",
	fail.PlainRegistry:      "this registry speaks plain HTTP: add --tls-verify=false",
	fail.UnknownCertificate: "give the registry's certificate with --cert-dir DIR, or add --tls-verify=false",

	fail.NoCommand:     "write it after the image: pdibuild run IMAGE -- COMMAND; 'pdibuild shell IMAGE' looks inside",
	fail.NoShell:       "run one of its programs: pdibuild run --entrypoint PROGRAM IMAGE",
	fail.NoWorkdir:     "name one of the image's with -w, or mount one there with -v DIR:{dir}",
	fail.StageNotBuilt: "build it with 'pdibuild build --target {stage}'",
	fail.NoFailedStep:  "'pdibuild shell --stage NAME' looks into a stage, 'pdibuild shell IMAGE' into an image",
	fail.NotKept:       "'pdibuild shell --stage NAME' looks into a stage as far as it was built",

	fail.NoRecipe:           "'pdibuild init' writes one to start with, --file names another",
	fail.SecretMissing:      "give it with --secret id={id},env=VARIABLE or --secret id={id},src=FILE",
	fail.MemoryUsedUp:       "{hint}, with --jobs 1",
	fail.BuildDirectory:     "{hint}. 'pdibuild shell --failed' stands in its build directory; '. ./spack-build-env.txt' there sets its environment",
	fail.LockNotKept:        "build once with --no-cache",
	fail.LockNotWritable:    "build without --write-lock, or in a copy of the directory",
	fail.LockInvalid:        "remove it and build with --write-lock, which makes it again",
	fail.EnvironmentInvalid: "correct the environment; 'pdibuild validate' reads it again",
}

// additions are what the messages of a build get for this command line, by their
// code.
var additions = map[fail.Code]string{
	fail.CacheOverLimit: " ('pdibuild cache ls' says which)",
	fail.VolumeOwner:    "; --user root avoids it",
	fail.PushPending:    ", and 'pdibuild push --buildcache' sends them later",
	fail.NoIndex:        "; 'pdibuild cache buildcache index' makes one",
}

// remedy is the way out of err; hint is the library's.
func remedy(err error, hint string) string {
	code, data := fail.CodeOf(err)
	text := worded(code, data, hint)
	var registry *builder.RegistryError
	if errors.As(err, &registry) && registry.NotInStore {
		text = "the store has no image of that name ('pdibuild images' lists them), so it was asked for there; " + text
	}
	return text
}

func worded(code fail.Code, data fail.Data, hint string) string {
	text, ok := remedies[code]
	if !ok {
		return hint
	}
	if hint == "" {
		text = strings.TrimSuffix(text, "; {hint}")
	}
	pairs := []string{"{hint}", hint}
	for name, value := range data {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// wordedEvent adds to a message what it means on this command line.
func wordedEvent(e builder.Event) builder.Event {
	e.Text += additions[fail.Code(e.Code)]
	return e
}
