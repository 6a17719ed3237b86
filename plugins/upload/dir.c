/* SPDX-License-Identifier: Apache-2.0 */
#include "dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void dir_path(const struct dir *d, const char *part, const char *name, char ret[DIR_PATH])
{
	snprintf(ret, DIR_PATH, "%s/%s/%s", d->root, part, name);
}

static chatd_status make(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static chatd_status sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	chatd_status rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
	close(fd);
	return rc;
}

chatd_status dir_open(struct dir *d)
{
	static const char *const parts[] = { "tmp", "tus", "objects" };
	char path[DIR_PATH];
	chatd_status rc = make(d->root);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && rc == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", d->root, parts[i]);
		rc = make(path);
	}
	return rc < 0 ? rc : sync_folder(d->root);
}

int dir_temp(const struct dir *d, const char *name)
{
	char path[DIR_PATH];
	dir_path(d, "tmp", name, path);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

void dir_object(const char hash[DIR_HASH + 1], const unsigned char random[8], char ret[DIR_OBJECT])
{
	int n = snprintf(ret, DIR_OBJECT, "%.2s/%s.", hash, hash);
	for (size_t i = 0; i < 8; i++) {
		n += snprintf(ret + n, DIR_OBJECT - (size_t)n, "%02x", random[i]);
	}
}

chatd_status dir_commit(const struct dir *d, const char *path, const char *object)
{
	char folder[DIR_PATH], to[DIR_PATH];
	snprintf(folder, sizeof(folder), "%s/objects/%.2s", d->root, object);
	dir_path(d, "objects", object, to);
	chatd_status rc = make(folder);
	if (rc == 0 && rename(path, to) < 0) {
		rc = -errno;
	}
	rc = rc < 0 ? rc : sync_folder(folder);
	if (rc == 0) {
		snprintf(folder, sizeof(folder), "%s/objects", d->root);
		rc = sync_folder(folder);
	}
	return rc;
}

int dir_read(const struct dir *d, const char *object)
{
	char path[DIR_PATH];
	dir_path(d, "objects", object, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

chatd_status dir_remove(const struct dir *d, const char *object)
{
	char path[DIR_PATH];
	dir_path(d, "objects", object, path);
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The regular files of a folder that nobody has touched since. */
static chatd_status each_old(
		const char *folder, int64_t before, int (*fn)(void *arg, const char *name), void *arg)
{
	DIR *dir = opendir(folder);
	struct dirent *e;
	struct stat st;
	if (!dir) {
		return errno == ENOENT ? 0 : -errno;
	}
	while ((e = readdir(dir))) {
		if (e->d_name[0] != '.' && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
				S_ISREG(st.st_mode) && st.st_mtime < before && fn(arg, e->d_name)) {
			break;
		}
	}
	closedir(dir);
	return 0;
}

struct listing {
	int (*found)(void *arg, const char *object);
	void *arg;
	int hh;
};

static int one_object(void *arg, const char *name)
{
	const struct listing *l = arg;
	char object[DIR_PATH];
	snprintf(object, sizeof(object), "%02x/%.300s", l->hh, name);
	return l->found(l->arg, object);
}

chatd_status dir_list(const struct dir *d, int hh, int64_t before,
		int (*found)(void *arg, const char *object), void *arg)
{
	char folder[DIR_PATH];
	struct listing l = { found, arg, hh };
	snprintf(folder, sizeof(folder), "%s/objects/%02x", d->root, hh);
	return each_old(folder, before, one_object, &l);
}

struct sweeping {
	const struct dir *d;
	const char *part;
	int64_t n;
};

static int one_old(void *arg, const char *name)
{
	struct sweeping *s = arg;
	char path[DIR_PATH];
	dir_path(s->d, s->part, name, path);
	s->n += unlink(path) == 0;
	return 0;
}

int64_t dir_sweep(const struct dir *d, const char *part, int64_t before)
{
	char folder[DIR_PATH];
	struct sweeping s = { d, part, 0 };
	snprintf(folder, sizeof(folder), "%s/%s", d->root, part);
	each_old(folder, before, one_old, &s);
	return s.n;
}
