# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# The PDI tutorial of examples/, as its user builds it: the recipe, the check
# script, the packages of their own and, but for a few specs, the environment are
# those of the example. What it needs of the internet is here: docker.io and
# ghcr.io as registries (registry.sh), their images made of Debian
# (tutorial/pdibuild.yaml), the repositories of PDI.
#
# Differences: some specs are taken out (CUT), since their sources cannot be had
# or take an hour to compile; cmake, python, git, gdb, MPI, HDF5 and the Python
# packages are Debian's, as tutorial/packages.yaml says in the image of the
# builder, and are therefore in the image that the final stage starts from as
# well; PDI is its development version; and the tutorial's repository is one of
# our own, since the branch that the recipe names may be had from its host only.

readonly CUT='kokkos|py-dask|py-distributed|py-bokeh|py-matplotlib'

test_tutorial() {
	if [ -z "${PDI_SOURCES:-}" ]; then
		skip "PDI_SOURCES names no sources, so the tutorial is not built"
		return 0
	fi
	is_root || { skip "the tutorial needs a network of its own, which root can make"; return 0; }
	say "The tutorial: images in the place of docker.io's"
	need_packages docker-registry openssl iproute2 curl skopeo
	isle_up "$work/isle"
	stand_ins
	say "The tutorial, as its user builds it"
	local dir=$work/pdi-tutorial
	cp -r examples/pdi-tutorial "$dir"
	sed -i -E "/^ *- ($CUT)\$/d" "$dir/spack.yaml"
	check "five specs are taken out, and nothing else is changed" test "$(diff -r examples/pdi-tutorial "$dir" | grep '^[<>]' | grep -cE "^< +- ($CUT)\$") $(diff -r examples/pdi-tutorial "$dir" | grep -c '^[<>]')" = "5 5"
	tutorial_without_secrets "$dir"
	tutorial_runs
	tutorial_with_secrets "$dir"
	tutorial_with_podman
	tutorial_is_clean
	tutorial_on_a_fresh_runner "$dir"
	isle_down
}

# stand_ins makes the images and pushes them to where the recipe looks for them.
stand_ins() {
	local dir=$work/stand-ins repository=$work/stand-ins/repository name isle=("${through[@]}")
	cp -r hack/spack/tutorial "$dir"
	mkdir "$repository"
	mv "$dir/00_begin" "$repository"
	git -C "$repository" init -q -b tutorial_HPCAsia
	git -C "$repository" add -A
	git -C "$repository" -c user.name=test -c user.email=test@localhost commit -q -m "A solution" --date 2026-01-01T00:00:00Z
	for name in spack/ubuntu-noble:nightly:ubuntu-noble library/gcc:15:gcc; do
		through=(env)
		build "$dir" --target "${name##*:}" --tag "docker.io/${name%:*}" >/dev/null || { explain; die "the images could not be made"; }
		through=("${isle[@]}")
		"${through[@]}" bin/pdibuild push -q --storage-root "$store" --tls-verify=false --compression-level 1 "docker.io/${name%:*}" "127.0.0.1:5000/${name%:*}"
		bin/pdibuild rm --storage-root "$store" "docker.io/${name%:*}" >/dev/null
	done
}

readonly TUTORIAL=ghcr.io/thomas-bouvier/numpex-pdi-tutorial:HPCAsia2026

# Nobody has given a password, so the cache answers 401.
tutorial_without_secrets() {
	rm -rf "$store/pdibuild/cache/spack/buildcache" "$store/pdibuild/cache/spack/pending"
	tutorial_id=$(build "$1" --tag HPCAsia2026) || explain
	check "without secrets it is built all the same" test -n "$tutorial_id"
	check "the check script finds everything, as the final user" said 'THIS ENVIRONMENT IS OK FOR THE PDI TUTORIAL'
	check "four ranks have run its program" said "rank 3 has the mean"
	check "the final image's compiler is GCC 15" said 'The C compiler identification is GNU 15'
	check "the compilers link with a library of the environment" said 'C\+\+ with lib'
	check "one warning says that the cache refuses to be read" test "$(grep -c 'numpex-spack-mirror.*pull.*the build goes on without it' "$work/build.log")" -eq 1
	check "another that nothing was pushed" said "oci_password.*was not given.*pdibuild push --buildcache"
}

# in_tutorial [FLAG…] -- COMMAND…: in the finished image.
in_tutorial() {
	local flags=()
	while [ "$1" != -- ]; do flags+=("$1"); shift; done
	shift
	bin/pdibuild run --storage-root "$store" --network none "${flags[@]}" "$TUTORIAL" -- "$@"
}

tutorial_runs() {
	local sources=$work/sources
	mkdir -p "$sources"
	check "the service user is 1001" test "$(in_tutorial -- sh -c 'id -u; id -un' | tr '\n' ' ')" = "1001 pdi "
	check "its name is in the environment" test "$(in_tutorial -- sh -c 'echo $SERVICE_NAME')" = pdi
	check "compilers are those of the recipe" test "$(in_tutorial -- sh -c 'echo $CC $CXX')" = "/usr/local/bin/gcc /usr/local/bin/g++"
	check "its directories are its own" test "$(in_tutorial -- stat -c %U /opt/pdi /var/log/pdi /opt/tutorial/00_begin | sort | uniq -c | tr -s ' ')" = " 3 pdi"
	check "the view has its second name" test "$(in_tutorial -- readlink /opt/view)" = /opt/views/view
	check "the entrypoint activates" test "$(in_tutorial -- sh -c 'command -v pdirun')" = /opt/views/view/bin/pdirun
	in_tutorial -v "$sources:/opt/pdi" -- sh -c 'cp -r /opt/tutorial/00_begin/solution /opt/pdi/ && cd /opt/pdi/solution && cmake -S . -B build && make -C build && id -un && mpirun -np 2 build/main' >"$work/run.log" 2>&1 || cat "$work/run.log" >&2
	check "a program is compiled and run in a volume" test -s "$sources/solution/values1.h5"
	check "HDF5 files are what PDI writes" test "$(head -c 4 "$sources/solution/values0.h5" | tail -c 3)" = HDF
	check "and Python is called with the data" grep -q 'rank 1 has the mean 2.5' "$work/run.log"
	check "and what it has written is whose the volume is" test "$(stat -c %u "$sources/solution/values1.h5")" = "$(id -u)"
}

tutorial_with_secrets() {
	local again first
	first=$(tutorial_layers)
	OCI_USERNAME_VARIABLE=tester OCI_PASSWORD_VARIABLE=$isle_password "${through[@]}" bin/pdibuild push --storage-root "$store" --buildcache 2>"$work/build.log" || explain
	check "what could not be pushed is pushed later" said '[1-9][0-9]* packages pushed'
	check "with an image of the packages, as 'spack buildcache push --tag latest' makes it" said 'numpex-spack-mirror.* has the tag latest'
	"${through[@]}" skopeo inspect --config --creds "tester:$isle_password" docker://ghcr.io/thomas-bouvier/numpex-spack-mirror:latest >"$work/tagged.json" || true
	check "whose variables lead to them" grep -qE 'PDI_PLUGIN_PATH=/opt/software/.*pdiplugin|PATH=/opt/software/.*pdi' "$work/tagged.json"
	rm -rf "$store/pdibuild/cache/spack/buildcache"
	again=$(OCI_USERNAME_VARIABLE=tester OCI_PASSWORD_VARIABLE=$isle_password build "$1" --tag HPCAsia2026 --no-cache) || explain
	check "another host takes every package from the registry" said ', 0 will compile'
	check "and makes an image" test -n "$again"
	check "with the same layers" test -n "$first" -a "$first" = "$(tutorial_layers)"
	check "nobody is shown the password" test "$(grep -c "$isle_password" "$work/build.log")" -eq 0
	build "$1" --tag HPCAsia2026 -o "type=docker-archive,dest=$work/tutorial.tar" >/dev/null || explain
	check "the search for it finds what is there" fails nowhere PDI_PLUGIN_PATH "$work/tutorial.tar"
	check "it is nowhere in the image" nowhere "$isle_password" "$work/tutorial.tar"
	rm "$work/tutorial.tar"
	check "nowhere in the store, its logs and caches" nowhere "$isle_password" "$store"
	check "nowhere in what was sent to the registry" nowhere "$isle_password" "$work/isle/packages"
	check "nowhere in temporary files of since then" temporary_files_lack "$isle_password"
	check "the image is pushed under its own name" "${through[@]}" bin/pdibuild push -q --storage-root "$store" --creds "tester:$isle_password" "$TUTORIAL"
}

# temporary_files_lack TEXT: those that were written since the registries are
# there, but for the store.
temporary_files_lack() {
	find /tmp /var/tmp -xdev -path "$store" -prune -o -type f -newer "$work/isle/htpasswd" -print0 2>/dev/null >"$work/temporary"
	! xargs -0 -r grep -lF -- "$1" <"$work/temporary" 2>/dev/null | grep . >&2
}

# The layers of the image, but for the one with the tutorial's repository: git
# notes there when each file was written.
tutorial_layers() {
	bin/pdibuild inspect --storage-root "$store" --format json "$TUTORIAL" |
		python3 -c 'import json, sys; print("\n".join(l["diff_id"] for l in json.load(sys.stdin)["layers"] if "/root/tutorial" not in l["step"]))'
}

# Others pull the image by its name, and run it as the tutorial tells them.
tutorial_with_podman() {
	have podman || { skip "podman is not installed, so the image is not run with it"; return 0; }
	local volume=$work/volume flags=(--network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
	mkdir "$volume"
	chown 1001 "$volume"
	podman_up
	check "podman pulls it" "${through[@]}" "${podman[@]}" pull -q --creds "tester:$isle_password" "$TUTORIAL"
	"${podman[@]}" run --rm "${flags[@]}" -v "$volume:/opt/pdi" "$TUTORIAL" sh -c \
		'cp -r /opt/tutorial/00_begin/solution /opt/pdi && cd /opt/pdi/solution && cmake -S . -B build && make -C build && mpirun -np 2 build/main' >"$work/run.log" 2>&1 || cat "$work/run.log" >&2
	check "and runs it, with sources of the host" test "$(stat -c %u:%s "$volume/solution/values1.h5")" = "1001:$(stat -c %s "$work/sources/solution/values1.h5")"
	podman_down
}

# The image has nothing of what made it.
tutorial_is_clean() {
	clean_image "$TUTORIAL"
}

# A runner with an empty disk builds it three times: with nothing, with the binary
# cache, and with finished steps. How long that takes is printed.
tutorial_on_a_fresh_runner() {
	local old=$store sent steps=type=registry,ref=127.0.0.1:5000/steps
	say "The tutorial on a fresh runner"
	sent=$(build "$1" --tag HPCAsia2026 --tls-verify=false --cache-to "$steps,mode=max") || explain
	check "its steps are sent to a step cache" said 'step cache .*: [1-9][0-9]* steps sent, 0 were there'
	store=$work/runner
	on_an_empty_disk "without a cache" "$1"
	check "everything is compiled" said ', 0 are in the cache .*, [1-9][0-9]* will compile'
	OCI_USERNAME_VARIABLE=tester OCI_PASSWORD_VARIABLE=$isle_password on_an_empty_disk "with the binary cache" "$1"
	check "nothing is compiled" said ', 0 will compile'
	on_an_empty_disk "with --cache-from" "$1" --cache-from "$steps"
	check "no step is run" said ' 0 executed'
	check "it is the same image" test "$runner_id" = "$sent"
	rm -rf "$store"
	store=$old
}

on_an_empty_disk() { # WHAT DIRECTORY [FLAG…]
	local what=$1 dir=$2
	shift 2
	rm -rf "$store"
	runner_id=$(build "$dir" --tag HPCAsia2026 --tls-verify=false "$@") || explain
	note "^ an empty disk, $what: $(du -sh --apparent-size "$store" | cut -f1) in the store then"
}
