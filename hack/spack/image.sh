# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# What an image gets of two environments: views of an included scope, at ~, beside
# the environment and of copies; a group that stays behind; module files; variables.

test_image() {
	say "What images get of environments"
	build hack/spack/image --tag test >/dev/null || { explain; check "the image is built" false; return 0; }
	check "data behind a program is kept, and that is said" said 'not stripped, since data follows the program.*/opt/cv/bin/hxdata'
	check "the views' programs are found" in_image 'hxcc; hxmulti; hxdata && hxsuid' $'hxcc\nmulti 3.0'
	check "also in a login shell without the image's variables" in_image 'env -i bash -lc "hxcc; hxmulti"' $'hxcc\nmulti 3.0'
	check "a view beside the environment" in_image '/opt/spack-environment-b/rel/bin/hxmulti; ls /opt/spack-environment-b/rel/bin' $'multi 3.0\nhxmulti'
	local show='echo $CC $HX_FLAGS $OMP_NUM_THREADS $SPACK_HX $SPACK_STACK_HX ${HX_EMPTY-unset} ${SPACK_ENV-none}'
	check "the recipe has the last word" in_image "$show" '/usr/bin/gcc -mine 4 mine mine none'
	check "also in a login shell without the image's variables" in_image "env -i bash -lc '$show'" '/usr/bin/gcc -mine 4 mine mine none'
	check "what the caller sets stays" in_image "$show" 'clang -mine 8 mine mine none' -e CC=clang -e OMP_NUM_THREADS=8
	check "module load works" in_image 'bash -lc "module avail -t 2>&1 | grep -c hx; module load hx-cc && echo \$HX_FLAGS"' $'1\n-spack'
	check "the module files of the group stay behind" in_image 'find /opt/modules -name "hx-files*"' ''
	check "nothing is setuid" in_image 'find /opt /root -xdev -perm /6000' ''
	check "copies in a view are stripped" in_image 'cmp /opt/cv/bin/hxsuid /root/v/bin/hxsuid' ''
}

# in_image COMMAND OUTPUT [FLAG…]: a shell in the image prints the output.
in_image() {
	local command=$1 want=$2 got
	shift 2
	got=$(bin/pdibuild run --storage-root "$store" --network none "$@" localhost/spack-image:test -- bash -c "$command" 2>"$work/image.log" </dev/null) || true
	[ "$got" = "$want" ] || { printf 'got:\n%s\nwant:\n%s\n' "$got" "$want" >&2; tail -n 5 "$work/image.log" >&2; return 1; }
}
