#!/bin/sh
# Builds the image of a recipe on a CI runner and pushes it, as an ordinary
# user, in a container or not. It knows no particular CI.
#
#   RECIPE_DIR          the directory with pdibuild.yaml (default: this one)
#   IMAGE_TAG           a tag, or a full name with a tag (default: ci)
#   REGISTRY_USER and   who pushes; without them the image is built, not pushed
#   REGISTRY_PASSWORD
#   PDIBUILD            the program (default: pdibuild)
#
# The password is handed over in a file, as podman login would write it; it is
# in no argument that other users of the machine can see.
set -eu

recipe=${RECIPE_DIR:-.}
tag=${IMAGE_TAG:-ci}
pdibuild=${PDIBUILD:-pdibuild}

"$pdibuild" version
set -- --tag "$tag" --progress plain --iidfile image-id "$recipe"

if [ -n "${REGISTRY_USER-}" ] && [ -n "${REGISTRY_PASSWORD-}" ]; then
	registry=${REGISTRY:-$(sed -n 's/^name: *//p' "$recipe/pdibuild.yaml" | cut -d/ -f1)}
	secrets=$(mktemp -d)
	trap 'rm -rf "$secrets"' EXIT
	(
		umask 077
		auth=$(printf '%s:%s' "$REGISTRY_USER" "$REGISTRY_PASSWORD" | base64 | tr -d '\n')
		printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$registry" "$auth" >"$secrets/auth.json"
	)
	set -- --push --authfile "$secrets/auth.json" "$@"
fi

"$pdibuild" build "$@"
