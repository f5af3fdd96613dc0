package main

// rules is what holds for more than one key.
const rules = "\n## What copy does\n\n" +
	"Sources mean the same in the context and in a stage, and what they mean to podman and docker.\n\n" +
	"| Source | What is copied |\n|---|---|\n" +
	"| a file | the file, under its name |\n" +
	"| a directory, with or without a slash at the end | what is in it |\n" +
	"| a wildcard: `*`, `?`, `[a-z]`, or `\\` before such a character | what matches, each as if it were named; no part of a pattern matches a slash, `**` is `*`, and `*` matches names that begin with a dot. No match is an error |\n" +
	"| a link to a file, named or matched | the file, under the name of the link |\n" +
	"| a link to a directory, named or matched | what is in the directory |\n" +
	"| a link that leads nowhere or in circles, named or matched | an error |\n" +
	"| a link below a copied directory | the link |\n" +
	"| a socket | left out below a directory, else an error |\n\n" +
	"Links, absolute ones too, lead to files of the context or of the stage, as if it were the root of a\n" +
	"file system, and never out of it.\n\n" +
	"| Destination | What happens |\n|---|---|\n" +
	"| a link, or a directory of the sources where the image has a link | the link is followed in the image: `copy: tree, to: /` with `tree/bin/app` makes `/usr/bin/app` where `/bin` is a link to `usr/bin` |\n" +
	"| a file or link of a copied directory where the image has a file or link | it is replaced |\n" +
	"| a file or link where the image has a directory, a directory where it has a file | an error |\n" +
	"| a directory that exists | as destination, it keeps its owner and permissions; directories below it get those of the source |\n" +
	"| a directory that does not exist | as destination, it gets the permissions of the directory that is copied; others are made with 0755. All belong to `owner` |\n\n" +
	"Patterns of `.containerignore` (or `.dockerignore`) are about paths in the context, whatever way leads\n" +
	"to a file. Patterns of `exclude` are about paths in the context or the stage, about the path below\n" +
	"each directory that a source stands for, and about the path of what a wildcard matches from the\n" +
	"directory on that has the wildcard: with `copy: \"src/*\"`, `\"*.pyc\"` leaves out `src/a.pyc` and, of the\n" +
	"directory `src/lib`, `lib/b.pyc`. `**/` stands for any number of directories, and a later `!pattern`\n" +
	"brings back what an earlier pattern left out. A source of which nothing is left is an error.\n\n" +
	"Copied are contents, permissions (all bits, setuid too), links, pipes and device nodes, extended\n" +
	"attributes in `user.*` and file capabilities. A file with several names, hard links, stays one file,\n" +
	"also where they are found by different sources. Owners and times of the context are not copied,\n" +
	"nor attributes with which desktops and downloads note things for themselves (`user.xdg.*`,\n" +
	"`user.mime*`, `user.baloo.*`, `user.com.apple.*`, `user.com.dropbox.*`, `user.DOSATTRIB`,\n" +
	"`user.Zone.Identifier`).\n" +
	"\n## Arguments\n\n" +
	"`${NAME}` is replaced by the argument NAME, whose default is under `args:` and whose value\n" +
	"`--build-arg NAME=VALUE` gives; `${NAME:-default}` is `default` where the argument is empty or\n" +
	"not declared, and `$$` is a dollar sign. This happens in `name`, `from`, `platform`, `bootstrap`,\n" +
	"`compiler`, `env`, `labels`, `annotations`, `expose`, `volumes`, in paths, web addresses,\n" +
	"checksums, owners and users of steps, and in the paths of `spack`. It does not happen in\n" +
	"commands, which see the arguments as environment variables, nor in `content`, `entrypoint` and\n" +
	"`cmd`, in the stage that a copy, mount or `environment` step names, or in what replaces a reference.\n\n" +
	"In `env`, a name that is no argument is a variable that was set before, by the base image or an\n" +
	"earlier step, as in `PATH: /opt/app/bin:${PATH}`. Everywhere else it is an error.\n" +
	"\n## Secrets in steps\n\n" +
	"A command has a secret only when its step names it under `secrets:`: as the file\n" +
	"`/run/secrets/ID`, or at `target`, and as the variable `env` if that is given. A recipe is refused\n" +
	"when it refers to a secret by `${…}`, by its id or by its host variable, where the value would be\n" +
	"stored (from, env, labels, annotations, paths, entrypoint, cmd); when these or the content of a file\n" +
	"have the path of a secret; when a command reads a secret that its step does not name; and when an\n" +
	"argument has the name of a secret.\n\n" +
	"A build looks for the values of its secrets, unless they are `public`. Everything that becomes part\n" +
	"of the image is searched: contents, names, link targets and attributes of files, the configuration,\n" +
	"the history and the manifest. A value that is found ends the build with [exit code](exit-codes.md) 6.\n" +
	"In what is printed and logged, errors and `--progress json` included, three stars take its place.\n" +
	"Line breaks at the end of a value do not count.\n\n" +
	"Other steps see what a step leaves in a cache mount, also steps that do not name the secret. So when a\n" +
	"step with secrets ends, however it ends, contents, names and link targets of the files that changed in\n" +
	"its cache mounts meanwhile are searched, too. A file in which a value is found is removed there, and the\n" +
	"build ends with exit code 6. A build that is killed does not get to that.\n\n" +
	"| a value of a secret | ends the build when the image would get it | is masked in output |\n" +
	"|---|---|---|\n" +
	"| as it is, also with other line breaks or indented | yes | yes |\n" +
	"| in a JSON string | yes | yes |\n" +
	"| percent-encoded as in a URL | yes | yes |\n" +
	"| in base64, of either alphabet, also of a longer text and broken into lines | yes | yes |\n" +
	"| in hexadecimal digits, small or capital, also broken into lines | yes | yes |\n" +
	"| quoted as a shell or Go's `%q` does it | only where that is one of the above | yes |\n" +
	"| one line of several, of at least 8 bytes | no: such lines are in many files | yes |\n" +
	"| the beginning of it, at which a message was shortened (`…`) | no | yes, from 4 bytes on |\n" +
	"| of less than 6 bytes | no: found by chance in every large file; there is a warning | no |\n" +
	"| in hexadecimal digits with blanks, as `hexdump -C` writes them | no | no |\n" +
	"| compressed (gzip, xz, zstd, zip), encrypted, or cut into pieces | no | no |\n" +
	"\n## Names of images\n\n" +
	"`--tag TAG` means NAME:TAG where the recipe has a `name`, and `localhost/TAG:latest` where it has\n" +
	"none. Anything with a slash or a colon is a full name and stands for itself. In `from`, a name\n" +
	"without a registry, such as `debian`, is an image of this host's store where there is one of that\n" +
	"name (`localhost/debian`, or what it was pulled as); else it is fetched as podman would, by default\n" +
	"from docker.io.\n" +
	"\n## Limits\n\n" +
	"A recipe is one YAML document in UTF-8 of at most 1 MiB, nested at most 64 deep, with at most 1000\n" +
	"stages, secrets and arguments each. Anchors and aliases work; merge keys (`<<`) and tags (`!name`)\n" +
	"do not.\n"
