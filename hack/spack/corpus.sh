# shellcheck shell=bash
# shellcheck disable=SC2154 # variables come from whoever sources this
# Environments that Spack and pdibuild install in the same image, and that have to
# come out the same: hashes, prefixes, links of views, variables. Each is a directory
# hack/spack/corpus/NAME with a spack.yaml; corpus/repo has the packages, and is
# beside spack.yaml when it is built. Source it after hack/spack/lib.sh.

# test_corpus: CORPUS names the environments, all unless set.
test_corpus() {
	local name
	for name in ${CORPUS:-$(cd hack/spack/corpus && for d in */spack.yaml; do dirname "$d"; done)}; do
		say "Environment $name, by Spack and by pdibuild"
		corpus_context "$name" spack '      - {copy: environment, to: /opt/spack-environment}
      - run: spack -c config:install_tree:root:/opt/software -e /opt/spack-environment concretize && spack -c config:install_tree:root:/opt/software -e /opt/spack-environment install
'
		corpus_context "$name" pdibuild '      - spack: {environment: environment/spack.yaml}
'
		corpus_facts "$name" spack
		corpus_facts "$name" pdibuild
		check "$name is installed" test -s "$work/corpus/$name.spack"
		check "$name is the same" diff -u "$work/corpus/$name.spack" "$work/corpus/$name.pdibuild" >&2
	done
}

# corpus_context NAME WHO STEPS: a recipe with the steps, that looks at the result.
corpus_context() {
	local dir=$work/corpus/$1-$2
	mkdir -p "$dir"
	cp -a "hack/spack/corpus/$1" "$dir/environment"
	cp -a hack/spack/corpus/repo "$dir/environment/"
	cat >"$dir/facts" <<-'EOF'
		cd /opt/spack-environment
		spack() { command spack -c config:install_tree:root:/opt/software "$@"; }
		spack -e . find --no-groups --format '{name}@{version}/{hash} {prefix}' | grep '/opt/software' | sort
		[ ! -d /opt/corpus-view/ ] || find -L /opt/corpus-view/ -path '*/.spack*' -prune -o -type f -print | sort
		spack env activate --sh --dir . | grep '^export' | grep -v '^export SPACK_' | sort
	EOF
	printf 'version: 1\nname: localhost/corpus\nstages:\n  - name: corpus\n    from: localhost/spack-base:test\n    steps:\n%s      - {copy: facts, to: /opt/facts}\n      - run: sh /opt/facts | sed "s/^/fact /"\n' "$3" >"$dir/pdibuild.yaml"
}

# corpus_facts NAME WHO: what is there in the end, in $work/corpus/NAME.WHO.
corpus_facts() {
	build "$work/corpus/$1-$2" --tag "$1-$2" --no-cache >/dev/null || explain
	sed -n 's/^corpus | fact //p' "$work/build.log" >"$work/corpus/$1.$2"
}
