#!/bin/sh
# Makes the test data next to it with a real Spack, from the tiny packages in
# packages/: what a version of Spack writes, and prints, when it installs.
#
#   testdata/make.sh SPACK_DIR NAME [REGISTRY]
#
# SPACK_DIR is a Spack that can concretize (with clingo, the builtin packages
# and gcc as a compiler in its configuration). The files go into NAME/. With
# REGISTRY, such as 127.0.0.1:5000 (plain HTTP, no authentication), there is
# what Spack puts into one, too.
set -eu
spack=$1/bin/spack
here=$(cd "$(dirname "$0")" && pwd)
out=$here/$2
registry=${3-}
work=/tmp/pdibuild-testdata # the same each time: paths are in the files
rm -rf "$work"
mkdir -p "$work/env" "$work/tmp" "$out"
cp -r "$here/packages" "$work/repo"
# The layout of package repositories that are Python modules.
case $("$spack" --version) in
0.*)
	mkdir "$work/repo/packages"
	for p in "$work"/repo/hello_*; do
		mv "$p" "$work/repo/packages/$(basename "$p" | tr _ -)"
	done
	printf 'repo:\n  namespace: hello\n' >"$work/repo/repo.yaml"
	repo=$work/repo
	;;
*)
	repo=$work/spack_repo/hello
	mkdir -p "$repo/packages"
	mv "$work"/repo/hello_* "$repo/packages"
	printf 'repo:\n  namespace: hello\n  api: v2.0\n' >"$repo/repo.yaml"
	;;
esac

environment() { # LINES-OF-SPECS
	cat >"$work/env/spack.yaml" <<Y
spack:
  view: true
  concretizer: {unify: true}
  specs:
$1
  repos: [$repo]
  packages:
    all: {target: [x86_64]}
    hello-system: {externals: [{spec: hello-system@2.1, prefix: /usr}], buildable: false}
  config:
    install_tree: {root: $work/store, padded_length: 96}
    build_stage: $work/tmp
    build_jobs: 1
  mirrors:
    local: "file://$work/cache"
Y
	rm -f "$work/env/spack.lock"
}
clean() { env HOME="$work" PATH=/usr/local/bin:/usr/bin:/bin MANPATH= "$spack" "$@"; }
in_env() { clean -e "$work/env" "$@"; }

# First what succeeds. Languages are dependencies since Spack 0.23.
compiled='  - hello-compiled'
case $("$spack" --version) in 0.1*) compiled= ;; esac
environment "  - hello-tool +loud
$compiled"
in_env concretize --fresh >"$out/concretize.log" 2>&1
in_env install >"$out/install.log" 2>&1
cp "$work/env/spack.yaml" "$work/env/spack.lock" "$out"
cp "$(find "$work/store" -path '*/.spack-db/index.json')" "$out/database.json"
clean env activate --sh --dir "$work/env" >"$out/activate.sh"
case $("$spack" --version) in
0.1*) # its commands for the rest are others
	rm -rf "$work"
	exit
	;;
esac
in_env env activate --sh --dir "$work/env" >"$out/activate-again.sh"
in_env load --sh hello-tool >"$out/load.sh"

# Then the caches. Of the packages, nothing is needed here but what describes
# them.
if in_env buildcache push --unsigned --update-index local >"$out/push.log" 2>&1; then
	rm -rf "$out/cache"
	cp -r "$work/cache" "$out/cache"
	find "$out/cache" -name '*.spack' -delete
	find "$out/cache" -name '*.spec.manifest.json' -exec \
		awk '/vnd.spack.install/ {p = 1} p && /"checksum"/ {print substr($0, index($0, ":") + 2, 64); p = 0}' {} + |
		while read -r blob; do find "$out/cache" -name "$blob" -delete; done
	find "$out/cache" -type d -empty -delete
fi
if [ "$registry" ]; then
	rm -rf "$out/oci"
	mkdir "$out/oci"
	in_env buildcache push --unsigned --force --update-index --tag latest "oci+http://$registry/cache" >"$out/oci/push.log" 2>&1
	tag=$(sed -n 's/.* as .*:\(hello-tool.*\)/\1/p' "$out/oci/push.log")
	get() { curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$registry/v2/cache/$1"; }
	get "manifests/$tag" >"$out/oci/manifest.json"
	get "blobs/$(sed 's/.*"config":{[^}]*"digest":"\([^"]*\)".*/\1/' "$out/oci/manifest.json")" >"$out/oci/config.json"
	get manifests/index.spack >"$out/oci/index.manifest.json"
	get "blobs/$(sed 's/.*"layers":\[{[^}]*"digest":"\([^"]*\)".*/\1/' "$out/oci/index.manifest.json")" >"$out/oci/index.json"
fi

# The same from the cache.
if [ -d "$out/cache" ]; then
	in_env uninstall --all --yes-to-all >/dev/null 2>&1
	in_env install --no-check-signature >"$out/install-cached.log" 2>&1
fi

# One package that cannot be built, and one that needs it.
environment "  - hello-tool +loud
  - hello-needs-broken"
in_env concretize --fresh >/dev/null 2>&1
in_env install >"$out/install-failed.log" 2>&1 && exit 1
in_env install --verbose --fail-fast >"$out/install-verbose.log" 2>&1 && exit 1

# Two groups, where there are such.
environment "  - hello-lib
  - {group: tools, needs: [default], specs: [hello-tool]}"
in_env concretize --fresh >/dev/null 2>&1 && cp "$work/env/spack.lock" "$out/spack-groups.lock"
rm -rf "$work"
