/*
 * Tries to reach the host from a step, one way after the other, and prints a
 * line for each: "NAME: stopped (why)" or "NAME: REACHED".
 *
 *   reach MARKER SOCKET PID KEY SHM QUEUE POSIX-QUEUE PORT
 *
 * MARKER is a file of the host, SOCKET the name of an abstract socket on which
 * a process of the host listens, PID that process, KEY a key in the keyrings of
 * who builds, SHM the number of a shared memory segment, QUEUE that of a System V
 * message queue, POSIX-QUEUE the name of a POSIX one, PORT a port of 127.0.0.1.
 *
 * It does nothing outside of a step, and no attempt does harm where it gets
 * through: no process is stopped, and only PID and the parent are looked at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *name, int reached)
{
	if (reached)
		printf("%s: REACHED\n", name);
	else
		printf("%s: stopped (%s)\n", name, errno ? strerror(errno) : "nothing there");
	fflush(stdout);
}

static int can_write(const char *path)
{
	int fd = open(path, O_WRONLY);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void writing(void)
{
	report("write /proc/sys", can_write("/proc/sys/kernel/core_pattern") || can_write("/proc/sys/kernel/ostype") || can_write("/proc/sys/vm/drop_caches"));
	report("write /proc/sysrq-trigger", can_write("/proc/sysrq-trigger"));
	report("write /sys", can_write("/sys/kernel/uevent_helper") || can_write("/sys/power/state") || can_write("/sys/kernel/mm/ksm/run"));
	report("make a cgroup", mkdir("/sys/fs/cgroup/pdibuild-reach", 0755) == 0 && rmdir("/sys/fs/cgroup/pdibuild-reach") == 0);
	char c;
	int fd = open("/proc/kcore", O_RDONLY);
	report("read /proc/kcore", fd >= 0 && read(fd, &c, 1) == 1);
}

static int undoes_mounts(void)
{
	/* In a namespace of its own it has every capability; masks stay. */
	return umount2("/proc/kcore", MNT_DETACH) == 0 || umount2("/proc/sys", MNT_DETACH) == 0 ||
	       mount("", "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL) == 0;
}

static void mounting(void)
{
	mkdir("/tmp/reach-mnt", 0755);
	report("mount", mount("proc", "/tmp/reach-mnt", "proc", 0, NULL) == 0 || mount("tmpfs", "/tmp/reach-mnt", "tmpfs", 0, NULL) == 0);
	report("unmount what hides /proc/kcore", umount2("/proc/kcore", MNT_DETACH) == 0);
	report("make /proc/sys writable", mount("", "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL) == 0);
	pid_t child = fork();
	if (child == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			_exit(2);
		_exit(undoes_mounts() ? 0 : 1);
	}
	int status;
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status) == 2 ? EPERM : EINVAL;
	report("undo mounts in a user namespace", WIFEXITED(status) && WEXITSTATUS(status) == 0);
	report("make a device node", mknod("/tmp/reach-node", S_IFBLK | 0600, makedev(7, 0)) == 0);
	int fd = open("/device", O_RDONLY);
	report("open the image's device node", fd >= 0);
}

/* SEIZE, not ATTACH: it stops nobody. */
static int traces(int pid)
{
	return ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
}

static int leads_elsewhere(int pid)
{
	struct stat ours, theirs;
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/root/", pid);
	return stat("/", &ours) == 0 && stat(path, &theirs) == 0 && (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino);
}

static int enters(int pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
	int fd = open(path, O_RDONLY);
	return fd >= 0 && setns(fd, CLONE_NEWNS) == 0;
}

/* The worker or the runtime above us, and a process of the host. */
static void others(int host)
{
	int parent = getppid();
	if (parent > 0) { /* 0 is in another process namespace */
		report("trace the parent", traces(parent));
		report("use the root of the parent", leads_elsewhere(parent));
		report("enter the namespace of the parent", enters(parent));
	}
	report("trace a process of the host", traces(host));
	report("use the root of a process of the host", leads_elsewhere(host));
	report("enter the namespace of a process of the host", enters(host));
	report("signal a process of the host", kill(host, 0) == 0);
}

static void descriptors(const char *marker)
{
	int found = 0;
	for (int fd = 3; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0) {
			char link[64], to[256] = "";
			snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
			if (readlink(link, to, sizeof to - 1) > 0)
				printf("descriptor %d is %s\n", fd, to);
			found++;
		}
	errno = 0;
	report("find an open descriptor", found);
	struct stat st;
	int cwd = open(".", O_RDONLY | O_DIRECTORY);
	mkdir("/tmp/reach-root", 0755);
	pid_t child = fork();
	if (child == 0) {
		if (chroot("/tmp/reach-root") != 0)
			_exit(1);
		fchdir(cwd);
		for (int i = 0; i < 100; i++)
			chdir("..");
		chroot(".");
		_exit(stat(marker, &st) == 0 ? 0 : 1);
	}
	int status;
	waitpid(child, &status, 0);
	errno = 0;
	report("leave the root with chroot", WEXITSTATUS(status) == 0 || stat(marker, &st) == 0);
}

/* The test has put the key into each of these; see keyctl(2). */
static void keyrings(const char *key)
{
	enum { SEARCH = 10, READ = 11, LINK = 8, GET_PERSISTENT = 22, PROCESS = -2, SESSION = -3, USER = -4, USER_SESSION = -5 };
	long found = syscall(SYS_keyctl, SEARCH, SESSION, "user", key, 0);
	report("read the keys of the session of who builds", found > 0);
	found = syscall(SYS_keyctl, SEARCH, USER, "user", key, 0);
	report("find the keys of the user", found > 0);
	found = syscall(SYS_keyctl, SEARCH, USER_SESSION, "user", key, 0);
	report("find the keys of the user's session", found > 0);
	long ring = syscall(SYS_keyctl, GET_PERSISTENT, -1, PROCESS);
	found = ring > 0 ? syscall(SYS_keyctl, SEARCH, ring, "user", key, 0) : ring;
	char value[64];
	report("read the persistent keys of the user", found > 0 && syscall(SYS_keyctl, READ, found, value, sizeof value) > 0);
	report("link the keys of the user to a keyring of its own", syscall(SYS_keyctl, LINK, USER, PROCESS) == 0 || syscall(SYS_keyctl, LINK, USER, SESSION) == 0);
	found = syscall(SYS_request_key, "user", key, NULL, 0);
	report("request the keys of the user", found > 0);
}

struct handle { struct file_handle head; unsigned char bytes[128]; };

static void calls(const char *key)
{
	struct handle h = { .head = { .handle_bytes = 128 } };
	int id, fd;
	if (name_to_handle_at(AT_FDCWD, "/etc/hosts", &h.head, &id, 0) != 0) {
		h.head.handle_bytes = 8;
		h.head.handle_type = 1;
	}
	fd = open("/etc/hosts", O_RDONLY);
	report("open a file by handle", open_by_handle_at(fd, &h.head, O_RDONLY) >= 0);
	keyrings(key);
	report("load a kernel module", syscall(SYS_init_module, "", 0, "") == 0);
	report("bpf", syscall(SYS_bpf, 0, NULL, 0) == 0 || errno == EINVAL || errno == EFAULT);
	report("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0) >= 0 || errno == EFAULT);
	report("io_uring", syscall(SYS_io_uring_setup, 1, NULL) >= 0 || errno == EFAULT);
	report("userfaultfd", syscall(SYS_userfaultfd, 0) >= 0);
	report("swap", syscall(SYS_swapon, "/tmp/reach-none", 0) == 0 || errno == ENOENT);
	report("set the host's name", sethostname("pdibuild", 8) == 0); /* as it is */
	report("virtual machine sockets", socket(AF_VSOCK, SOCK_STREAM, 0) >= 0);
}

static void queues(int queue, const char *posix)
{
	report("message queues", msgctl(queue, IPC_STAT, &(struct msqid_ds){ 0 }) == 0);
	report("POSIX message queues", mq_open(posix, O_RDONLY) >= 0);
}

static void loopback(int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	report("127.0.0.1", connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
}

static void sockets(const char *name, int shm)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	memcpy(addr.sun_path + 1, name, strlen(name));
	report("abstract socket", connect(fd, (struct sockaddr *)&addr, sizeof(sa_family_t) + 1 + strlen(name)) == 0);
	report("shared memory", shmctl(shm, IPC_STAT, &(struct shmid_ds){ 0 }) == 0);
	fd = open("/dev/tty", O_RDWR);
	report("terminal", fd >= 0);
	errno = ENOENT;
	report("devices of the host", access("/dev/mem", F_OK) == 0 || access("/dev/kmsg", F_OK) == 0 || access("/dev/fuse", F_OK) == 0);
}

int main(int argc, char **argv)
{
	if (argc != 9)
		return 2;
	struct stat st;
	char host[64] = "";
	gethostname(host, sizeof host - 1);
	if (strcmp(host, "pdibuild") != 0) {
		fprintf(stderr, "reach: this is not a step of pdibuild\n");
		return 2;
	}
	errno = 0;
	report("a file of the host", stat(argv[1], &st) == 0);
	writing();
	mounting();
	others(atoi(argv[3]));
	descriptors(argv[1]);
	calls(argv[4]);
	sockets(argv[2], atoi(argv[5]));
	queues(atoi(argv[6]), argv[7]);
	loopback(atoi(argv[8]));
	return 0;
}
