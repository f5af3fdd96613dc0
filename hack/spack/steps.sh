# shellcheck shell=bash
# shellcheck disable=SC2016,SC2154 # the shell of the image expands; the caller sets work and store
# Tests of what a spack step can do beside installing: upstreams, several
# environments, compilers that are packages, messages, memory, a full disk. The
# packages are in hack/spack/steps; none needs anything from the internet.

# steps_project DIRECTORY STEPS [FINAL]: a recipe whose builder has these steps
# behind the package repository /opt/repo and the archives /opt/archives.
steps_project() {
	local archive
	mkdir -p "$1/archives" "$1/repo"
	cp -R hack/spack/steps/repo.yaml hack/spack/steps/packages "$1/repo"
	archive=$1/archives/hello-1.0.tar.gz
	tar -C hack/spack/steps --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go=u-w -cf - hello-1.0 | gzip -n >"$archive"
	sed -i "s/@SHA256@/$(sha256sum <"$archive" | cut -c1-64)/" "$1"/repo/packages/*/package.py
	cat >"$1/pdibuild.yaml" <<-END
		version: 1
		name: localhost/$(basename "$1")
		stages:
		  - name: builder
		    from: localhost/spack-base:test
		    steps:
		      - {copy: archives, to: /opt/archives}
		      - {copy: repo, to: /opt/repo/spack_repo/steps}
		$2
		${3:-}
	END
}

# An environment takes packages from another Spack's installation; a second one
# in the same stage and a third in another one stand beside it.
test_upstream() {
	say "Upstreams and several environments"
	local dir=$work/upstream
	steps_project "$dir" '      - run: spack repo add /opt/repo/spack_repo/steps && spack -c config:install_tree:root:/opt/site install site2 && spack repo remove steps
      - spack: {environment: a.yaml, name: a, repos: [repo], upstreams: {site: /opt/site}}
      - spack: {environment: b.yaml, name: b, repos: [repo]}' '  - name: other
    from: localhost/spack-base:test
    steps:
      - spack: {environment: b.yaml, name: c, repos: [repo]}
  - name: final
    from: mmdebstrap:bookworm
    steps:
      - {environment: builder, name: a}
      - {environment: builder, name: b}
      - {environment: other, name: c}
      - check: mine && site2 && test "$(readlink -f "$(command -v site2)")" = "$(echo /opt/site/*/site2-*/bin/site2)"
      - check: . /opt/spack-environment-c/activate.sh && readlink -f /opt/views/c/bin/site1 | grep __spack'
	printf 'spack: {view: true, specs: [mine]}\n' >"$dir/a.yaml"
	printf 'spack: {view: true, specs: [site1], config: {install_tree: {padded_length: 64}}}\n' >"$dir/b.yaml"
	check "it is built, with packages of the upstream" test -n "$(build "$dir" --tag test)"
	check "packages of the upstream are not built again" said 'packages 1/1.*: mine@1.0 '
	check "and not counted" said 'of these 1 specs, [01] are in the cache'
	bin/pdibuild plan --storage-root "$store" --no-cache "$dir" >"$work/plan" 2>&1 || cat "$work/plan" >&2
	check "a plan does not count them either" grep -q 'of these 1 specs' "$work/plan"
}

# A compiler that Spack installs builds the other packages and works in the
# final image.
test_compiler() {
	say "A compiler that is a package"
	local dir=$work/compiler
	steps_project "$dir" '      - spack: {environment: spack.yaml, repos: [repo]}' '  - name: final
    from: mmdebstrap:bookworm
    bootstrap: {packages: [g++]}
    steps:
      - environment: builder
      - check: hello | grep "hello from a package" && readlink -f "$(command -v gcc)" | grep /opt/software
    compiler: {cc: /opt/views/view/bin/gcc, cxx: /opt/views/view/bin/g++}'
	cat >"$dir/spack.yaml" <<-'END'
		spack:
		  view: true
		  packages: {gcc: {buildable: true}}
		  specs:
		    - group: compiler
		      specs: [gcc@15.2.0]
		    - group: apps
		      needs: [compiler]
		      specs: ["hello %c=gcc@15.2.0"]
	END
	check "it is built, and compiles in the final image" test -n "$(build "$dir" --tag test)"
	check "it has built the other package" said 'hello@1.0.*gcc@15.2.0'
}

# The GNU compiler, compiled by Spack from its sources: a program that needs its
# runtime library runs in the final image, and the compiler works there.
test_gcc() {
	say "GCC, compiled by Spack (20 minutes and more)"
	local dir=$work/gcc
	mkdir -p "$dir/repo"
	cp -R hack/spack/gcc/. "$dir/repo"
	cat >"$dir/pdibuild.yaml" <<-'END'
		version: 1
		name: localhost/gcc
		stages:
		  - name: builder
		    from: localhost/spack-base:test
		    steps:
		      - run: apt-get update && apt-get install -y --no-install-recommends gcc-12-source libgmp-dev libmpfr-dev libmpc-dev zlib1g-dev libzstd-dev gawk texinfo flex
		      - run: spack external find --not-buildable gawk flex
		      - spack: {environment: spack.yaml, repos: [repo], strip: true}
		  - name: final
		    from: mmdebstrap:bookworm
		    bootstrap: {packages: [binutils, libc6-dev, libmpc3, libmpfr6, libgmp10, zlib1g, libzstd1]}
		    steps:
		      - environment: builder
		      - check: greet | grep "compiled by 12.2.0" && ldd "$(command -v greet)" | grep /opt/software/.*libstdc++
		      - check: readlink -f "$(command -v g++)" | grep /opt/software && ! test -e /usr/bin/gcc
		      - check: '! readelf -S "$(g++ -print-prog-name=cc1plus)" | grep debug_info'
		    compiler: {cc: /opt/views/view/bin/gcc, cxx: /opt/views/view/bin/g++}
	END
	cat >"$dir/spack.yaml" <<-'END'
		spack:
		  view: true
		  packages:
		    gcc: {buildable: true}
		    gmp: {buildable: false, externals: [{spec: gmp@6.2.1, prefix: /usr}]}
		    mpfr: {buildable: false, externals: [{spec: mpfr@4.2.0, prefix: /usr}]}
		    mpc: {buildable: false, externals: [{spec: mpc@1.3.1, prefix: /usr}]}
		    zlib-api: {buildable: false, require: [zlib]}
		    zlib: {buildable: false, externals: [{spec: zlib@1.2.13, prefix: /usr}]}
		    zstd: {buildable: false, externals: [{spec: zstd@1.5.4, prefix: /usr}]}
		    texinfo: {buildable: false, externals: [{spec: texinfo@6.8, prefix: /usr}]}
		  specs:
		    - group: compiler
		      specs: ["gcc@12.2.0.1 languages=c,c++ ~binutils~bootstrap~libsanitizer"]
		    - group: apps
		      needs: [compiler]
		      specs: ["greet %c,cxx=gcc@12.2.0.1"]
	END
	check "it is built, and compiles in the final image" test -n "$(build "$dir" --tag test || explain)"
	check "it has compiled the other package" said "packages [0-9]+/[0-9]+.*: greet@1.0 built"
}

# An image without Spack is lent one, from a directory and from a repository.
test_lent() {
	say "A Spack that is lent"
	local dir=$work/lent
	lent_spack "$dir" "path: $SPACK_ROOT"
	check "it is built with a directory" test -n "$(build "$dir" --tag test || explain)"
	clean_image localhost/lent:test
	[ -d "$SPACK_ROOT/.git" ] || { skip "SPACK_ROOT is no git repository, so none is lent"; return 0; }
	lent_spack "$dir" "git: \"file://$SPACK_ROOT#$(git -C "$SPACK_ROOT" rev-parse HEAD)\""
	check "and with a commit of a repository" test -n "$(build "$dir" --tag test || explain)"
}

lent_spack() { # DIRECTORY SPACK
	steps_project "$1" "      - run: rm -rf /opt/spack
      - spack: {environment: spack.yaml, repos: [repo], spack: {$2}}" '  - name: final
    from: mmdebstrap:bookworm
    steps:
      - environment: builder
      - check: hello'
	printf 'spack: {view: true, specs: [hello]}\n' >"$1/spack.yaml"
}

# Configuration that spack.yaml includes, and externals that a run step finds.
test_scopes() {
	say "Included configuration, and externals that the recipe finds"
	local dir=$work/scopes
	steps_project "$dir" '      - run: rm /root/.spack/packages.yaml && spack compiler find && spack external find --not-buildable cmake
      - spack: {environment: spack.yaml, repos: [repo]}' '  - name: final
    from: mmdebstrap:bookworm
    steps:
      - environment: builder
      - check: mine && readlink -f "$(command -v mine)" | grep ^/opt/elsewhere/
      - check: grep -A3 external /opt/spack-environment/spack.lock | grep /usr'
	mkdir -p "$dir/site" "$dir/more"
	printf 'config: {install_tree: {root: /opt/elsewhere}}\n' >"$dir/site/config.yaml"
	printf 'packages: {site1: {require: ["@1.0"]}}\n' >"$dir/more/packages.yaml"
	printf 'spack:\n  view: true\n  include: [site, {path: more/packages.yaml}]\n  specs: [mine, cmake]\n' >"$dir/spack.yaml"
	check "it is built" test -n "$(build "$dir" --tag test || explain)"
	printf 'packages: {site1: {require: ["@2.0"]}}\n' >"$dir/more/packages.yaml"
	build "$dir" --tag test >/dev/null && warn "a requirement of an included file was not heard"
	check "a file that is included counts" said 'error: .*cannot concretize the environment'
}

# Lock files as this Spack writes them and, of the same content, as older ones
# did: each is used.
test_locks() {
	say "Lock files of several versions"
	local dir=$work/locks version
	steps_project "$dir" '      - spack: {environment: spack.yaml, repos: [repo]}'
	printf 'spack: {view: true, specs: [mine]} # %s\n' "$work" >"$dir/spack.yaml"
	check "one is written" test -n "$(build "$dir" --tag test --write-lock)" -a -s "$dir/spack.lock"
	note "this Spack writes version $(sed -n 's/.*"lockfile-version": *\([0-9]*\).*/\1/p' "$dir/spack.lock")"
	mv "$dir/spack.lock" "$dir/newest.lock"
	for version in 4 5 6; do
		older_lock "$version" <"$dir/newest.lock" >"$dir/spack.lock"
		printf 'spack: {view: true, specs: [mine]} # %s %s\n' "$version" "$work" >"$dir/spack.yaml"
		check "version $version is used" test -n "$(build "$dir" --tag test || explain)"
		check "as it is, with the packages that are there" fails grep -E 'does not fit|Concretized|[1-9][0-9]* will compile' "$work/build.log"
	done
	older_lock 3 <"$dir/newest.lock" >"$dir/spack.lock"
	check "version 3 is refused, with a hint" fails build "$dir" --tag test
	check "that says why" said 'spack.lock.* has version 3 of the format'
}

# older_lock VERSION: a lock file from standard input as an older Spack has
# written it: until 5, edges do not say that they are direct; until 4, they have
# their types and nothing else.
older_lock() {
	python3 -c '
import json, sys
version, lock = int(sys.argv[1]), json.load(sys.stdin)
lock["_meta"].update({"lockfile-version": version, "specfile-version": version - 1})
for spec in lock["concrete_specs"].values():
    for dep in spec.get("dependencies", []):
        if version < 6:
            dep["parameters"].pop("direct", None)
        if version < 5:
            dep["type"] = dep.pop("parameters")["deptypes"]
json.dump(lock, sys.stdout)' "$1"
}

# Each kind of failure has its reason in the message, and the rest is built.
test_reasons() {
	say "Four broken packages, and one that is not"
	local dir=$work/reasons
	steps_project "$dir" '      - spack: {environment: spack.yaml, repos: [repo], keep_going: true, concurrent_packages: 2}'
	printf 'spack: {view: true, specs: [broken-compile, broken-checksum, broken-fetch, broken-patch, mine]}\n' >"$dir/spack.yaml"
	build "$dir" >/dev/null && warn "broken packages were installed"
	sed -n '/^pdibuild: /p' "$work/build.log" >&2
	check "the compiler's message" said 'error: .*broken-compile@1.0/[a-z0-9]{7} failed in phase build: b.c:1:10: fatal error: missing.h'
	check "the checksum" said 'error: .*broken-checksum@1.0/[a-z0-9]{7} failed in phase staging: sha256 checksum failed for hello-1.0.tar.gz'
	check "the sources" said 'error: .*broken-fetch@1.0/[a-z0-9]{7} failed in phase staging: All fetchers failed'
	check "the patch" said 'error: .*broken-patch@1.0/[a-z0-9]{7} failed in phase staging: 1 out of 1 hunk FAILED'
	check "the last package is built all the same" said 'mine@1.0 (built|from the binary cache)'
	printf 'spack: {view: true, specs: [mine@7]}\n' >"$dir/spack.yaml"
	build "$dir" >/dev/null && warn "a version that does not exist was installed"
	check "no solution" said 'error: .*cannot concretize the environment: No version exists that satisfies these input specs: mine@7'
	printf 'spack: {view: true, specs: [mine]}\n' >"$dir/spack.yaml"
	check "mended, it is built" test -n "$(build "$dir" --tag test)"
	check "from the cache" said ', 0 will compile'
}

# Processes that are killed for memory are run again with half the jobs.
test_memory() {
	local group=/sys/fs/cgroup/memory/pdibuild-test-$$ limit=memory.limit_in_bytes dir=$work/memory
	[ -d /sys/fs/cgroup/memory ] || group=/sys/fs/cgroup/pdibuild-test-$$ limit=memory.max
	if ! mkdir "$group" 2>/dev/null || ! echo 800000000 >"$group/$limit"; then
		skip "no control group can be made here, so no process runs out of memory"
		return 0
	fi
	say "A package that needs more memory than there is"
	steps_project "$dir" '      - spack: {environment: spack.yaml, repos: [repo], jobs: 3}'
	printf 'spack: {view: true, specs: [hungry]} # %s\n' "$work" >"$dir/spack.yaml"
	rm -rf "$store"/pdibuild/cache/spack/buildcache/v3/manifests/spec/hungry
	check "it is built" test -n "$(echo "$BASHPID" >"$group/cgroup.procs" && build "$dir" --tag test --isolation chroot)"
	check "with fewer jobs, and a warning" said 'warning: the memory did not suffice; what is missing is built again with 1 jobs'
	rmdir "$group" || warn "$group is left"
}

# A binary cache on a full disk has whole packages and no others.
test_full() {
	local cache=$store/pdibuild/cache/spack/buildcache dir=$work/full
	[ "$(id -u)" -eq 0 ] || { skip "only root can mount a small disk"; return 0; }
	say "A binary cache on a full disk"
	steps_project "$dir" '      - spack: {environment: spack.yaml, repos: [repo]}'
	printf 'spack: {view: true, specs: [mine]} # %s\n' "$work" >"$dir/spack.yaml"
	mkdir -p "$cache"
	mount -t tmpfs -o size=12k tmpfs "$cache" || { skip "no small disk can be mounted here"; return 0; }
	build "$dir" --tag test >/dev/null || true
	check "the disk was full" said 'No space left on device'
	mount -o remount,size=100m "$cache"
	printf 'spack: {view: true, specs: [mine, site1]}\n' >"$dir/spack.yaml"
	check "with room, it is built" test -n "$(build "$dir" --tag test)"
	check "the next build has everything from the cache" test -n "$(printf 'spack: {view: true, specs: [mine, site2]}\n' >"$dir/spack.yaml" && build "$dir" --tag test)"
	check "nothing is built again" said ', 0 will compile'
	umount "$cache"
}
