# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# PDI with its plugins, from the git repositories in PDI_SOURCES: an example of
# its own runs, and the same environment is built by `spack containerize` and
# podman.

# pdi_environment [TRACE [CONTAINER]]: the environment. TRACE is added to the spec
# of one plugin, on which nothing depends, CONTAINER is more of spack.yaml.
pdi_environment() {
	local name more=${2:-$'  config: {install_tree: {padded_length: 128}}\n'}
	printf 'spack:\n  view: true\n  concretizer: {unify: true}\n%s  specs:\n' "$more"
	printf '  - %s\n' 'pdi@develop~fortran~python' 'paraconf@develop~fortran' 'pdiplugin-decl-hdf5@develop~fortran' pdiplugin-mpi@develop \
		"pdiplugin-trace@develop${1:-}" pdiplugin-set-value@develop pdiplugin-user-code@develop
	printf '  packages:\n    paraconf: {package_attributes: {git: "file:///opt/src/paraconf"}, require: "@develop~fortran"}\n'
	for name in pdi pdiplugin-decl-hdf5 pdiplugin-mpi pdiplugin-trace pdiplugin-set-value pdiplugin-user-code; do
		printf '    %s: {package_attributes: {git: "file:///opt/src/pdi"}}\n' "$name"
	done
	printf '    spdlog: {externals: [{spec: "spdlog@1.10.0+shared", prefix: /usr}], buildable: false}\n'
	printf '    libyaml: {externals: [{spec: "libyaml@0.2.5", prefix: /usr}], buildable: false}\n'
}

test_pdi() {
	if [ -z "${PDI_SOURCES:-}" ]; then
		skip "PDI_SOURCES names no sources, so PDI is not built"
		return 0
	fi
	say "PDI with its plugins"
	local dir=$work/pdi first
	recipe "$dir" 'cd /tmp && cp /opt/example/*.yml . && sed -i "s/height. 3/height\x3a 2/" decl_hdf5.yml && mpirun -n 2 /opt/example/example decl_hdf5.yml && test -s data.h5' \
		'- run: . /opt/spack-environment/activate.sh && mkdir /opt/example && cp /opt/src/pdi/example/*.yml /opt/example && mpicc -O2 -o /opt/example/example /opt/src/pdi/example/example.c -I/opt/views/view/include -L/opt/views/view/lib -lpdi -lparaconf -lm -Wl,-rpath,/opt/views/view/lib'
	sed -i 's/^\( *\)- environment: builder/&\n\1- {copy: \/opt\/example, from: builder, to: \/opt\/example}/' "$dir/pdibuild.yaml"
	pdi_environment >"$dir/spack.yaml"
	first=$(build "$dir" --tag test) || explain
	check "it is built, and two ranks write an HDF5 file as user pdi" test -n "$first"
	check "with packages from the cache it is the same image" test "$first" = "$(build "$dir" --tag test --no-cache)"
	clean_image localhost/pdi:test
	sed -i 's/libhdf5-openmpi-103-1, //' "$dir/pdibuild.yaml"
	check "a final image that lacks a library is not made" fails build "$dir" --tag lacking
	sed -n '/^pdibuild: /p' "$work/build.log" >&2
	check "and its package is named" said 'error: .*libhdf5_openmpi.so.103 \(needed by .*, in package libhdf5-openmpi-103-1\)'
}

# The times and sizes of both ways, for PDI.
test_beside() {
	if [ -z "${PDI_SOURCES:-}" ] || ! have podman || ! is_root; then
		skip "there are no PDI_SOURCES, no podman, or this is not root, so PDI is not built both ways"
		return 0
	fi
	say "PDI, built both ways"
	local dir=$work/beside container
	container=$'  container:\n    images: {build: "localhost/spack-base:test", final: "localhost/pdi-final:test"}\n    os_packages: {command: apt}\n'
	podman_up
	into_podman "$dir/final" pdi-final <<-'EOF'
		version: 1
		name: localhost/pdi-final
		stages:
		  - name: final
		    from: mmdebstrap:bookworm
		    bootstrap: {packages: [openmpi-bin, libhdf5-openmpi-103-1, libyaml-0-2, libspdlog1.10]}
	EOF
	into_podman "$work/base" base </dev/null
	rm -rf "$store/pdibuild/cache/spack/buildcache"
	both_ways "$dir" cold --no-cache < <(pdi_environment '' "$container")
	same_content "$dir"
	both_ways "$dir" 'nothing changed' < <(pdi_environment '' "$container")
	both_ways "$dir" 'one plugin changed' < <(pdi_environment ' cxxflags=-O1' "$container")
	check "the one plugin was compiled, and no other package" grep -q ', 1 will compile' "$work/ours.log"
	tell_times
	podman_down
}
