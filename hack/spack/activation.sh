# shellcheck shell=bash
# shellcheck disable=SC2016,SC2034,SC2154 # shells in images expand; variables come from whoever sources this
# An environment's programs are found whatever starts them: podman run and
# exec, login shells, Apptainer and steps of Slurm, each the real one.

test_activation() {
	say "Activation"
	local dir=$work/active
	mkdir -p "$dir/context"
	cat >"$dir/context/pdibuild.yaml" <<-'EOF'
		version: 1
		name: localhost/context
		stages:
		  - name: builder
		    from: localhost/spack-base:test
		    steps: [{spack: {environment: spack.yaml, strip: true}}]
		  - name: final
		    from: mmdebstrap:bookworm
		    steps:
		      - environment: builder
		      - user: {name: pdi, uid: 1001, gid: 1001, home: /opt/pdi}
		      - check: command -v lz4
		    entrypoint: activate
		    cmd: [/bin/sh]
	EOF
	printf 'spack:\n  view: true\n  specs: [lz4]\n' >"$dir/context/spack.yaml"
	build "$dir/context" --tag test -o "type=docker-archive,dest=$dir/image.tar" >/dev/null || { explain; check "the image is built" false; return 0; }
	check "pdibuild run: the entrypoint activates" finds bin/pdibuild run --storage-root "$store" --network none localhost/context:test --
	check "without the entrypoint as well" finds bin/pdibuild run --storage-root "$store" --network none --entrypoint "" localhost/context:test --
	check "and in a login shell" finds bin/pdibuild run --storage-root "$store" --network none --entrypoint "" localhost/context:test -- bash -l
	activation_podman "$dir"
	activation_apptainer "$dir"
	activation_slurm "$dir"
}

# finds COMMAND…: started so, a shell finds the program in the view and its
# manual page. A login shell is given as the command's end.
finds() {
	local shell=(sh)
	[ "${*: -1}" != -l ] || shell=()
	local got
	got=$("$@" "${shell[@]}" -c 'command -v lz4 && lz4 --version >/dev/null && case ":$MANPATH:" in *:/opt/views/view/share/man:*) echo manual;; esac' 2>"$work/finds.log" </dev/null) || true
	[ "$got" = $'/opt/views/view/bin/lz4\nmanual' ] || { printf '%s\n' "$got" >&2; tail -n 5 "$work/finds.log" >&2; return 1; }
}

activation_podman() {
	if ! have podman || ! is_root; then
		skip "podman is not installed or this is not root, so activation with it is not tested"
		return 0
	fi
	local podman root
	root=$(mktemp -d /tmp/pdi.XXXX) # podman takes at most 50 characters
	podman=(podman --runtime runc --root "$root/r" --runroot "$root/x")
	local flags=(--network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
	"${podman[@]}" load -qi "$1/image.tar" >/dev/null
	check "podman run" finds "${podman[@]}" run --rm "${flags[@]}" localhost/context:test
	check "podman run, login shell" finds "${podman[@]}" run --rm "${flags[@]}" --entrypoint "" localhost/context:test bash -l
	check "podman run, login shell behind the entrypoint" finds "${podman[@]}" run --rm "${flags[@]}" localhost/context:test bash -l
	"${podman[@]}" run -d --name active "${flags[@]}" localhost/context:test sleep 600 >/dev/null
	check "podman exec" finds "${podman[@]}" exec active
	check "podman exec, login shell" finds "${podman[@]}" exec active bash -l
	"${podman[@]}" rm -f -t 0 active >/dev/null
	"${podman[@]}" rmi -af >/dev/null 2>&1 || true
	umount -l "$root/r/overlay" 2>/dev/null || true
	rm -rf "$root"
}

# IN_ROOT ROOT DIRECTORY COMMAND…: in a root, which has DIRECTORY as well.
# Apptainer makes namespaces, which is not allowed in what is only a chroot.
readonly IN_ROOT='
	cp /etc/hosts /etc/resolv.conf "$0/etc/"
	mount --bind "$0" "$0"
	for d in proc dev sys tmp; do mount --rbind "/$d" "$0/$d"; done
	mkdir -p "$0$1" && mount --bind "$1" "$0$1"
	cd "$0" && pivot_root . . && umount -l . && shift && exec chroot . "$@"'

# Debian has Apptainer in its development branch only: it is run in a root of
# that.
activation_apptainer() {
	local root=${APPTAINER_ROOT:-$work/apptainer}
	apptainer=()
	if have apptainer; then
		apptainer=(apptainer)
	elif ! is_root || [ ! -e "$root/usr/bin/apptainer" ] && ! mmdebstrap -q --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include=apptainer,squashfuse,fuse3 sid "$root" 2>"$work/apptainer.log"; then
		tail -n 3 "$work/apptainer.log" >&2 || true
		skip "there is no Apptainer here, so activation with it is not tested"
		return 0
	else
		apptainer=(unshare --mount --propagation private bash -c "$IN_ROOT" "$root" "$1" apptainer -s)
	fi
	"${apptainer[@]}" build --sandbox --force "$1/sandbox" "docker-archive:$1/image.tar" >"$work/apptainer.log" 2>&1 || { tail -n 5 "$work/apptainer.log" >&2; check "Apptainer takes the image" false; return 0; }
	# Not every root has all the privileges that Apptainer gives root by default.
	check "apptainer exec" finds "${apptainer[@]}" exec --no-privs "$1/sandbox"
	check "apptainer exec, nothing of the host's environment" finds "${apptainer[@]}" exec --no-privs --cleanenv "$1/sandbox"
	check "apptainer run" finds "${apptainer[@]}" run --no-privs "$1/sandbox"
	check "apptainer exec, login shell" finds "${apptainer[@]}" exec --no-privs "$1/sandbox" bash -l
}

# A cluster of one node, with its own munge, in a directory of its own.
activation_slurm() {
	is_root || { skip "a cluster is started by root, so activation in a step of Slurm is not tested"; return 0; }
	need_packages slurmctld slurmd slurm-client munge || { skip "Slurm is not installed, so activation in its steps is not tested"; return 0; }
	slurm_up "$work/slurm" || { cat "$work"/slurm/*.log >&2; check "Slurm starts" false; slurm_down; return 0; }
	check "srun pdibuild run" finds srun -n1 "$REPO/bin/pdibuild" run --storage-root "$store" --network none localhost/context:test --
	check "srun, without the entrypoint" finds srun -n1 "$REPO/bin/pdibuild" run --storage-root "$store" --network none --entrypoint "" localhost/context:test --
	if [ ${#apptainer[@]} -gt 0 ] && [ -d "$1/sandbox" ]; then
		check "srun apptainer exec" finds srun -n1 "${apptainer[@]}" exec --no-privs "$1/sandbox"
	fi
	check "two tasks of a step" test "$(srun -n2 --overcommit "$REPO/bin/pdibuild" run --storage-root "$store" --network none localhost/context:test -- sh -c 'command -v lz4' 2>>"$work/finds.log" | sort | uniq -c | tr -s ' ')" = " 2 /opt/views/view/bin/lz4"
	slurm_down
}

slurm_up() {
	local dir=$1 host
	host=$(hostname -s)
	mkdir -p "$dir/state" "$dir/spool"
	chmod 755 "$work" "$dir"
	(umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
	munged --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" --log-file="$dir/munge.log" --pid-file="$dir/munge.pid" --seed-file="$dir/munge.seed"
	cat >"$dir/slurm.conf" <<-EOF
		ClusterName=test
		SlurmctldHost=$host(127.0.0.1)
		SlurmctldPort=16817
		SlurmdPort=16818
		SlurmUser=root
		AuthType=auth/munge
		CredType=cred/munge
		AuthInfo=socket=$dir/munge.socket
		StateSaveLocation=$dir/state
		SlurmdSpoolDir=$dir/spool
		SlurmctldPidFile=$dir/slurmctld.pid
		SlurmdPidFile=$dir/slurmd.pid
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		MpiDefault=none
		ReturnToService=2
		SwitchType=switch/none
		SelectType=select/cons_tres
		NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
		PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
	EOF
	export SLURM_CONF=$dir/slurm.conf
	slurmctld -D >"$dir/slurmctld.log" 2>&1 &
	slurm_pids=("$!")
	slurmd -D >"$dir/slurmd.log" 2>&1 &
	slurm_pids+=("$!")
	for _ in $(seq 100); do
		timeout 20 srun -n1 true >/dev/null 2>&1 && return 0
		sleep 0.3
	done
	return 1
}

# slurm_down ends the daemons, and munge behind them: without it they cannot
# say good-bye to each other, and wait for ever.
slurm_down() {
	[ -n "${SLURM_CONF:-}" ] || return 0
	local pid
	for _ in $(seq 50); do
		[ -n "$(squeue --noheader 2>/dev/null)" ] || break
		sleep 0.2
	done
	kill "${slurm_pids[@]}" 2>/dev/null || true
	for pid in "${slurm_pids[@]}"; do
		for _ in $(seq 50); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.2
		done
		kill -9 "$pid" 2>/dev/null || true
	done
	kill "$(cat "$work/slurm/munge.pid" 2>/dev/null)" 2>/dev/null || true
	wait "${slurm_pids[@]}" 2>/dev/null || true
	unset SLURM_CONF
}
