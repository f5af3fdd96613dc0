# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# An environment with a container: section, built by `spack containerize` and
# podman, and by pdibuild: the same packages and files, how long each takes, and
# how large the images are.

test_containerize() {
	if ! have podman || ! is_root; then
		skip "podman is not installed or this is not root, so nothing is compared with it"
		return 0
	fi
	say "What spack containerize prints, and what pdibuild containerfile prints"
	check "is the same for a dozen environments" env PDIBUILD_SPACK="$SPACK_ROOT/bin/spack" go test -count=1 -tags "$GO_TAGS" ./pkg/spack ./pkg/containerfile -run 'TestSpack' >&2
	say "The same environment, built both ways"
	local dir=$work/both
	podman_up
	into_podman "$dir/final" final <<<$'version: 1\nname: localhost/final\nstages: [{name: final, from: "mmdebstrap:bookworm"}]'
	into_podman "$work/base" base </dev/null
	rm -rf "$store/pdibuild/cache/spack/buildcache"
	both_ways "$dir" cold --no-cache < <(container_environment 'lz4, xxhash')
	same_content "$dir"
	both_ways "$dir" 'nothing changed' < <(container_environment 'lz4, xxhash')
	both_ways "$dir" 'one package more' < <(container_environment 'lz4, xxhash, libevent~openssl')
	same_content "$dir"
	tell_times
	keeps_symbols "$dir"
	podman_down
}

# podman_up makes a podman with a store of its own.
podman_up() {
	podman_root=$(mktemp -d /tmp/pdi.XXXX) # podman takes at most 50 characters
	podman=(podman --runtime runc --root "$podman_root/r" --runroot "$podman_root/x")
	times=()
}

podman_down() {
	"${podman[@]}" rmi -af >/dev/null 2>&1 || true
	umount -l "$podman_root/r/overlay" 2>/dev/null || true
	rm -rf "$podman_root"
}

tell_times() {
	note "$(printf '%-18s %-28s %s\n' '' 'containerize | podman build' pdibuild "${times[@]}")"
}

# into_podman DIRECTORY NAME: builds the recipe from standard input, if there is
# one, and gives podman the image.
into_podman() {
	local dir=$1 recipe
	mkdir -p "$dir"
	recipe=$(cat)
	[ -z "$recipe" ] || printf '%s\n' "$recipe" >"$dir/pdibuild.yaml"
	build "$dir" --tag test -o "type=docker-archive,dest=$work/image.tar" >/dev/null || { explain; die "the image $2 could not be made"; }
	"${podman[@]}" load -qi "$work/image.tar" >/dev/null
	rm "$work/image.tar"
}

# container_environment SPECS [LINE]: a spack.yaml with images of our own.
container_environment() {
	printf 'spack:\n  view: true\n  specs: [%s]\n  container:\n    images: {build: "localhost/spack-base:test", final: "localhost/final:test"}\n    os_packages: {command: apt}\n%s' "$1" "${2:-}"
}

# both_ways DIRECTORY LABEL [FLAG]: builds the environment from standard input
# in both ways, and notes the times.
both_ways() {
	local dir=$1/environment label=$2 start theirs ours final
	mkdir -p "$dir"
	cat >"$dir/spack.yaml"
	final=$(sed -n 's/.* final: "\([^"]*\)".*/\1/p' "$dir/spack.yaml")
	shift 2
	start=$(date +%s%N)
	# The commands rely on the shell that Spack's own images name.
	(cd "$dir" && "$SPACK_ROOT/bin/spack" containerize 2>/dev/null | sed 's|^FROM .* AS builder$|&\nSHELL ["/bin/bash", "/opt/spack/share/spack/docker/entrypoint.bash", "docker-shell"]|' >Containerfile)
	"${podman[@]}" build -q --format docker --network host --ulimit nofile=1024:1024 "$@" -t localhost/theirs -f "$dir/Containerfile" "$dir" >"$work/podman.log" 2>&1 || { tail -n 20 "$work/podman.log" >&2; check "podman builds what Spack prints" false; }
	theirs=$((($(date +%s%N) - start) / 100000000))
	rm "$dir/Containerfile"
	start=$(date +%s%N)
	build "$dir" --tag test "$@" >/dev/null || { explain; check "pdibuild builds it" false; }
	ours=$((($(date +%s%N) - start) / 100000000))
	cp "$work/build.log" "$work/ours.log"
	build "$dir" --tag test -o "type=docker-archive,dest=$dir/image.tar" >/dev/null || true
	"${podman[@]}" load -qi "$dir/image.tar" >/dev/null
	rm "$dir/image.tar"
	times+=("$label" "$((theirs / 10)).$((theirs % 10)) s, $(size_of localhost/theirs "$final")" "$((ours / 10)).$((ours % 10)) s, $(size_of localhost/environment:test "$final")")
}

# size_of IMAGE FINAL: what it adds to the image that it starts from.
size_of() {
	local all final
	all=$("${podman[@]}" image inspect -f '{{.Size}}' "$1")
	final=$("${podman[@]}" image inspect -f '{{.Size}}' "$2")
	echo "$(((all - final) / 100000))" | sed -E 's/^(.)$/0\1/; s/(.)$/.\1 MB/'
}

# in_both COMMAND: in theirs and in ours, each into a file.
in_both() {
	local image
	for image in theirs environment:test; do
		"${podman[@]}" run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "localhost/$image" sh -c "$1" >"$work/in.${image%:*}" 2>&1 || true
	done
}

# What differs on purpose: build logs and other notes of Spack's.
same_content() {
	in_both 'ls -d /opt/software/*/*-*-* /opt/software/*/*/*-*-* 2>/dev/null | sort'
	check "the same packages" alike
	in_both 'find -L /opt/views/view -type f | grep -v /\\.spack | sort'
	check "the same files in the view" alike
	in_both 'cd /opt/software && find . -type f ! -path "*/.spack/*" ! -path "*/.spack-db/*" ! -path "./.spack*" | sort'
	check "the same files in the packages" alike
	in_both 'exec 2>&1; readlink /opt/view; lz4 --version; xxhsum --version; cat /proc/1/comm; command -v lz4; command -v pdirun; echo $MANPATH $CMAKE_PREFIX_PATH $PDI_PLUGIN_PATH'
	check "the same programs, and the same environment" alike
}

alike() {
	[ -s "$work/in.theirs" ] && diff "$work/in.theirs" "$work/in.environment" >&2
}

# Stripping leaves static archives their index, and without it debug
# information stays.
keeps_symbols() {
	local dir=$1/environment prefix='/opt/software/*/lz4-* /opt/software/*/*/lz4-*'
	container_environment '"lz4 cflags=-g"' >"$dir/spack.yaml"
	build "$dir" --tag stripped >/dev/null || explain
	container_environment '"lz4 cflags=-g"' $'    strip: false\n' >"$dir/spack.yaml"
	build "$dir" --tag unstripped >/dev/null || explain
	for tag in stripped unstripped; do
		mkdir -p "$1/$tag"
		bin/pdibuild run --storage-root "$store" --network none --user 0 -v "$1/$tag:/to" "localhost/environment:$tag" -- sh -c "for p in $prefix; do [ ! -d \$p/lib ] || cp \$p/lib/liblz4.a \$p/lib/liblz4.so \$p/bin/lz4 /to/; done"
		check "$tag: the archive has its index" sh -c 'nm --print-armap "$0" 2>/dev/null | grep -q "^LZ4_compress_default in "' "$1/$tag/liblz4.a"
	done
	check "stripped: no debug information" sh -c '! readelf -SW "$0" | grep -q "\.debug_info"' "$1/stripped/liblz4.so"
	check "strip: false keeps debug information" sh -c 'readelf -SW "$0" | grep -q "\.debug_info"' "$1/unstripped/liblz4.so"
}
