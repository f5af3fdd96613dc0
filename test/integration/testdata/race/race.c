/*
 * The two sides of the race for mount points, both run as a step:
 *
 *   race flip DIR SECONDS   exchanges DIR/sub and the link DIR/lnk all the time
 *                           and removes what appears in the directory
 *   race make DIR TARGET    makes the directory, and the link to TARGET
 *   race none               does nothing
 *
 * It changes nothing but DIR, which is a cache mount.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Whichever of the two is the directory: links are not followed. */
static void clean(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return;
	DIR *d = fdopendir(fd);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) != 0)
			unlinkat(fd, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return 0;
	if (argc != 4)
		return 2;
	if (strcmp(argv[1], "make") == 0)
		return chdir(argv[2]) != 0 || mkdir("sub", 0755) != 0 || symlink(argv[3], "lnk") != 0;
	int dir = open(argv[2], O_RDONLY | O_DIRECTORY);
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	time_t end = now.tv_sec + atoi(argv[3]);
	long exchanges = 0;
	while (now.tv_sec < end) {
		for (int i = 0; i < 64; i++)
			exchanges += renameat2(dir, "sub", dir, "lnk", RENAME_EXCHANGE) == 0;
		clean(dir, "sub");
		clean(dir, "lnk");
		clock_gettime(CLOCK_MONOTONIC, &now);
	}
	printf("exchanges %ld\n", exchanges);
	return 0;
}
