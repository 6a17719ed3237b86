/* SPDX-License-Identifier: Apache-2.0 */
#include "host/place.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_one(const char *path, char *why, size_t room)
{
	struct stat st;
	if (stat(path, &st) < 0) {
		snprintf(why, room, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		snprintf(why, room,
				"%s belongs to user %u: it must be root's or user %u's, whom chatd runs as; chown it",
				path, (unsigned)st.st_uid, (unsigned)geteuid());
		return -1;
	}
	if (st.st_mode & (S_IWGRP | S_IWOTH)) {
		snprintf(why, room, "%s is writable by group or others; chmod go-w it", path);
		return -1;
	}
	return 0;
}

/* A link inside the folder is fine: versions that change by one rename are done so. */
static int check_inside(const char *dir, const char *path, const char *real, char *why, size_t room)
{
	char *top = realpath(dir, NULL);
	size_t n = top ? strlen(top) : 0;
	int inside = top && strncmp(real, top, n) == 0 && (real[n] == '/' || (n && top[n - 1] == '/'));
	free(top);
	if (!inside) {
		snprintf(why, room,
				"%s is a link to %s, outside its folder; copy the file, or add that folder to "
				"server.plugin_path",
				path, real);
	}
	return inside ? 0 : -1;
}

int place_check(const char *dir, const char *path, char **ret_real, char *why, size_t room)
{
	char *real = realpath(path, NULL);
	if (!real) {
		snprintf(why, room, "%s: %s", path, strerror(errno));
		return -1;
	}
	char folder[PATH_MAX];
	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(real, '/') - real), real);
	if (check_inside(dir, path, real, why, room) < 0 || check_one(dir, why, room) < 0 ||
			check_one(folder[0] ? folder : "/", why, room) < 0 || check_one(real, why, room) < 0) {
		free(real);
		return -1;
	}
	*ret_real = real;
	return 0;
}
