/* SPDX-License-Identifier: Apache-2.0 */
#include "host/crashes.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 256 };

static int path_of(const char *dir, const char *name, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s/crashes/%s", dir, name);
	return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void describe(long long at, char *rest, char *ret, size_t room)
{
	time_t secs = (time_t)at;
	struct tm tm;
	char when[32];
	rest[strcspn(rest, "\n")] = '\0';
	char *space = strchr(rest, ' ');
	if (space) {
		*space = '\0';
	}
	gmtime_r(&secs, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(ret, room, "%s in %s, %s", rest, space ? space + 1 : "no callback", when);
}

/* Newer than the last crash: somebody has replaced it. */
static int is_newer(const char *module, long long at)
{
	struct stat st;
	return stat(module, &st) == 0 && st.st_ctime > at;
}

int crashes_too_many(
		const char *dir, const char *name, const char *module, char *ret_last, size_t room)
{
	char path[PATH_MAX], line[LINE_BYTES], last[LINE_BYTES] = "";
	long long at[CRASHES_OFF] = { 0 }; /* the latest, oldest first */
	size_t n = 0;
	FILE *f = path_of(dir, name, path) == 0 ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof(line), f)) {
		long long t;
		int used = 0;
		if (sscanf(line, "%lld %n", &t, &used) != 1 || !used) {
			continue;
		}
		memmove(at, at + 1, sizeof(at) - sizeof(at[0]));
		at[CRASHES_OFF - 1] = t;
		snprintf(last, sizeof(last), "%s", line + used);
		n++;
	}
	if (f) {
		fclose(f);
	}
	long long span = at[CRASHES_OFF - 1] - at[0];
	if (n < CRASHES_OFF || span < 0 || span > CRASHES_WITHIN_S ||
			is_newer(module, at[CRASHES_OFF - 1])) {
		return 0;
	}
	describe(at[CRASHES_OFF - 1], last, ret_last, room);
	return 1;
}

int crashes_forget(const char *dir, const char *name)
{
	char path[PATH_MAX];
	int rc = path_of(dir, name, path);
	return rc < 0 ? rc : unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
