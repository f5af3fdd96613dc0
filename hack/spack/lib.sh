# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# What hack/test-spack and hack/bench-spack share: a base image with the real
# Spack, environments, and their builds. Source it after hack/lib.sh; it needs
# SPACK_ROOT, $work (a directory) and $store (an image store).

# through is what builds are started with.
through=(env)

passed=0 failed=0 skipped=0

# check NAME COMMAND…: counts whether the command succeeds.
check() {
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		note "ok: $name"
	else
		failed=$((failed + 1))
		warn "FAILED: $name"
	fi
}

# skip TEXT…: says what is not tested.
skip() {
	skipped=$((skipped + 1))
	warn "SKIPPED: $*"
}

build() { # DIRECTORY [FLAG…]: the id on stdout, the rest in build.log
	local dir=$1 start
	shift
	start=$(date +%s%N)
	"${through[@]}" bin/pdibuild build --storage-root "$store" --progress plain -v "$@" "$dir" 2>"$work/build.log"
	local status=$?
	note "$(printf '%s %s: %d.%01d s' "$(basename "$dir")" "$*" $((($(date +%s%N) - start) / 1000000000)) $((($(date +%s%N) - start) / 100000000 % 10)))"
	return $status
}

# explain shows why the last build failed.
explain() { tail -n 40 "$work/build.log" >&2; }

# fails COMMAND…: succeeds if the command does not.
fails() { ! "$@" >/dev/null; }

said() { grep -qE -- "$1" "$work/build.log"; }

# make_base makes an image with this host's Spack in it, as Spack's own images
# have it. Its packages are where this Spack has them.
make_base() {
	say "A base image with Spack"
	local dir=$work/base spack=$SPACK_ROOT/bin/spack packages clingo
	mkdir -p "$dir"
	packages=$("$spack" location --repo builtin 2>/dev/null)
	clingo=$(${SPACK_PYTHON:-python3} -c 'import clingo, os; print(os.path.dirname(os.path.dirname(clingo.__file__)))')
	cp -a "$SPACK_ROOT" "$dir/spack"
	mkdir -p "$dir/repo/spack_repo" "$dir/clingo" "$dir/mirror" "$dir/src"
	cp -a "$packages" "$dir/repo/spack_repo/builtin"
	cp -a "$clingo"/*clingo* "$dir/clingo/"
	[ -z "${SPACK_TEST_MIRROR:-}" ] || cp -a "$SPACK_TEST_MIRROR/." "$dir/mirror/"
	[ -z "${PDI_SOURCES:-}" ] || cp -a "$PDI_SOURCES/." "$dir/src/"
	cat >"$dir/pdibuild.yaml" <<-'EOF'
		version: 1
		name: localhost/spack-base
		stages:
		  - name: base
		    from: mmdebstrap:bookworm
		    bootstrap:
		      packages: [python3, python3-cffi, gcc, g++, gfortran, libc6-dev, make, cmake, patch, bzip2, xz-utils, unzip, file, ca-certificates, git,
		        gnupg, pkg-config, autoconf, automake, libtool, m4, gettext, perl, openmpi-bin, libopenmpi-dev, libhdf5-openmpi-dev, libyaml-dev, libspdlog-dev]
		    env: {SPACK_ROOT: /opt/spack, PYTHONPATH: /opt/clingo, PATH: "/opt/spack/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		    steps:
		      - {copy: spack, to: /opt/spack, exclude: [.git]}
		      - {copy: repo, to: /opt/packages}
		      - {copy: clingo, to: /opt/clingo}
		      - file: /etc/spack/config.yaml
		        content: |
		          config: {build_jobs: 2}
		      - file: /etc/spack/bootstrap.yaml
		        content: |
		          bootstrap: {enable: false}
		      - file: /etc/spack/concretizer.yaml
		        content: |
		          concretizer: {targets: {granularity: generic}}
		      - file: /etc/spack/mirrors.yaml
		        content: |
		          mirrors::
		            sources: {url: "file:///opt/mirror", binary: false, source: true}
		      - file: /etc/spack/repos.yaml
		        content: |
		          repos: {builtin: /opt/packages/spack_repo/builtin}
		      - run: git config --system --add safe.directory '*'
		      - run: spack compiler find && spack external find --not-buildable --all
		      - {copy: mirror, to: /opt/mirror}
		      - {copy: src, to: /opt/src}
	EOF
	build "$dir" --tag test >/dev/null || { cat "$work/build.log" >&2; die "the base image could not be built"; }
}

# recipe DIRECTORY CHECK [PACKAGES]: an environment step in a bare Debian.
recipe() {
	mkdir -p "$1"
	cat >"$1/pdibuild.yaml" <<-EOF
		version: 1
		name: localhost/$(basename "$1")
		stages:
		  - name: builder
		    from: localhost/spack-base:test
		    steps:
		      - spack: {environment: spack.yaml, strip: true${4:-}}
		      ${3:-}
		  - name: final
		    from: mmdebstrap:bookworm
		    bootstrap: {packages: [openmpi-bin, libhdf5-openmpi-103-1, libyaml-0-2, libspdlog1.10]}
		    steps:
		      - environment: builder
		      - user: {name: pdi, uid: 1001, gid: 1001, home: /opt/pdi}
		      - check: $2
		    env: {OMPI_MCA_plm_rsh_agent: /bin/false, OMPI_MCA_rmaps_base_oversubscribe: "1", OMPI_MCA_btl_vader_single_copy_mechanism: none}
		    entrypoint: activate
		    cmd: [/bin/sh]
	EOF
}

# prepare builds pdibuild and the base image.
prepare() {
	find_go
	need_packages mmdebstrap
	go build -tags "$GO_TAGS" -o bin/pdibuild ./cmd/pdibuild
	work=$(mktemp -d /var/tmp/pdibuild-spack.XXXXXX)
	trap cleanup EXIT
	trap 'exit 1' INT TERM
	store=${TEST_STORE:-$work/store}
	make_base
}

cleanup() {
	isle_down
	slurm_down
	mountpoint -q "$work/small" && umount "$work/small"
	rm -rf "$work"
}

# clean_image IMAGE: nothing in it is Spack's own, for building only, a cache, a
# mirror's configuration or a credential. Each check of what must not be there
# looks through something that is.
clean_image() {
	local image=$1 spec hashes
	bin/pdibuild run --storage-root "$store" --network none --user 0 --entrypoint "" "$image" -- \
		find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o -print >"$work/files"
	check "$image has files" test "$(wc -l <"$work/files")" -gt 1000
	check "nothing of Spack itself is in it" lacks '/bin/spack$|/lib/spack/spack|/opt/spack(/|$)|/\.spack/(packages|compilers|cache|bootstrap)|clingo|spack_repo|pdibuild-spack|/run/pdibuild'
	check "no caches, logs and databases" lacks 'spack-build-(out|env)|/\.spack-db|_source-cache|/buildcache|install_times\.json|\.spack-stage|archived-files'
	bin/pdibuild run --storage-root "$store" --network none --user 0 --entrypoint "" "$image" -- \
		sh -c 'cat /opt/spack-environment/*; env; cat /etc/spack/* /root/.docker/* /root/.config/containers/* 2>/dev/null; ls -a /root' >"$work/settings"
	check "no mirrors, and no names of credentials" sh -c '! grep -nEi "mirror|oci://|access_pair|OCI_(USERNAME|PASSWORD)|password" "$0"' "$work/settings"
	bin/pdibuild run --storage-root "$store" --network none --user 0 --entrypoint "" "$image" -- cat /opt/spack-environment/spack.lock >"$work/spack.lock"
	hashes=$(build_only "$work/spack.lock")
	check "the environment has packages for building only" test -n "$hashes"
	for spec in $hashes; do
		check "$spec does not come along" lacks "-${spec##*/}(/|$)"
	done
}

lacks() { ! grep -E -- "$1" "$work/files" | head -n 3 | grep . >&2; }

# build_only LOCK: NAME/HASH of what no package of the environment links with
# or runs, externals left out.
build_only() {
	python3 - "$1" <<-'EOF'
		import json, sys
		lock = json.load(open(sys.argv[1]))
		specs, seen, todo = lock["concrete_specs"], set(), [r["hash"] for r in lock["roots"]]
		while todo:
		    h = todo.pop()
		    if h not in seen:
		        seen.add(h)
		        todo += [d["hash"] for d in specs[h].get("dependencies", []) if {"link", "run"} & set(d["parameters"]["deptypes"])]
		print(" ".join(f"{s['name']}/{h}" for h, s in specs.items() if h not in seen and "external" not in s))
	EOF
}
