# shellcheck shell=bash
# What the scripts in hack/ share. Source it; it defines functions and changes
# nothing but `set -euo pipefail` and the current directory (the repository's root).

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$REPO"

# The one place with the build tags: without them the Buildah libraries need
# the C headers of gpgme and btrfs. GO_TAGS is for `go … -tags "$GO_TAGS"`.
GO_TAGS="containers_image_openpgp exclude_graphdriver_btrfs"

# ASSUME_YES answers the question before packages are installed. A CI runner
# sets CI and has nobody to ask.
ASSUME_YES=${CI:+yes}

say()  { printf '\n==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
warn() { printf 'WARNING: %s\n' "$*" >&2; }

# die MESSAGE [HINT]…: what went wrong, what to do next.
die() {
	printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
	shift
	local hint
	for hint in "$@"; do
		printf '%s: hint: %s\n' "$(basename "$0")" "$hint" >&2
	done
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# as_root COMMAND…: directly as root, else with sudo.
as_root() {
	if is_root; then "$@"; else sudo -- "$@"; fi
}

# can_be_root says whether as_root has a chance. Without a terminal only a sudo
# that asks for no password has one.
can_be_root() {
	is_root && return 0
	have sudo || return 1
	[ -t 0 ] || sudo -n true 2>/dev/null
}

# confirm QUESTION: true when the answer is yes, or nobody needs to be asked.
confirm() {
	[ -n "$ASSUME_YES" ] && return 0
	[ -t 0 ] || return 1
	local answer
	read -r -p "$1 [y/N] " answer
	[[ $answer == [yY]* ]]
}

# missing_packages PACKAGE…: those that are not installed, one per line. A|B
# means whichever the distribution has.
missing_packages() {
	local package
	for package in "$@"; do
		any_installed "${package//|/ }" || printf '%s\n' "$package"
	done
}

any_installed() {
	local name
	for name in $1; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] && return 0
	done
	return 1
}

# first_available A|B|…: the first that apt can install, else the first.
first_available() {
	local name
	for name in ${1//|/ }; do
		if apt-cache policy "$name" 2>/dev/null | grep -q '^  Candidate: [^(]'; then
			printf '%s\n' "$name"
			return
		fi
	done
	printf '%s\n' "${1%%|*}"
}

# need_packages PACKAGE…: installs what is missing, after asking. Returns 1,
# having said what to do, where it can't; the caller decides whether that is
# the end.
need_packages() {
	if ! have dpkg-query || ! have apt-get; then
		warn "this is not Debian or Ubuntu; make sure that you have what these packages hold there: $*"
		return 0
	fi
	local missing
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -eq 0 ] && return 0
	note "packages that are not installed: ${missing[*]}"
	if ! can_be_root; then
		warn "they can't be installed: you are not root and sudo is not available without a password"
		note "ask an administrator to run: apt-get install ${missing[*]}"
		return 1
	fi
	if ! confirm "Install them now, as root, with apt-get?"; then
		note "to install them yourself: apt-get install ${missing[*]}   (or run this again with -y)"
		return 1
	fi
	install_packages "${missing[@]}"
}

install_packages() {
	local name names=()
	apt_update
	for name in "$@"; do
		names+=("$(first_available "$name")")
	done
	apt_install "${names[@]}"
}

apt_update() {
	as_root apt-get -q update >/dev/null 2>&1 || warn "apt-get update failed; trying with the package lists that are there"
}

# apt_install ARGUMENT…: quiet unless it fails.
apt_install() {
	local log
	log=$(mktemp)
	if as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >"$log" 2>&1; then
		rm -f "$log"
		return 0
	fi
	tail -n 20 "$log" >&2
	rm -f "$log"
	warn "apt-get install $* failed; its last lines are above"
	return 1
}

# go_works GO: a Go new enough for go.mod, or new enough (1.21) to fetch the
# toolchain that go.mod asks for by itself.
go_works() {
	local version
	version=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	version_at_least "${version#go}" 1.21 || return 1
	version_at_least "${version#go}" "$(go_wanted)" && return 0
	GOTOOLCHAIN=auto "$1" version >/dev/null 2>&1
}

# go_wanted is the Go version in go.mod.
go_wanted() { awk '$1 == "go" { print $2; exit }' go.mod; }

# version_at_least A B: A >= B, as version numbers.
version_at_least() {
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# find_go puts a Go that can build this module first in PATH and sets GOFLAGS.
find_go() {
	find_any_go
	# The binary is built with -trimpath. With it everywhere, vet, the tests and the
	# linter share the packages that were compiled for the binary.
	GOFLAGS="$(go env GOFLAGS) -trimpath"
	export GOFLAGS
}

# find_any_go installs a Go from the distribution where none is found and the
# distribution has one (after asking), or says what to do.
find_any_go() {
	local dir
	export GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
	for dir in "" /usr/local/go/bin /usr/lib/go/bin "$HOME/go/bin" "$HOME/sdk"/go*/bin /usr/lib/go-1.*/bin; do
		go_works "${dir:+$dir/}go" || continue
		[ -z "$dir" ] || export PATH="$dir:$PATH"
		note "$(go version)"
		return 0
	done
	install_go || die "Go $(go_wanted) or later is needed to build pdibuild, and none was found" \
		"an installed Go 1.21 or later is enough when it may download newer toolchains (GOTOOLCHAIN=auto and a reachable GOPROXY)" \
		"Debian 12: enable bookworm-backports, then apt-get install -t bookworm-backports golang-go" \
		"anything else: https://go.dev/doc/install, then put its bin directory into PATH"
	note "$(go version)"
}

# install_go installs the distribution's Go, or that of its backports where its
# own is too old, as in Debian 12.
install_go() {
	have apt-cache && can_be_root || return 1
	confirm "No Go that can build pdibuild was found. Install one now, as root, with apt-get?" || return 1
	apt_update
	if offers_go "$(apt-cache madison golang-go)"; then
		apt_install golang-go ca-certificates && go_works go
		return
	fi
	add_backports || return 1
	apt_install -t "$(codename)-backports" golang-go ca-certificates && go_works go
}

# offers_go MADISON: one of the versions can fetch the toolchain it needs.
offers_go() {
	local version
	version=$(awk '{ print $3 }' <<<"$1" | sort -V | tail -n 1)
	[ -n "$version" ] && version_at_least "${version#*:}" 1.21
}

# shellcheck source=/dev/null
codename() { (. /etc/os-release && printf '%s' "${VERSION_CODENAME-}"); }

# add_backports adds the backports of this Debian release, from the mirror that
# the host uses already. apt takes nothing from there unless it is told to.
# shellcheck source=/dev/null disable=SC2016
add_backports() {
	local mirror suite
	[ "$(. /etc/os-release && printf '%s' "$ID")" = debian ] || return 1
	suite=$(codename)
	mirror=$(apt-get indextargets --format '$(CODENAME) $(SITE)' | awk -v c="$suite" '$1 == c { print $2; exit }')
	[ -n "$mirror" ] || return 1
	note "adding /etc/apt/sources.list.d/pdibuild-backports.list ($mirror $suite-backports)"
	echo "deb $mirror $suite-backports main" | as_root tee /etc/apt/sources.list.d/pdibuild-backports.list >/dev/null
	apt_update
	offers_go "$(apt-cache madison golang-go)"
}

# build_binary builds bin/pdibuild. cgo stays on where there is a C compiler:
# starting again in a user namespace needs it.
build_binary() {
	have "${CC:-gcc}" || die "a C compiler is needed to build pdibuild, and ${CC:-gcc} was not found" "apt-get install gcc libc6-dev"
	CGO_ENABLED=1 go build -trimpath -tags "$GO_TAGS" -o bin/pdibuild ./cmd/pdibuild
}

# seconds_since START: START is a value of now.
now() { date +%s.%N; }
seconds_since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
