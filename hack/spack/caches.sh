# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# What builds share and leave behind: two at once, a disk that is full in the
# middle of an installation or of the image, and where a secret may not be.

# Two builds at once compile the same packages with the same caches; the third
# has nothing to do, and the caches are whole.
test_together() {
	say "Two builds at once"
	local dir=$work/together name pids=() log=$work/build.log before
	before=$(ls "$store/pdibuild/work")
	rm -rf "$store/pdibuild/cache/spack/buildcache" "$store/pdibuild/cache/spack/sources"
	for name in one two three; do
		recipe "$dir/$name" 'tiny6 && lz4 --version' '' ', repos: [repo]'
		tiny "$dir/$name"
		printf 'spack:\n  view: true\n  specs: [tiny6, lz4] # %s %s\n' "$name" "$work" >"$dir/$name/spack.yaml"
	done
	for name in one two; do
		bin/pdibuild build --storage-root "$store" --progress plain -v --tag test "$dir/$name" >"$dir/$name.id" 2>"$dir/$name.log" &
		pids+=("$!")
	done
	check "the first succeeds" wait "${pids[0]}"
	check "the second succeeds" wait "${pids[1]}"
	check "both have compiled, side by side" test "$(grep -l '\] [a-z0-9]\{7\} tiny[2-6]@1.0 install' "$dir/one.log" "$dir/two.log" | wc -l)" -eq 2
	check "both have made the same packages" test "$(inspect_layers localhost/one:test)" = "$(inspect_layers localhost/two:test)"
	check "the third is built" test -n "$(build "$dir/three" --tag test)"
	check "from what they have left" grep -q ', 0 will compile' "$log"
	check "the sources are kept, and are whole" whole_sources "$store/pdibuild/cache/spack/sources"
	check "the binary cache is whole" bin/pdibuild cache buildcache verify "$store/pdibuild/cache/spack/buildcache"
	check "nothing is left of the builds" test "$before" = "$(ls "$store/pdibuild/work")"
}

# whole_sources DIRECTORY: there are archives, each with the digest that is its
# name.
whole_sources() {
	local archive found=0
	while read -r archive; do
		[[ $(basename "$archive") == $(sha256sum <"$archive" | cut -c1-64).* ]] || return 1
		found=$((found + 1))
	done < <(find "$1" -type f -name '*.tar.gz')
	[ "$found" -gt 0 ]
}

# inspect_layers IMAGE: the digests of its packages. What comes behind them has
# spack.yaml, with its comments.
inspect_layers() {
	bin/pdibuild inspect --storage-root "$store" --format json "$1" |
		python3 -c 'import json, sys; print("\n".join(l["diff_id"] for l in json.load(sys.stdin)["layers"] if "views and activation" not in l["step"]))'
}

# large DIRECTORY: a repository with five packages, one above the other, of 8 MB
# each, which cannot be compressed.
large() {
	local n repo=$1/repo/spack_repo/large
	mkdir -p "$repo/packages"
	printf 'repo:\n  namespace: large\n  api: v2.0\n' >"$repo/repo.yaml"
	for n in 1 2 3 4 5; do
		mkdir -p "$repo/packages/large$n"
		cat >"$repo/packages/large$n/package.py" <<-EOF
			import random
			from spack_repo.builtin.build_systems.generic import Package
			from spack.package import *


			class Large$n(Package):
			    """A package of 8 MB."""

			    homepage = "https://example.org"
			    has_code = False
			    version("1.0")
			    $([ "$n" -eq 1 ] || echo "depends_on('large$((n - 1))')")

			    def install(self, spec, prefix):
			        mkdirp(prefix.share)
			        with open(join_path(prefix.share, "large$n"), "wb") as f:
			            f.write(random.Random($n).randbytes(8000000))
		EOF
	done
}

# A disk that is full in the middle of the installation, and one that is full
# when the image is made: what was finished is not done again.
test_disk() {
	is_root || { skip "only root can mount a small disk"; return 0; }
	say "A full disk, in the middle of an installation"
	local dir=$work/disk disk=$work/small archive=$work/spack-base.tar used n finished
	mkdir -p "$disk"
	build "$work/base" --tag test -o "type=docker-archive,dest=$archive" >/dev/null
	mount -t tmpfs -o size=6g tmpfs "$disk" || { skip "no small disk can be mounted here"; return 0; }
	local store=$disk/store
	mkdir "$dir"
	printf 'version: 1\nname: localhost/spack-base\nstages: [{name: final, from: "docker-archive:%s"}]\n' "$archive" >"$dir/pdibuild.yaml"
	build "$dir" --tag test >/dev/null || explain
	rm "$archive"
	recipe "$dir" 'ls /opt/views/view/share/large5' '' ', repos: [repo]'
	sed -i 's|from: mmdebstrap:bookworm|from: localhost/spack-base:test|; /bootstrap:/d' "$dir/pdibuild.yaml"
	large "$dir"
	printf 'spack: {view: true, specs: [large5]}\n' >"$dir/spack.yaml"
	room_for 45 # each package is there twice, in its prefix and in the binary cache
	check "the build fails" fails build "$dir" --tag test
	sed -n '/^pdibuild: /p' "$work/build.log" >&2
	check "and says that the disk is full, and how to go on" grep -q '^pdibuild: go on with: pdibuild build' "$work/build.log"
	check "in these words" said 'error: .*[Nn]o space left on device'
	finished=$(grep -c '\[+\] [a-z0-9]\{7\} large' "$work/build.log")
	check "some packages were finished ($finished)" test "$finished" -ge 1 -a "$finished" -lt 5
	mount -o remount,size=6g "$disk"
	check "with room, the environment is installed" build "$dir" --target builder
	check "what was finished was in the cache" said "of these 5 specs, $finished are in the cache"
	room_for 20 # packages become layers as hard links: what is copied needs room
	head -c 40000000 /dev/urandom >"$dir/filler"
	sed -i 's|^\( *\)- environment: builder|&\n\1- {copy: filler, to: /opt/filler}|' "$dir/pdibuild.yaml"
	check "without room for a layer, there is no image" fails build "$dir" --tag test
	sed -n '/^pdibuild: /p' "$work/build.log" >&2
	check "and the message says why" said 'error: .*[Nn]o space left on device'
	mount -o remount,size=6g "$disk"
	check "with room, the image is made" test -n "$(build "$dir" --tag test)"
	check "and nothing is installed again" fails said '\] [a-z0-9]{7} large.@1.0 '
	check "nothing is left of the failed builds" test -z "$(ls "$store/pdibuild/work")"
	umount "$disk"
}

# room_for MB: from now on the disk has so much room.
room_for() {
	local used
	used=$(df -k --output=used "$disk" | tail -n 1)
	mount -o remount,size=$((used + $1 * 1000))k "$disk"
}

# nowhere TEXT PLACE…: no file has it, nor what Basic authentication makes of
# it, be the file packed or not.
nowhere() {
	python3 - "$@" <<-'EOF'
		import base64, gzip, os, sys
		text, found = sys.argv[1].encode(), 0
		wanted = [text] + [base64.b64encode(b"x" * n + text)[4:-4] for n in range(3)]
		for place in sys.argv[2:]:
		    for top, _, names in os.walk(place) if os.path.isdir(place) else [(os.path.dirname(place), [], [os.path.basename(place)])]:
		        for name in names:
		            path = os.path.join(top, name)
		            if os.path.islink(path) or not os.path.isfile(path):
		                continue
		            try:
		                with open(path, "rb") as f:
		                    packed = f.read(2) == b"\x1f\x8b"
		                with (gzip.open if packed else open)(path, "rb") as f:
		                    rest = b""
		                    while data := f.read(1 << 22):
		                        if any(w in rest + data for w in wanted):
		                            print(f"    {path} has it", file=sys.stderr)
		                            found += 1
		                            break
		                        rest = data[-200:]
		            except (OSError, EOFError):
		                pass
		sys.exit(found > 0)
	EOF
}
