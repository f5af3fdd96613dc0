# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# A small internet for tests: a network of its own, in which docker.io and
# ghcr.io are registries on this machine. Source it after hack/spack/lib.sh.

# isle_up DIRECTORY: the registries listen in a network that has nothing else.
# docker.io takes what it is given (registries.conf leads there); ghcr.io is
# found by its name, wants HTTPS and a password for everything, and keeps its
# packages in DIRECTORY.
isle_up() {
	local dir=$1
	mkdir -p "$dir/images" "$dir/packages"
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$dir/key.pem" -out "$dir/cert.pem" -subj /CN=ghcr.io -addext subjectAltName=DNS:ghcr.io 2>/dev/null
	isle_password=$(openssl rand -hex 16)
	printf 'tester:%s\n' "$(bcrypt "$isle_password")" >"$dir/htpasswd"
	printf '127.0.0.1 localhost ghcr.io\n' >"$dir/hosts"
	printf '[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:5000"\ninsecure = true\n' >"$dir/registries.conf"
	registry_config "$dir/images" 127.0.0.1:5000 >"$dir/docker.yml"
	registry_config "$dir/packages" 127.0.0.1:443 "$dir" >"$dir/ghcr.yml"
	cat /etc/ssl/certs/ca-certificates.crt "$dir/cert.pem" >"$dir/authorities.pem"
	unshare --mount --net sleep 1d &
	isle_pid=$!
	sleep 0.5
	through=(nsenter --target "$isle_pid" --mount --net -- env -C "$REPO" "CONTAINERS_REGISTRIES_CONF=$dir/registries.conf" "SSL_CERT_FILE=$dir/authorities.pem")
	"${through[@]}" ip link set lo up
	"${through[@]}" mount --bind "$dir/hosts" /etc/hosts
	"${through[@]}" docker-registry serve "$dir/docker.yml" >"$dir/docker.log" 2>&1 &
	isle_servers=("$!")
	"${through[@]}" docker-registry serve "$dir/ghcr.yml" >"$dir/ghcr.log" 2>&1 &
	isle_servers+=("$!")
	for _ in $(seq 100); do
		"${through[@]}" curl -sf http://127.0.0.1:5000/v2/ -o /dev/null && "${through[@]}" curl -sk https://ghcr.io/v2/ -o /dev/null && return 0
		sleep 0.2
	done
	cat "$dir"/*.log >&2
	die "the registries did not start"
}

isle_down() {
	[ -n "${isle_pid:-}" ] || return 0
	kill "${isle_servers[@]}" "$isle_pid" 2>/dev/null || true
	wait "${isle_servers[@]}" "$isle_pid" 2>/dev/null || true
	isle_pid=''
	through=(env)
}

# registry_config DIRECTORY ADDRESS [SECRETS]: with SECRETS, a directory, over
# HTTPS and with a password.
registry_config() {
	printf 'version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp:\n  addr: %s\n' "$1" "$2"
	[ $# -eq 3 ] || return 0
	printf '  tls: {certificate: %s/cert.pem, key: %s/key.pem}\nauth: {htpasswd: {realm: test, path: %s/htpasswd}}\n' "$3" "$3" "$3"
}

# bcrypt PASSWORD: as docker-registry wants it, at the lowest cost.
bcrypt() { perl -e 'print crypt($ARGV[0], q($2b$04$) . substr(unpack("H*", pack("NNN", map { rand 2**32 } 1 .. 3)), 0, 22))' "$1"; }
